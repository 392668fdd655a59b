//! A request's head as decisions see it: borrowed, so that looking costs nothing.
//!
//! The proxy keeps heads in its own types; this crate must not know them. [`Headers`] is the seam.

use smallvec::SmallVec;

/// Bytes of joined header values that are kept without allocating.
const JOINED_INLINE: usize = 256;

/// Access to a head's fields.
pub trait Headers {
    /// Calls `each` with every value of the field `name` (lower case), in the order received. Absent: never called.
    fn visit<'h>(&'h self, name: &str, each: &mut dyn FnMut(&'h [u8]));
}

/// A request's head.
#[derive(Clone, Copy)]
pub struct RequestHead<'a> {
    /// As sent; case matters.
    pub method: &'a str,
    /// Normalized ([`crate::path::normalize`]), without query. `*` for `OPTIONS *`, empty for `CONNECT`.
    pub path: &'a str,
    /// What follows `?`, undecoded.
    pub query: Option<&'a str>,
    /// Host or `:authority`, as sent.
    pub authority: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The fields.
    pub headers: &'a dyn Headers,
}

impl<'a> RequestHead<'a> {
    /// All values of a field. `host` is the authority, and pseudo-fields are what they stand for (`:path` with its
    /// query), wherever the proxy keeps them: a condition on `host` must not find nothing.
    #[must_use]
    pub fn field(&self, name: &str) -> Joined<'a> {
        match name {
            ":authority" | "host" => Joined::One(self.authority.as_bytes()),
            ":method" => Joined::One(self.method.as_bytes()),
            ":scheme" => Joined::One(self.scheme.as_bytes()),
            ":path" => match self.query {
                None => Joined::One(self.path.as_bytes()),
                Some(query) => {
                    let mut all = SmallVec::from_slice(self.path.as_bytes());
                    all.push(b'?');
                    all.extend_from_slice(query.as_bytes());
                    Joined::Many(all)
                }
            },
            _ => Joined::of(self.headers, name),
        }
    }
}

impl std::fmt::Debug for RequestHead<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}://{}{}", self.method, self.scheme, self.authority, self.path)
    }
}

/// All values of a field as one: several are joined with `,` (RFC 9110, section 5.3), so that no condition sees only
/// the first of them.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it lives on the stack for one comparison, where a box would allocate")]
pub enum Joined<'h> {
    /// No such field.
    Absent,
    /// One value, not copied.
    One(&'h [u8]),
    /// Several, joined.
    Many(SmallVec<[u8; JOINED_INLINE]>),
}

impl<'h> Joined<'h> {
    /// Looks the field up.
    #[must_use]
    pub fn of(headers: &'h dyn Headers, name: &str) -> Self {
        let mut joined = Self::Absent;
        headers.visit(name, &mut |value| match &mut joined {
            Self::Absent => joined = Self::One(value),
            Self::One(first) => {
                let mut all = SmallVec::from_slice(first);
                all.push(b',');
                all.extend_from_slice(value);
                joined = Self::Many(all);
            }
            Self::Many(all) => {
                all.push(b',');
                all.extend_from_slice(value);
            }
        });
        joined
    }

    /// The value, if there is one.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Absent => None,
            Self::One(value) => Some(value),
            Self::Many(all) => Some(all),
        }
    }
}

/// Fields as pairs, compared without case: what tests and `meshctl` have.
impl Headers for [(&str, &str)] {
    fn visit<'h>(&'h self, name: &str, each: &mut dyn FnMut(&'h [u8])) {
        self.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).for_each(|(_, value)| each(value.as_bytes()));
    }
}

impl<const N: usize> Headers for [(&str, &str); N] {
    fn visit<'h>(&'h self, name: &str, each: &mut dyn FnMut(&'h [u8])) {
        self.as_slice().visit(name, each);
    }
}

impl Headers for Vec<(String, String)> {
    fn visit<'h>(&'h self, name: &str, each: &mut dyn FnMut(&'h [u8])) {
        self.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).for_each(|(_, value)| each(value.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_header_is_found_by_its_name_too() {
        let headers = [("host", "kept elsewhere"), ("a", "b")];
        let query = Some("q=1");
        let head =
            RequestHead { method: "GET", path: "/p", query, authority: "h:1", scheme: "http", headers: &headers };
        for (name, value) in
            [("host", "h:1"), (":authority", "h:1"), (":method", "GET"), (":path", "/p?q=1"), ("a", "b")]
        {
            assert_eq!(head.field(name).as_bytes(), Some(value.as_bytes()), "{name}");
        }
        assert_eq!(RequestHead { query: None, ..head }.field(":path").as_bytes(), Some(&b"/p"[..]));
    }

    #[test]
    fn all_values_of_a_field_count() {
        let headers = [("X-User", "a"), ("other", "z"), ("x-user", "b"), ("x-user", "c")];
        assert_eq!(Joined::of(&headers, "x-user").as_bytes(), Some(&b"a,b,c"[..]));
        assert_eq!(Joined::of(&headers, "other").as_bytes(), Some(&b"z"[..]));
        assert_eq!(Joined::of(&headers, "none").as_bytes(), None);
    }
}
