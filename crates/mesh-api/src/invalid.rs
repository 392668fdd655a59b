//! Why a message is not a configuration value.

use std::fmt;

/// A field that does not hold what it must, with its path within the message (`http[2].matches[0].path`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Path of the field; empty is the message itself.
    pub field: String,
    /// What is wrong with it.
    pub why: String,
}

impl Invalid {
    /// An error of the value at hand.
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self { field: String::new(), why: why.into() }
    }

    /// The same error, seen from the message that holds the value in `field`.
    pub(crate) fn within(mut self, field: impl fmt::Display) -> Self {
        self.field = match self.field.chars().next() {
            None => field.to_string(),
            Some('[') => format!("{field}{}", self.field),
            Some(_) => format!("{field}.{}", self.field),
        };
        self
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => f.write_str(&self.why),
            field => write!(f, "{field}: {}", self.why),
        }
    }
}

impl std::error::Error for Invalid {}
