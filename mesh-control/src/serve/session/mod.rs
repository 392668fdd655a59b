//! One proxy's stream of configuration as a state machine: requests and marks in, responses out, no IO and no clock.
//!
//! Per kind of resource it knows what the proxy subscribes to, what it holds (by its own word at first, then by what was
//! sent), and which names may have changed. A response is made only when the transport can take it, and always of the
//! newest: a name that changed twice in between is sent once.

mod kind;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_api::limits::{NAME_BYTES_MAX, SUBSCRIPTIONS_MAX};
use mesh_api::proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use mesh_api::{Encoded, Rejected, kind_of};
use mesh_core::config::{ResourceKind, ResourceName, ServiceName};

use self::kind::{KindState, UNACKNOWLEDGED_MAX};
use crate::publish::Marks;

/// How long an address in a pod prefix that nothing has waits for its pod before it is said to be absent.
pub(crate) const APPEAR_WAIT: Duration = Duration::from_secs(1);
/// Names in `initial_resource_versions` of one request (collection members are not subscribed one by one).
const INITIAL_VERSIONS_MAX: usize = 131_072;

/// What the session asks of the index, for its own stream and view.
pub(crate) trait Config {
    /// Begins to hold a resource published.
    fn subscribe(&self, name: &ResourceName);
    /// Ends that.
    fn unsubscribe(&self, name: &ResourceName);
    /// The newest form of what is subscribed to.
    fn get(&self, name: &ResourceName) -> Option<Arc<Encoded>>;
    /// The members of a collection that is subscribed to.
    fn members(&self, service: &ServiceName) -> Vec<Arc<str>>;
    /// Whether something exists that is not subscribed to.
    fn exists(&self, name: &ResourceName) -> bool;
    /// Whether an address is absent, but a pod may be about to have it.
    fn may_appear(&self, name: &ResourceName) -> bool;
    /// Whether this proxy may subscribe to it at all.
    fn may_subscribe(&self, name: &ResourceName) -> bool;
}

/// Why a request ends the stream: a sentence for the proxy.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Misuse(String);

/// What a request meant, for metrics and logs.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    /// The changes up to this time are now in use.
    pub(crate) acknowledged: Option<Instant>,
    /// What the proxy could not take.
    pub(crate) rejected: Vec<Rejected>,
}

/// How far a proxy is with a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sync {
    /// It has acknowledged everything.
    Synced,
    /// Something is on its way.
    Pending,
    /// It rejected something of which there is nothing newer.
    Rejected,
}

impl Sync {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Synced => "synced",
            Self::Pending => "pending",
            Self::Rejected => "rejected",
        }
    }
}

/// The state of one stream.
#[derive(Default)]
pub(crate) struct Session {
    kinds: BTreeMap<ResourceKind, KindState>,
    nonce: u64,
    subscriptions: usize,
}

impl Session {
    /// Takes a request in.
    pub(crate) fn request(
        &mut self,
        request: DeltaDiscoveryRequest,
        config: &impl Config,
        now: Instant,
    ) -> Result<(ResourceKind, Outcome), Misuse> {
        let kind = kind_of(&request.type_url)
            .ok_or_else(|| Misuse(format!("the type {:?} is not served here", cut(&request.type_url))))?;
        if request.initial_resource_versions.len() > INITIAL_VERSIONS_MAX {
            return Err(Misuse(format!("more than {INITIAL_VERSIONS_MAX} initial_resource_versions")));
        }
        let first = !self.kinds.contains_key(&kind);
        let state = self.kinds.entry(kind).or_default();
        let outcome = state.acknowledge(&request);
        if first {
            state.answer_due = true;
            state.declare(request.initial_resource_versions, kind);
        }
        for name in &request.resource_names_unsubscribe {
            if let Ok(name) = name.parse::<ResourceName>()
                && state.subscribed.remove(&name)
            {
                self.subscriptions -= 1;
                config.unsubscribe(&name);
                state.forget(&name);
            }
        }
        for text in request.resource_names_subscribe {
            if text.len() > NAME_BYTES_MAX {
                return Err(Misuse(format!("a name is longer than {NAME_BYTES_MAX} bytes")));
            }
            let name = text.parse::<ResourceName>().ok();
            let name = name.filter(|name| name.kind() == kind && !matches!(name, ResourceName::Endpoint(..)));
            let Some(name) = name.filter(|name| config.may_subscribe(name)) else {
                state.unknown.insert(text);
                if state.unknown.len() > SUBSCRIPTIONS_MAX {
                    return Err(Misuse("too many names that mean nothing here".to_owned()));
                }
                continue;
            };
            if state.subscribed.insert(name.clone()) {
                self.subscriptions += 1;
                if self.subscriptions > SUBSCRIPTIONS_MAX {
                    config.unsubscribe(&name);
                    return Err(Misuse(format!("more than {SUBSCRIPTIONS_MAX} subscriptions")));
                }
                config.subscribe(&name);
            }
            state.ask(name, first, config, now);
        }
        if first {
            state.release_gone(config);
        }
        Ok((kind, outcome))
    }

    /// Takes in that names may have changed.
    pub(crate) fn changed(&mut self, marks: Marks, config: &impl Config) {
        for (name, changed) in marks.urgent {
            if let Some(state) = self.kinds.get_mut(&name.kind()) {
                state.urgent.insert(name, Some(changed));
            }
        }
        for (name, changed) in marks.normal {
            let Some(state) = self.kinds.get_mut(&name.kind()) else { continue };
            if state.waiting.contains_key(&name) {
                if config.may_appear(&name) {
                    continue;
                }
                state.waiting.remove(&name);
                state.asked.insert(name.clone());
            }
            state.pending.entry(name).or_insert(Some(changed));
        }
    }

    /// When [`respond`](Self::respond) will have something to say without a further event.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        // A kind that may not say more before it is answered has no deadline either.
        let may_speak = self.kinds.values().filter(|state| state.unacknowledged.len() < UNACKNOWLEDGED_MAX);
        may_speak.flat_map(|state| state.waiting.values()).min().copied()
    }

    /// Whether [`respond`](Self::respond) may have something to say.
    pub(crate) fn has_response(&self, now: Instant) -> bool {
        self.kinds.values().any(|state| state.has_response(now))
    }

    /// The next response, if there is one: what is urgent first, then by kind in the order in which a proxy needs them.
    pub(crate) fn respond(
        &mut self,
        config: &impl Config,
        now: Instant,
    ) -> Option<(ResourceKind, DeltaDiscoveryResponse)> {
        for state in self.kinds.values_mut() {
            state.stop_waiting(now);
        }
        let urgent = self.kinds.iter().filter(|(_, state)| !state.urgent.is_empty()).map(|(kind, _)| *kind);
        let order: Vec<ResourceKind> = urgent.chain(ResourceKind::ALL).collect();
        for kind in order {
            let Some(state) = self.kinds.get_mut(&kind) else { continue };
            if state.unacknowledged.len() >= UNACKNOWLEDGED_MAX {
                continue;
            }
            let nonce = (self.nonce + 1).to_string();
            if let Some(response) = state.respond(kind, nonce, config) {
                self.nonce += 1;
                return Some((kind, response));
            }
        }
        None
    }

    /// How far the proxy is, by kind.
    pub(crate) fn sync(&self) -> BTreeMap<ResourceKind, Sync> {
        self.kinds.iter().map(|(kind, state)| (*kind, state.sync())).collect()
    }

    /// What the proxy rejected and has nothing newer of.
    pub(crate) fn rejected(&self) -> Vec<Rejected> {
        let all = self.kinds.values().flat_map(|state| &state.rejected);
        all.map(|(name, rejection)| Rejected { name: name.clone(), reason: rejection.reason.clone() }).collect()
    }

    /// All names that are subscribed to.
    pub(crate) fn subscriptions(&self) -> impl Iterator<Item = &ResourceName> {
        self.kinds.values().flat_map(|state| &state.subscribed)
    }
}

/// A peer's text, short enough for an answer or a log line.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(NAME_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
