//! Kubernetes quantities: whether a text is one, and how many CPUs it is.

/// Longest quantity that anyone needs, in bytes.
const QUANTITY_BYTES_MAX: usize = 32;

/// Whether `text` is a quantity of something that cannot be negative (`100m`, `1.5`, `128Mi`, `2e3`).
pub(crate) fn is_valid(text: &str) -> bool {
    split(text).is_some()
}

/// Whole CPUs, rounded up and at least one, as the number of workers that a limit allows.
pub(crate) fn whole_cpus(text: &str) -> Option<u64> {
    let (number, factor) = split(text)?;
    Some((number * factor).ceil().clamp(1.0, 4096.0) as u64)
}

fn split(text: &str) -> Option<(f64, f64)> {
    if text.len() > QUANTITY_BYTES_MAX {
        return None;
    }
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    if !number.bytes().any(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: f64 = number.parse().ok()?;
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024f64.powi(2),
        "Gi" => 1024f64.powi(3),
        "Ti" => 1024f64.powi(4),
        "Pi" => 1024f64.powi(5),
        "Ei" => 1024f64.powi(6),
        exponent => 10f64.powi(exponent_of(exponent)?),
    };
    Some((number, factor))
}

fn exponent_of(suffix: &str) -> Option<i32> {
    let digits = suffix.strip_prefix(['e', 'E'])?;
    let plain = digits.strip_prefix(['+', '-']).unwrap_or(digits);
    if plain.is_empty() || plain.len() > 2 || !plain.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_told_from_other_text() {
        for good in ["0", "1", "100m", "1.5", ".5", "2.", "128Mi", "1Gi", "2e3", "1E+3", "1E", "5k"] {
            assert!(is_valid(good), "{good}");
        }
        for bad in ["", "m", ".", "1.2.3", "-1", "1 ", " 1", "1mi", "1Gb", "1e", "1e+", "1e100", "1\n", "{{1}}", "1١"]
        {
            assert!(!is_valid(bad), "{bad:?}");
        }
    }

    #[test]
    fn cpus_are_rounded_up() {
        assert_eq!(whole_cpus("2"), Some(2));
        assert_eq!(whole_cpus("2500m"), Some(3));
        assert_eq!(whole_cpus("100m"), Some(1));
        assert_eq!(whole_cpus("0"), Some(1));
        assert_eq!(whole_cpus("lots"), None);
    }
}
