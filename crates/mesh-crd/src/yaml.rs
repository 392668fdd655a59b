//! YAML text to JSON values with positions, and values to YAML: the one module that knows the YAML libraries.
//!
//! Reading composes saphyr-parser's events, because one pass then yields the value *and* the line of every field,
//! and because limits (size, depth, what aliases unfold to) are held while reading. Scalars follow YAML 1.2's core
//! schema plus Kubernetes' `0644` octal; `yes` and `on` stay strings. A key that occurs twice is an error, as for
//! the API server. Writing is serde-saphyr's.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};
use serde_json::{Map, Number, Value};

use crate::path;
use crate::position::{Position, Positions};

/// The deepest nesting of maps and lists that is read.
pub const DEPTH_MAX: usize = 64;
/// The most nodes that one document may have, aliases unfolded.
pub const NODES_MAX: usize = 200_000;
/// The most bytes of text that one document may come to: its words, aliases unfolded, and the paths of its fields.
pub const TEXT_BYTES_MAX: usize = 64 << 20;

/// Why a text is not YAML that we read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlError {
    /// Where, if the parser knew.
    pub position: Option<Position>,
    /// What is wrong.
    pub message: String,
}

/// Reads one document. An empty document is [`Value::Null`]. `first_line` is the line of the text's first line in its
/// file (1 for a whole file); all positions count from there.
pub fn read(text: &str, first_line: u32) -> Result<(Value, Positions), YamlError> {
    let mut composer = Composer {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        nodes: 0,
        bytes: 0,
        positions: Positions::default(),
        path: String::new(),
        line_offset: first_line.saturating_sub(1),
    };
    let value = composer.document()?;
    Ok((value, composer.positions))
}

/// Writes a value as YAML. The error is the serializer's (a value that YAML cannot hold does not exist in JSON).
pub fn write(value: &impl serde::Serialize) -> Result<String, String> {
    serde_saphyr::to_string(value).map_err(|error| error.to_string())
}

struct Composer<'t> {
    parser: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, Anchor>,
    nodes: usize,
    bytes: usize,
    positions: Positions,
    path: String,
    line_offset: u32,
}

/// A value that aliases repeat, and what each repetition costs.
#[derive(Clone)]
struct Anchor {
    value: Value,
    nodes: usize,
    bytes: usize,
}

impl<'t> Composer<'t> {
    fn document(&mut self) -> Result<Value, YamlError> {
        let mut document = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(document.unwrap_or(Value::Null)),
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
                _ if document.is_some() => return Err(self.error(span, "a second document begins without `---`")),
                event => document = Some(self.node(event, span, 0)?),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), YamlError> {
        match self.parser.next_event() {
            None => Ok((Event::StreamEnd, Span::default())),
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => {
                Err(YamlError { position: Some(self.place(*error.marker())), message: error.info().to_owned() })
            }
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Value, YamlError> {
        if depth > DEPTH_MAX {
            return Err(self.error(span, &format!("nested deeper than {DEPTH_MAX} levels")));
        }
        self.count(1, span)?;
        let (nodes_before, bytes_before) = (self.nodes, self.bytes);
        let (value, anchor) = match event {
            Event::Alias(id) => {
                let found = self.anchors.get(&id).map(|anchor| (anchor.nodes, anchor.bytes));
                let (nodes, bytes) = found.ok_or_else(|| self.error(span, "an alias to something that contains it"))?;
                self.count(nodes, span)?;
                self.count_text(bytes, span)?;
                (self.anchors.get(&id).map_or(Value::Null, |anchor| anchor.value.clone()), 0)
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count_text(text.len(), span)?;
                let tag = tag.filter(|tag| tag.is_yaml_core_schema()).map(|tag| tag.suffix.clone());
                (scalar(&text, style, tag.as_deref()), anchor)
            }
            Event::SequenceStart(anchor, _) => (self.sequence(depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.mapping(depth)?, anchor),
            _ => return Err(self.error(span, "the document ends in the middle of a value")),
        };
        if anchor > 0 {
            let (nodes, bytes) = (self.nodes - nodes_before, self.bytes - bytes_before);
            // The copy that is kept costs as much as one repetition.
            self.count_text(bytes, span)?;
            self.anchors.insert(anchor, Anchor { value: value.clone(), nodes, bytes });
        }
        Ok(value)
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, YamlError> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(Value::Array(items));
            }
            let length = self.path.len();
            path::push_index(&mut self.path, items.len());
            self.count_text(self.path.len(), span)?;
            self.positions.insert(&self.path, self.place(span.start));
            items.push(self.node(event, span, depth + 1)?);
            self.path.truncate(length);
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, YamlError> {
        let mut fields = Map::new();
        let mut merged: Vec<Map<String, Value>> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                for (key, value) in merged.into_iter().flatten() {
                    fields.entry(key).or_insert(value);
                }
                return Ok(Value::Object(fields));
            }
            let is_merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
            let key = match event {
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(self.error(span, "the key of a map must be a plain word or a string")),
            };
            let length = self.path.len();
            path::push_key(&mut self.path, &key);
            self.count_text(self.path.len(), span)?;
            self.positions.insert(&self.path, self.place(span.start));
            let (event, value_span) = self.next()?;
            let value = self.node(event, value_span, depth + 1)?;
            self.path.truncate(length);
            match value {
                Value::Object(map) if is_merge => merged.push(map),
                Value::Array(maps) if is_merge => {
                    merged.extend(maps.into_iter().filter_map(|map| match map {
                        Value::Object(map) => Some(map),
                        _ => None,
                    }));
                }
                _ if fields.contains_key(&key) => {
                    return Err(self.error(span, &format!("the key {key:?} occurs twice in one map")));
                }
                value => drop(fields.insert(key, value)),
            }
        }
    }

    fn count(&mut self, nodes: usize, span: Span) -> Result<(), YamlError> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX {
            return Err(self.error(span, &format!("the document has more than {NODES_MAX} values")));
        }
        Ok(())
    }

    fn count_text(&mut self, bytes: usize, span: Span) -> Result<(), YamlError> {
        self.bytes += bytes;
        if self.bytes > TEXT_BYTES_MAX {
            return Err(self.error(span, &format!("the document comes to more than {TEXT_BYTES_MAX} bytes")));
        }
        Ok(())
    }

    fn error(&self, span: Span, message: &str) -> YamlError {
        YamlError { position: Some(self.place(span.start)), message: message.to_owned() }
    }

    fn place(&self, marker: saphyr_parser::Marker) -> Position {
        let line = u32::try_from(marker.line()).unwrap_or(u32::MAX).saturating_add(self.line_offset);
        Position { line, column: u32::try_from(marker.col()).unwrap_or(u32::MAX).saturating_add(1) }
    }
}

/// The value of a scalar: quoted or tagged `!!str` is a string, plain follows the core schema.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&str>) -> Value {
    if style != ScalarStyle::Plain || tag == Some("str") {
        return Value::String(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

/// A plain scalar as a number, or none where it is a word. Infinities and NaN stay words: JSON has none.
fn number(text: &str) -> Option<Number> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let radix = |digits: &str, radix| Some(Number::from(sign * i64::from_str_radix(digits, radix).ok()?));
    if !digits.bytes().next().is_some_and(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    if let Some(hex) = digits.strip_prefix("0x") {
        return radix(hex, 16);
    }
    if let Some(octal) = digits.strip_prefix("0o") {
        return radix(octal, 8);
    }
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        if digits.len() > 1 && digits.starts_with('0') {
            return radix(digits, 8).or_else(|| digits.parse::<u64>().ok().map(Number::from));
        }
        if let Ok(whole) = text.trim_start_matches('+').parse::<i64>() {
            return Some(Number::from(whole));
        }
        if let Ok(whole) = digits.parse::<u64>() {
            return (sign > 0).then(|| Number::from(whole));
        }
    }
    let is_float = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    let is_float = is_float && digits.bytes().any(|b| b.is_ascii_digit());
    is_float.then(|| text.parse().ok().and_then(Number::from_f64)).flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(text: &str, want: Value) {
        let value = read(text, 1).map(|(value, _)| value);
        assert_eq!(value, Ok(want), "{text}");
    }

    #[test]
    fn scalars_follow_the_core_schema() {
        check(
            "[a, 1, -2, 1.5, 0x10, 0644, true, yes, on, null, ~, '1', \"true\", 1e3]",
            json!(["a", 1, -2, 1.5, 16, 420, true, "yes", "on", null, null, "1", "true", 1000.0]),
        );
        check("v: 1.2.3", json!({"v": "1.2.3"}));
        check("v: 5s", json!({"v": "5s"}));
        check("v: 10.0.0.1", json!({"v": "10.0.0.1"}));
        check("v: !!str 5", json!({"v": "5"}));
        check("v: .", json!({"v": "."}));
        check("v: 2026-01-02", json!({"v": "2026-01-02"}));
        check("{\"a\": {\"b\": [1, \"x\\n\"]}}", json!({"a": {"b": [1, "x\n"]}}));
        check("a: |\n  x\n  y\n", json!({"a": "x\ny\n"}));
    }

    #[test]
    fn anchors_and_merge_keys_unfold() {
        check(
            "a: &x {k: 1, l: 2}\nb: *x\nc:\n  <<: *x\n  k: 3\n",
            json!({
                "a": {"k": 1, "l": 2}, "b": {"k": 1, "l": 2}, "c": {"k": 3, "l": 2}
            }),
        );
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            let before = n - 1;
            text.push_str(&format!("a{n}: &a{n} [{}]\n", vec![format!("*a{before}"); 10].join(", ")));
        }
        assert!(read(&text, 1).is_err_and(|error| error.message.contains("more than")));
    }

    #[test]
    fn text_is_bounded_however_it_is_repeated() {
        let word = "x".repeat(1 << 20);
        let aliases = format!("a: &a {word}\nb: [{}]\n", vec!["*a"; 200].join(", "));
        assert!(read(&aliases, 1).is_err_and(|error| error.message.contains("bytes")));
        let merged = format!("a: &a {{k: {word}}}\nb: [{}]\n", vec!["*a"; 200].join(", "));
        assert!(read(&merged, 1).is_err_and(|error| error.message.contains("bytes")));
        // Every place below a long key is remembered under it.
        let below = format!("? {word}\n: [{}]\n", vec!["1"; 200].join(", "));
        assert!(read(&below, 1).is_err_and(|error| error.message.contains("bytes")));
        assert!(read(&format!("a: &a {word}\nb: [*a, *a]\n"), 1).is_ok());
    }

    #[test]
    fn depth_is_bounded() {
        let text = "[".repeat(10_000);
        assert!(read(&text, 1).is_err());
        let nested = |depth| format!("{}x{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(&nested(60), 1).is_ok());
        assert!(read(&nested(80), 1).is_err_and(|error| error.message.contains("nested deeper")));
    }

    #[test]
    fn positions_and_errors_name_the_line() {
        let (_, positions) = read("a:\n  b:\n  - c: 1\n    d: 2\n", 11).unwrap();
        assert_eq!(positions.find("a.b[0].d"), Some(Position { line: 14, column: 5 }));
        assert_eq!(positions.find("a.b[0].nothing.here"), Some(Position { line: 13, column: 5 }));
        let error = read("a: 1\nb: [1, 2\nc: 3\n", 1).unwrap_err();
        assert!(error.position.is_some(), "{error:?}");
        let error = read("a: 1\na: 2\n", 1).unwrap_err();
        assert_eq!(error.position, Some(Position { line: 2, column: 1 }));
    }
}
