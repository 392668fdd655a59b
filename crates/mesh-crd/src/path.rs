//! Field paths: how a place inside an object is written, e.g. `spec.http[0].match[1].uri`.
//!
//! Issues, compiler problems and the position index all use this one notation, so that they can be joined.

/// Appends a field or map key to `path`: `.key`, or `["a.b/c"]` where the key is not a plain word.
pub fn push_key(path: &mut String, key: &str) {
    let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if !plain {
        path.push_str(&format!("[{key:?}]"));
        return;
    }
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}

/// Appends a list index to `path`: `[3]`.
pub fn push_index(path: &mut String, index: usize) {
    path.push_str(&format!("[{index}]"));
}

/// The path of the thing that contains `path`, or none for the root.
pub fn parent(path: &str) -> Option<&str> {
    if path.is_empty() {
        return None;
    }
    if path.ends_with("\"]") {
        return Some(path.rfind("[\"").map_or("", |at| &path[..at]));
    }
    Some(path.rfind(['.', '[']).map_or("", |at| &path[..at]))
}

/// Whether `path` is `ancestor` or lies inside it.
pub fn is_within(path: &str, ancestor: &str) -> bool {
    match path.strip_prefix(ancestor) {
        Some(rest) => rest.is_empty() || ancestor.is_empty() || rest.starts_with(['.', '[']),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_and_ancestors() {
        assert_eq!(parent("spec.http[0].match"), Some("spec.http[0]"));
        assert_eq!(parent("spec.http[0]"), Some("spec.http"));
        assert_eq!(parent("metadata.labels[\"a.b/c\"]"), Some("metadata.labels"));
        assert_eq!(parent("spec"), Some(""));
        assert_eq!(parent(""), None);
        assert!(is_within("spec.http[0].match", "spec.http[0]"));
        assert!(!is_within("spec.http[01]", "spec.http[0]"));
        assert!(!is_within("spec.https", "spec.http"));
        assert!(is_within("spec", ""));
    }
}
