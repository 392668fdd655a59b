//! Durations as people write them in mesh resources: `5s`, `0.5s`, `10ms`, `1h30m`.
//!
//! Protobuf's JSON mapping only knows seconds (`"1.5s"`), Istio's documentation also uses Go's units; both are read.

use std::time::Duration;

/// Nanoseconds in each unit, longest names first so that `ms` is not read as `m`.
const UNITS: [(&str, u128); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// The longest duration that is accepted (protobuf's own limit, in seconds).
const SECONDS_MAX: u128 = 315_576_000_000;

/// Reads a duration; the error says what is wrong with it. Negative durations are refused: no mesh field means one.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration such as \"5s\", \"0.5s\", \"10ms\" or \"1h30m\"");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.starts_with('-') {
        return Err(format!("the duration {text:?} is negative"));
    }
    let mut rest = text;
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, after) = rest.split_at(number_len);
        let (name, unit) = UNITS.iter().find(|(name, _)| after.starts_with(name)).ok_or_else(wrong)?;
        nanos = nanos.checked_add(scaled(number, *unit).ok_or_else(wrong)?).ok_or_else(wrong)?;
        rest = &after[name.len()..];
    }
    if text.is_empty() {
        return Err(wrong());
    }
    if nanos / 1_000_000_000 > SECONDS_MAX {
        return Err(format!("the duration {text:?} is longer than {SECONDS_MAX} s"));
    }
    Ok(Duration::new((nanos / 1_000_000_000) as u64, (nanos % 1_000_000_000) as u32))
}

/// `number` (digits with at most one point) times `unit`, in nanoseconds; digits below 1 ns are cut.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || whole.len() > 18 {
        return None;
    }
    let mut nanos = if whole.is_empty() { 0 } else { whole.parse::<u128>().ok()?.checked_mul(unit)? };
    let mut scale = unit;
    for digit in fraction.bytes() {
        scale /= 10;
        nanos += u128::from(digit - b'0') * scale;
    }
    Some(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_fractions_and_sums() {
        let check = |text: &str, want: Duration| assert_eq!(parse(text), Ok(want), "{text}");
        check("5s", Duration::from_secs(5));
        check("0.5s", Duration::from_millis(500));
        check("1.000000001s", Duration::new(1, 1));
        check("10ms", Duration::from_millis(10));
        check("1h30m", Duration::from_secs(5400));
        check("0s", Duration::ZERO);
        check("0", Duration::ZERO);
        check("1.5h", Duration::from_secs(5400));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "5", "s", "-1s", "5 s", "1.2.3s", "5x", ".s", "999999999999999999h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
