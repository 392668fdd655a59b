//! What the first bytes of a connection are.
//!
//! The answer never changes with how the bytes were cut: [`sniff`] says [`First::NeedMore`] until every continuation
//! gives the same answer. It looks at no more than [`SNIFF_BYTES_MAX`]. What a ClientHello says is read by `mesh-tls`.

/// Bytes after which a decision is always made.
pub const SNIFF_BYTES_MAX: usize = 8192;

/// The connection preface of HTTP/2 (RFC 9113, section 3.4).
pub const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Longest method that is taken for one.
const METHOD_BYTES_MAX: usize = 24;

/// What the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum First {
    /// An HTTP/1 request line.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// A TLS ClientHello's record.
    Tls,
    /// Something else.
    Other,
    /// Too few bytes to say.
    NeedMore,
}

/// Looks at the bytes received so far.
#[must_use]
pub fn sniff(bytes: &[u8]) -> First {
    match bytes.first() {
        None => First::NeedMore,
        Some(0x16) => tls_record(bytes),
        Some(_) if is_prefix(bytes, HTTP2_PREFACE) => First::NeedMore,
        Some(_) if bytes.starts_with(HTTP2_PREFACE) => First::Http2,
        Some(_) => request_line(bytes),
    }
}

fn is_prefix(bytes: &[u8], whole: &[u8]) -> bool {
    bytes.len() < whole.len() && whole.starts_with(bytes)
}

/// A handshake record that begins with a ClientHello (RFC 8446, section 5.1).
fn tls_record(bytes: &[u8]) -> First {
    let fits = |at: usize, fits: fn(u8) -> bool| bytes.get(at).is_none_or(|byte| fits(*byte));
    // Type, version 3.0 to 3.4, length up to 2^14, and the message's type.
    if !fits(1, |b| b == 3) || !fits(2, |b| b <= 4) || !fits(3, |b| b <= 0x40) || !fits(5, |b| b == 1) {
        return First::Other;
    }
    if bytes.len() < 6 { First::NeedMore } else { First::Tls }
}

/// `METHOD SP target SP HTTP/1.x`, to the end of the line. Text protocols have commands in capitals as well, so the
/// line is read whole, unless it is longer than we look.
fn request_line(bytes: &[u8]) -> First {
    let seen = &bytes[..bytes.len().min(SNIFF_BYTES_MAX)];
    let is_method = |b: &u8| b.is_ascii_uppercase() || matches!(b, b'-' | b'_');
    let method = seen.iter().take_while(|b| is_method(b)).count();
    if method > METHOD_BYTES_MAX {
        return First::Other;
    }
    let Some(after) = seen.get(method) else { return First::NeedMore };
    if method == 0 || *after != b' ' {
        return First::Other;
    }
    let line = match seen.iter().position(|&b| b == b'\n') {
        Some(end) => &seen[..end],
        None if seen.len() < SNIFF_BYTES_MAX => return First::NeedMore,
        // No other text protocol has lines of this length with a path in them; the parser will set the limit.
        None if seen.get(method + 1) == Some(&b'/') => return First::Http1,
        None => return First::Other,
    };
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let ends_well = [&b" HTTP/1.1"[..], b" HTTP/1.0"].iter().any(|version| line.ends_with(version));
    if ends_well && line.len() > method + " HTTP/1.1".len() + 1 { First::Http1 } else { First::Other }
}

#[cfg(test)]
mod tests;
