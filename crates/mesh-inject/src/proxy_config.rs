//! The annotation `proxy.istio.io/config`: Istio's ProxyConfig as YAML, of which a few fields mean something here.

use serde_json::Value;

use crate::error::{Error, quote};
use crate::names::PROXY_CONFIG;

/// Longest text, in bytes: a quarter of what Kubernetes lets all annotations have together.
const BYTES_MAX: usize = 64 << 10;
/// The most workers that are believed.
const CONCURRENCY_MAX: u64 = 1024;

/// The fields that are acted on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProxyConfig {
    /// The number of the proxy's workers.
    pub(crate) concurrency: Option<u64>,
}

/// Reads the annotation; fields that are not acted on go into `warnings`.
pub(crate) fn read(text: &str, warnings: &mut Vec<String>) -> Result<ProxyConfig, Error> {
    let invalid = |problem: String| Error::Annotation { annotation: PROXY_CONFIG, value: quote(text), problem };
    if text.len() > BYTES_MAX {
        return Err(invalid(format!("is longer than {BYTES_MAX} bytes")));
    }
    let (value, _) =
        mesh_crd::yaml::read(text, 1).map_err(|error| invalid(format!("is not YAML: {}", error.message)))?;
    let fields = match value {
        Value::Null => return Ok(ProxyConfig::default()),
        Value::Object(fields) => fields,
        _ => return Err(invalid("must be a map of ProxyConfig's fields".into())),
    };
    let mut config = ProxyConfig::default();
    for (field, value) in &fields {
        match (field.as_str(), value) {
            ("concurrency", Value::Number(number)) => match number.as_u64() {
                Some(0) => warnings.push(format!(
                    "annotation '{PROXY_CONFIG}': concurrency 0 (all of the node's CPUs) is not acted on; the CPU limit decides"
                )),
                Some(number @ 1..=CONCURRENCY_MAX) => config.concurrency = Some(number),
                _ => return Err(invalid(format!("concurrency must be between 0 and {CONCURRENCY_MAX}"))),
            },
            ("concurrency", _) => return Err(invalid("concurrency must be a number".into())),
            // A native sidecar always starts first.
            ("holdApplicationUntilProxyStarts", Value::Bool(true)) => {}
            (other, _) => {
                let other = quote(other);
                warnings.push(format!("annotation '{PROXY_CONFIG}': field {other} is not acted on by this mesh"));
            }
        }
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> (Result<Option<u64>, String>, Vec<String>) {
        let mut warnings = Vec::new();
        let result = read(text, &mut warnings).map(|config| config.concurrency).map_err(|error| error.to_string());
        (result, warnings)
    }

    #[test]
    fn concurrency_is_read_and_the_rest_is_reported() {
        assert_eq!(check("concurrency: 4"), (Ok(Some(4)), vec![]));
        assert_eq!(check("{\"concurrency\": 4, \"holdApplicationUntilProxyStarts\": true}"), (Ok(Some(4)), vec![]));
        assert_eq!(check(""), (Ok(None), vec![]));
        let (result, warnings) = check("concurrency: 0\nproxyMetadata:\n  A: b\n\"x\\ny\": 1\n");
        assert_eq!((result, warnings.len()), (Ok(None), 3));
        assert!(warnings.iter().all(|warning| !warning.contains('\n')));
    }

    #[test]
    fn what_is_no_proxy_config_is_refused() {
        for bad in ["- 1", "text", "concurrency: many", "concurrency: -1", "concurrency: 9999", "a: [", "a: 1\na: 2"] {
            assert!(check(bad).0.is_err(), "{bad:?}");
        }
        assert!(check(&"#".repeat(BYTES_MAX + 1)).0.is_err());
    }
}
