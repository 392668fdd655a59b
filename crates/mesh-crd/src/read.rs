//! Reading typed messages from JSON values, by protobuf's JSON rules, without ever giving up on the whole object.
//!
//! serde stops at the first error and forgets unknown fields unless asked to fail on them; a mesh must do neither:
//! one tenant's typing error spoils that field only, and must be reported with its path. So each type implements
//! [`Read`], which always answers (with the default where a value has the wrong shape) and records an [`Issue`].
//! Indexes of list elements are kept, so that paths made later by the compiler name the same element.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::{duration, path};

/// The most issues that are kept per object; one more marks the whole object as spoiled.
const ISSUES_MAX: usize = 64;

/// The most letters in which a misspelt name may differ from the one that is suggested.
const MISSPELT_MAX: usize = 2;
/// The longest name that is looked at for suggestions, in bytes.
const SUGGESTION_BYTES_MAX: usize = 64;

/// What kind of thing is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IssueKind {
    /// The field is none that this kind has.
    Unknown,
    /// The value cannot be what the field needs.
    Invalid,
}

/// Something in an object that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Issue {
    /// Where, e.g. `spec.http[0].timeout`.
    pub path: String,
    /// Unknown or invalid.
    pub kind: IssueKind,
    /// What is wrong, as a sentence without the path.
    pub message: String,
}

/// All issues of one object, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issues(Vec<Issue>);

impl Issues {
    /// The issues, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Issue> {
        self.0.iter()
    }

    /// Whether everything could be read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The issues as a slice.
    pub fn as_slice(&self) -> &[Issue] {
        &self.0
    }

    pub(crate) fn append(&mut self, other: Issues) {
        self.0.extend(other.0);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The first issue at or inside `at`, or of something that contains it.
    pub fn touching(&self, at: &str) -> Option<&Issue> {
        self.0.iter().find(|issue| path::is_within(&issue.path, at) || self.spoils(issue, at))
    }

    fn spoils(&self, issue: &Issue, at: &str) -> bool {
        issue.kind == IssueKind::Invalid && path::is_within(at, &issue.path)
    }
}

impl<'a> IntoIterator for &'a Issues {
    type Item = &'a Issue;
    type IntoIter = std::slice::Iter<'a, Issue>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// Where the reading stands and what it has met.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    path: String,
    issues: Vec<Issue>,
}

impl Reader {
    /// A reader that stands at `path`.
    pub(crate) fn at(path: &str) -> Reader {
        Reader { path: path.to_owned(), issues: Vec::new() }
    }

    /// Runs `read` inside the field or map entry `key`.
    pub(crate) fn in_key<R>(&mut self, key: &str, read: impl FnOnce(&mut Reader) -> R) -> R {
        let length = self.path.len();
        path::push_key(&mut self.path, key);
        let result = read(self);
        self.path.truncate(length);
        result
    }

    fn in_index<R>(&mut self, index: usize, read: impl FnOnce(&mut Reader) -> R) -> R {
        let length = self.path.len();
        path::push_index(&mut self.path, index);
        let result = read(self);
        self.path.truncate(length);
        result
    }

    /// Records that the value here is not usable.
    pub(crate) fn invalid(&mut self, message: impl Into<String>) {
        self.record(IssueKind::Invalid, self.path.clone(), message.into());
    }

    /// Records that the message here, which has `fields`, has no field `key`.
    pub(crate) fn unknown(&mut self, key: &str, fields: &[&str]) {
        let mut path = self.path.clone();
        path::push_key(&mut path, key);
        let distance = |field: &&str| distance(key, &camel(field).collect::<String>());
        let nearest = fields.iter().min_by_key(|field| distance(field)).filter(|field| distance(field) <= MISSPELT_MAX);
        let hint =
            nearest.map_or_else(String::new, |field| format!(" (there is {})", camel(field).collect::<String>()));
        self.record(IssueKind::Unknown, path, format!("there is no field {key:?} here{hint}"));
    }

    fn record(&mut self, kind: IssueKind, path: String, message: String) {
        if self.issues.len() < ISSUES_MAX {
            self.issues.push(Issue { path, kind, message });
        } else if self.issues.len() == ISSUES_MAX {
            // Whatever comes after is not remembered singly, so nothing of the object may be trusted.
            let message =
                format!("more than {ISSUES_MAX} fields could not be read; the whole object is treated as broken");
            self.issues.push(Issue { path: String::new(), kind: IssueKind::Invalid, message });
        }
    }

    /// The value as an object, or an issue.
    pub(crate) fn object<'v>(&mut self, value: &'v Value) -> Option<&'v Map<String, Value>> {
        let object = value.as_object();
        if object.is_none() {
            self.invalid(format!("expected an object, found {}", shape(value)));
        }
        object
    }

    /// What was met.
    pub(crate) fn into_issues(self) -> Issues {
        Issues(self.issues)
    }
}

/// A value that can be read from JSON; see the module's header for the rules.
pub(crate) trait Read: Sized {
    /// The value of a field that is absent or null.
    fn absent() -> Self;
    /// The value; what is wrong with it is recorded.
    fn read(value: &Value, reader: &mut Reader) -> Self;
}

/// A protobuf `oneof` inside a message: its members are fields of that message.
pub(crate) trait OneOf: Sized {
    /// The names of the members for messages, each with a comma and a space behind it.
    const MEMBERS: &'static str;
    /// The member named `key`, or none where `key` is no member of this oneof.
    fn read_member(key: &str, value: &Value, reader: &mut Reader) -> Option<Self>;
}

/// Whether `key`, in either case style, is the field that is declared as `field`.
pub(crate) fn same_name(key: &str, field: &str) -> bool {
    camel(key).eq(camel(field))
}

/// The characters of a name in lowerCamel style, whichever style it is written in.
fn camel(name: &str) -> impl Iterator<Item = char> + '_ {
    let mut upper = false;
    name.trim_end_matches('_').chars().filter_map(move |c| {
        if c == '_' {
            upper = true;
            return None;
        }
        Some(if std::mem::take(&mut upper) { c.to_ascii_uppercase() } else { c })
    })
}

/// In how many letters two names differ (Levenshtein); very long ones differ in everything.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > SUGGESTION_BYTES_MAX || b.len() > SUGGESTION_BYTES_MAX {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut before = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = before + usize::from(x != y);
            before = row[j + 1];
            row[j + 1] = replaced.min(before + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// What a value is, for messages.
pub(crate) fn shape(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(b) => format!("the boolean {b}"),
        Value::Number(n) => format!("the number {n}"),
        Value::String(s) => format!("the string {:?}", s.chars().take(60).collect::<String>()),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

impl Read for String {
    fn absent() -> Self {
        String::new()
    }
    fn read(value: &Value, reader: &mut Reader) -> Self {
        match value {
            Value::String(text) => text.clone(),
            other => {
                reader.invalid(format!("expected a string, found {} (quote it if it is meant as one)", shape(other)));
                String::new()
            }
        }
    }
}

impl Read for bool {
    fn absent() -> Self {
        false
    }
    fn read(value: &Value, reader: &mut Reader) -> Self {
        value.as_bool().unwrap_or_else(|| {
            reader.invalid(format!("expected true or false, found {}", shape(value)));
            false
        })
    }
}

impl Read for f64 {
    fn absent() -> Self {
        0.0
    }
    fn read(value: &Value, reader: &mut Reader) -> Self {
        let number = match value {
            Value::Number(n) => n.as_f64(),
            Value::String(s) => s.parse().ok(),
            _ => None,
        };
        number.filter(|n| n.is_finite()).unwrap_or_else(|| {
            reader.invalid(format!("expected a number, found {}", shape(value)));
            0.0
        })
    }
}

/// A whole number: protobuf's JSON also allows it as a string or as a float without a fraction.
fn whole(value: &Value) -> Option<i128> {
    match value {
        Value::Number(n) => n
            .as_i64()
            .map(i128::from)
            .or_else(|| n.as_u64().map(i128::from))
            .or_else(|| n.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 9e15).map(|f| f as i128)),
        Value::String(s) => s.parse().ok(),
        _ => None,
    }
}

macro_rules! read_integers {
    ($($integer:ty),*) => {$(
        impl Read for $integer {
            fn absent() -> Self {
                0
            }
            fn read(value: &Value, reader: &mut Reader) -> Self {
                whole(value).and_then(|n| <$integer>::try_from(n).ok()).unwrap_or_else(|| {
                    let (low, high) = (<$integer>::MIN, <$integer>::MAX);
                    reader.invalid(format!("expected a whole number from {low} to {high}, found {}", shape(value)));
                    0
                })
            }
        }
    )*};
}
read_integers!(u32, i32, i64, u64);

impl Read for Duration {
    fn absent() -> Self {
        Duration::ZERO
    }
    fn read(value: &Value, reader: &mut Reader) -> Self {
        let result = match value {
            Value::String(text) => duration::parse(text),
            other => Err(format!("expected a duration such as \"5s\", found {}", shape(other))),
        };
        result.unwrap_or_else(|message| {
            reader.invalid(message);
            Duration::ZERO
        })
    }
}

impl Read for Value {
    fn absent() -> Self {
        Value::Null
    }
    fn read(value: &Value, _: &mut Reader) -> Self {
        value.clone()
    }
}

impl<T: Read> Read for Option<T> {
    fn absent() -> Self {
        None
    }
    fn read(value: &Value, reader: &mut Reader) -> Self {
        Some(T::read(value, reader))
    }
}

impl<T: Read> Read for Box<T> {
    fn absent() -> Self {
        Box::new(T::absent())
    }
    fn read(value: &Value, reader: &mut Reader) -> Self {
        Box::new(T::read(value, reader))
    }
}

impl<T: Read> Read for Vec<T> {
    fn absent() -> Self {
        Vec::new()
    }
    fn read(value: &Value, reader: &mut Reader) -> Self {
        let Value::Array(items) = value else {
            reader.invalid(format!("expected a list, found {}", shape(value)));
            return Vec::new();
        };
        let element = |(index, item): (usize, &Value)| reader.in_index(index, |reader| T::read(item, reader));
        items.iter().enumerate().map(element).collect()
    }
}

impl<T: Read> Read for BTreeMap<String, T> {
    fn absent() -> Self {
        BTreeMap::new()
    }
    fn read(value: &Value, reader: &mut Reader) -> Self {
        let Some(entries) = reader.object(value) else { return BTreeMap::new() };
        let entry = |(key, item): (&String, &Value)| (key.clone(), reader.in_key(key, |reader| T::read(item, reader)));
        entries.iter().map(entry).collect()
    }
}

impl<T: Read> Read for BTreeMap<u32, T> {
    fn absent() -> Self {
        BTreeMap::new()
    }
    fn read(value: &Value, reader: &mut Reader) -> Self {
        let mut map = BTreeMap::new();
        for (key, item) in reader.object(value).into_iter().flatten() {
            reader.in_key(key, |reader| match key.parse() {
                Ok(number) => drop(map.insert(number, T::read(item, reader))),
                Err(_) => reader.invalid(format!("the key {key:?} must be a number")),
            });
        }
        map
    }
}

/// Declares a message: `struct Name { field: Type => "documentation", … }`, with `oneof { field: Enum => "…" }` for
/// groups of which at most one member may be set, and `as "name"` where the JSON name is not the field's in
/// lowerCamel. `trimmed struct` keeps silent about fields that it does not have (Kubernetes' own kinds).
macro_rules! message {
    ($(#[$meta:meta])* struct $($rest:tt)*) => { message!(@ true, $(#[$meta])* $($rest)*); };
    ($(#[$meta:meta])* trimmed struct $($rest:tt)*) => { message!(@ false, $(#[$meta])* $($rest)*); };
    (@ $strict:literal, $(#[$meta:meta])* $name:ident {
        $($field:ident $(as $json:literal)? : $type:ty => $doc:literal,)*
    } $(oneof { $($group:ident : $choice:ty => $group_doc:literal,)* })?) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name {
            $(#[doc = $doc] pub $field: $type,)*
            $($(#[doc = $group_doc] pub $group: Option<$choice>,)*)?
        }
        impl $crate::read::Read for $name {
            fn absent() -> Self {
                Self::default()
            }
            #[allow(unused_mut, unused_variables, clippy::needless_continue)]
            fn read(value: &serde_json::Value, reader: &mut $crate::read::Reader) -> Self {
                let mut out = Self::default();
                let Some(fields) = reader.object(value) else { return out };
                for (key, value) in fields {
                    if value.is_null() {
                        continue;
                    }
                    $(if message!(@name key, $field $(, $json)?) {
                        out.$field = reader.in_key(key, |reader| $crate::read::Read::read(value, reader));
                        continue;
                    })*
                    $($(if let Some(member) = <$choice as $crate::read::OneOf>::read_member(key, value, reader) {
                        if out.$group.is_some() {
                            let members = <$choice as $crate::read::OneOf>::MEMBERS.trim_end_matches(", ");
                            reader.invalid(format!("only one of {members} may be set"));
                        }
                        out.$group = Some(member);
                        continue;
                    })*)?
                    if $strict {
                        reader.unknown(key, &[$(message!(@text $field $(, $json)?)),*]);
                    }
                }
                out
            }
        }
    };
    (@text $field:ident) => { stringify!($field) };
    (@text $field:ident, $json:literal) => { $json };
    (@name $key:ident, $field:ident) => { $crate::read::same_name($key, stringify!($field)) };
    (@name $key:ident, $field:ident, $json:literal) => { $key == $json };
}

/// Declares a protobuf enum: `Variant = number "NAME" => "documentation"`; the first variant is the default.
macro_rules! enumeration {
    ($(#[$meta:meta])* enum $name:ident {
        $first:ident = $first_number:literal $first_text:literal => $first_doc:literal,
        $($variant:ident = $number:literal $text:literal => $doc:literal,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            #[doc = $first_doc] #[default] $first,
            $(#[doc = $doc] $variant,)*
        }
        impl $name {
            /// The name as it is written in resources.
            pub fn name(self) -> &'static str {
                match self { Self::$first => $first_text, $(Self::$variant => $text,)* }
            }
        }
        impl $crate::read::Read for $name {
            fn absent() -> Self {
                Self::default()
            }
            fn read(value: &serde_json::Value, reader: &mut $crate::read::Reader) -> Self {
                match (value.as_str(), value.as_i64()) {
                    (Some($first_text), _) | (_, Some($first_number)) => return Self::$first,
                    $((Some($text), _) | (_, Some($number)) => return Self::$variant,)*
                    _ => {}
                }
                let names: &[&str] = &[$first_text $(, $text)*];
                let found = $crate::read::shape(value);
                reader.invalid(format!("expected one of {}, found {found}", names.join(", ")));
                Self::default()
            }
        }
    };
}

/// Declares the members of a oneof: `Variant(Type) = "jsonName" => "documentation"`.
macro_rules! oneof {
    ($(#[$meta:meta])* enum $name:ident {
        $($variant:ident($type:ty) = $json:literal => $doc:literal,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub enum $name { $(#[doc = $doc] $variant($type),)* }
        impl $crate::read::OneOf for $name {
            const MEMBERS: &'static str = concat!($($json, ", "),*);
            fn read_member(
                key: &str,
                value: &serde_json::Value,
                reader: &mut $crate::read::Reader,
            ) -> Option<Self> {
                $(if $crate::read::same_name(key, $json) {
                    let value = reader.in_key(key, |reader| <$type as $crate::read::Read>::read(value, reader));
                    return Some(Self::$variant(value));
                })*
                None
            }
        }
    };
}
