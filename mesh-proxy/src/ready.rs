//! Whether the proxy is ready, and if not, what exactly is missing.
//!
//! Ready is: a certificate, the mesh's settings, the own Inbound, and all keys that were saved before a restart; each
//! counts from the control plane or from the saved copy. Once ready, a proxy stays ready: a control plane that is away,
//! for however long, never takes a serving pod out of service.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Collects the facts. Cheap to clone; for any thread; never used on the path of a request.
#[derive(Clone)]
pub(crate) struct Ready(Arc<Mutex<Facts>>);

/// What is known about readiness.
#[derive(Clone, Debug, Default)]
struct Facts {
    was_ready: bool,
    certificate: bool,
    certificate_error: Option<String>,
    settings: bool,
    inbound: bool,
    saved_keys_missing: usize,
    saved_keys_counted: bool,
    stream_error: Option<String>,
    stream_up: bool,
    listening: bool,
}

impl Ready {
    /// Nothing is there yet.
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// Whether traffic can be served.
    pub(crate) fn is_ready(&self) -> bool {
        self.facts().was_ready
    }

    /// What is there and what is missing, with the last error of each, a line per thing.
    pub(crate) fn explain(&self) -> String {
        self.facts().explain()
    }

    /// The certificate: there, or not yet and why.
    pub(crate) fn certificate(&self, there: bool, error: Option<String>) {
        self.update(|facts| {
            facts.certificate |= there;
            facts.certificate_error = error;
        });
    }

    /// The configuration that is in use.
    pub(crate) fn configuration(&self, settings: bool, inbound: bool, saved_keys_missing: usize) {
        self.update(|facts| {
            facts.settings = settings;
            facts.inbound = inbound;
            facts.saved_keys_missing = saved_keys_missing;
            facts.saved_keys_counted = true;
        });
    }

    /// The stream to the control plane: up, or down and why.
    pub(crate) fn stream(&self, up: bool, error: Option<String>) {
        self.update(|facts| {
            facts.stream_up = up;
            facts.stream_error = error;
        });
    }

    /// All workers accept connections.
    pub(crate) fn listening(&self) {
        self.update(|facts| facts.listening = true);
    }

    fn update(&self, change: impl FnOnce(&mut Facts)) {
        let mut facts = self.facts();
        change(&mut facts);
        facts.was_ready |= facts.is_complete();
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        // The facts are plain values: a panic elsewhere cannot leave them half-changed in a way that matters.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Facts {
    fn is_complete(&self) -> bool {
        self.listening
            && self.certificate
            && self.settings
            && self.inbound
            && self.saved_keys_counted
            && self.saved_keys_missing == 0
    }

    fn explain(&self) -> String {
        let mut text = String::from(if self.was_ready { "ready\n" } else { "not ready\n" });
        let mut line = |there: bool, what: &str, why: Option<&str>| {
            let state = if there { "ok     " } else { "MISSING" };
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            let _ = writeln!(text, "  {state} {what}{why}");
        };
        line(self.listening, "listeners", None);
        line(self.certificate, "certificate", self.certificate_error.as_deref());
        let stream = self.stream_error.as_deref();
        let for_missing = |there: bool| if there { None } else { Some(stream.unwrap_or("not yet received")) };
        line(self.settings, "MeshSettings", for_missing(self.settings));
        line(self.inbound, "own Inbound", for_missing(self.inbound));
        let keys = self.saved_keys_missing;
        let why = (keys > 0).then(|| format!("{keys} not answered yet; {}", stream.unwrap_or("waiting")));
        line(keys == 0, "saved keys", why.as_deref());
        let up = if self.stream_up { "up" } else { "down" };
        let why = stream.map(|why| format!(": {why}")).unwrap_or_default();
        let _ = writeln!(text, "  control plane: {up}{why}");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_reason() {
        let ready = Ready::new();
        ready.listening();
        ready.certificate(false, Some("cannot resolve mesh-control: no such name".to_owned()));
        ready.stream(false, Some("no certificate yet".to_owned()));
        let text = ready.explain();
        assert!(text.starts_with("not ready\n"));
        assert!(text.contains("MISSING certificate: cannot resolve mesh-control"), "{text}");
        assert!(text.contains("MISSING own Inbound: no certificate yet"), "{text}");
    }

    #[test]
    fn once_ready_it_stays_so_when_the_control_plane_goes() {
        let ready = Ready::new();
        ready.listening();
        ready.certificate(true, None);
        ready.configuration(true, true, 1);
        assert!(!ready.is_ready(), "a saved key is missing");
        ready.configuration(true, true, 0);
        assert!(ready.is_ready());
        ready.stream(false, Some("connection reset".to_owned()));
        ready.certificate(false, Some("expired".to_owned()));
        assert!(ready.is_ready());
        assert!(ready.explain().contains("control plane: down: connection reset"));
    }
}
