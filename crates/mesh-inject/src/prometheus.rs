//! One scrape for application and proxy: the pod's `prometheus.io` annotations are pointed at the proxy, which fetches
//! the application's metrics itself and serves both.

use serde_json::{Value, json};

use crate::annotations;
use crate::error::{Error, quote};
use crate::names::port;
use crate::parts::{Object, Parts};
use crate::settings::Settings;

pub(crate) const MERGE_METRICS: &str = "prometheus.istio.io/merge-metrics";
const SCRAPE: &str = "prometheus.io/scrape";
const PORT: &str = "prometheus.io/port";
const PATH: &str = "prometheus.io/path";
const FIELDS: [(&str, &str); 3] = [("scrape", SCRAPE), ("port", PORT), ("path", PATH)];

/// Points the annotations at the proxy. Returns the application's own target (the value of `MESH_PROMETHEUS`), if it
/// has one.
///
/// A port that cannot be read is the application's business: its annotations stay, with a warning.
pub(crate) fn merge(pod: &mut Parts, settings: &Settings, warnings: &mut Vec<String>) -> Result<Option<Value>, Error> {
    let wanted = match pod.annotation(MERGE_METRICS) {
        None => settings.prometheus_merge,
        Some(text) => annotations::parse_bool(text).ok_or_else(|| Error::Annotation {
            annotation: MERGE_METRICS,
            value: quote(text),
            problem: "must be true or false".into(),
        })?,
    };
    if !wanted || pod.annotation(SCRAPE) == Some("false") {
        return Ok(None);
    }
    if let Some(text) = pod.annotation(PORT) {
        match text.parse::<u16>() {
            Ok(port) if port::PROXY.contains(&port) => return Err(Error::MetricsPort { port }),
            Ok(port) if port != 0 => {}
            _ => {
                let text = quote(text);
                warnings.push(format!("metrics are not merged: annotation '{PORT}' has {text}, which is not a port"));
                return Ok(None);
            }
        }
    }
    let target = target(pod);
    pod.annotations.insert(SCRAPE.into(), "true".into());
    pod.annotations.insert(PORT.into(), port::STATUS.to_string().into());
    pod.annotations.insert(PATH.into(), "/stats/prometheus".into());
    Ok(target)
}

/// Where the application serves metrics, in its author's words, if it asks to be scraped.
fn target(pod: &Parts) -> Option<Value> {
    if pod.annotation(SCRAPE) != Some("true") {
        return None;
    }
    let fields = FIELDS.iter().filter_map(|(field, name)| Some(((*field).to_owned(), pod.annotation(name)?.into())));
    Some(Value::Object(fields.collect::<Object>()))
}

/// Takes [`merge`] back, given what it returned at the time.
pub(crate) fn restore(pod: &mut Parts, target: Option<&Value>) {
    if pod.annotation(PORT) != Some(&port::STATUS.to_string()) {
        return;
    }
    let target = target.cloned().unwrap_or_else(|| json!({}));
    for (field, name) in FIELDS {
        match target.get(field) {
            Some(Value::String(text)) => pod.annotations.insert(name.into(), text.as_str().into()),
            _ => pod.annotations.remove(name),
        };
    }
}
