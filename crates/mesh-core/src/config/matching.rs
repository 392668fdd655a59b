//! How configuration says "a text like this": the written forms. `crate::matching` holds the compiled ones.

/// A condition on a text (`StringMatch` of Istio's API). Regular expressions match the whole text, in linear time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StringMatch {
    /// Equal, byte for byte.
    Exact(String),
    /// Begins with.
    Prefix(String),
    /// The whole text matches (RE2 syntax as the `regex` crate takes it). The compiler has checked that it compiles.
    Regex(String),
    /// The text is there, whatever it is.
    Present,
}

/// A condition on a header. Several values of one header are joined with `,` before they are compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HeaderMatch {
    /// Lower case.
    pub name: String,
    /// What its value must be.
    pub value: StringMatch,
    /// `withoutHeaders`: the condition is inverted. A missing header is taken as empty and so passes.
    pub invert: bool,
}

/// A condition on a query parameter; of a repeated one, the first counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueryMatch {
    /// The parameter's name, after percent-decoding.
    pub name: String,
    /// What its value must be.
    pub value: StringMatch,
}

/// A host, or every host below a suffix. Lower case, no port, no trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// `*`.
    Any,
    /// `*.example.com`, kept as `.example.com`: one or more labels before it, never the apex.
    Suffix(String),
    /// `example.com`.
    Exact(String),
}
