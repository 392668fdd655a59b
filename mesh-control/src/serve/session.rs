//! One proxy's stream of configuration as a state machine: requests and marks in, responses out, no IO and no clock.
//!
//! Per kind of resource it knows what the proxy subscribes to, what it holds (by its own word at first, then by what was
//! sent), and which names may have changed. A response is made only when the transport can take it, and always of the
//! newest: a name that changed twice in between is sent once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_api::limits::{NAME_BYTES_MAX, REJECTIONS_MAX, RESPONSE_BYTES_CUT, SUBSCRIPTIONS_MAX};
use mesh_api::proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use mesh_api::{Encoded, Rejected, kind_of, rejections, type_url};
use mesh_core::config::{ResourceKind, ResourceName, ServiceName};

use crate::publish::Marks;

/// How long an address in a pod prefix that nothing has waits for its pod before it is said to be absent.
pub(crate) const APPEAR_WAIT: Duration = Duration::from_secs(1);
/// Responses of one kind that may be unacknowledged.
const UNACKNOWLEDGED_MAX: usize = 8;
/// Names in `initial_resource_versions` of one request (collection members are not subscribed one by one).
const INITIAL_VERSIONS_MAX: usize = 131_072;
/// Room in a response for what surrounds a resource, in bytes.
const OVERHEAD_BYTES: usize = 64;

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

#[derive(Default)]
struct KindState {
    /// The first request must be answered, if only with "in sync".
    answer_due: bool,
    subscribed: HashSet<ResourceName>,
    /// What the proxy holds, with its version.
    held: HashMap<ResourceName, Arc<str>>,
    urgent: BTreeMap<ResourceName, Option<Instant>>,
    /// Names to look at; members sort before their collection.
    pending: BTreeMap<ResourceName, Option<Instant>>,
    /// Those of `pending` that are answered even if nothing changed: just subscribed.
    asked: BTreeSet<ResourceName>,
    /// Names that are answered as removed: they mean nothing here.
    unknown: BTreeSet<String>,
    /// Addresses that a pod may be about to have, and until when that is waited for.
    waiting: BTreeMap<ResourceName, Instant>,
    unacknowledged: VecDeque<Sent>,
    rejected: BTreeMap<String, Rejection>,
}

struct Sent {
    nonce: String,
    versions: Vec<(ResourceName, Option<Arc<str>>)>,
    changed: Option<Instant>,
}

struct Rejection {
    reason: String,
    version: Option<Arc<str>>,
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
        self.kinds.values().flat_map(|state| state.waiting.values()).min().copied()
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

impl KindState {
    /// What the proxy says of the response with this nonce.
    fn acknowledge(&mut self, request: &DeltaDiscoveryRequest) -> Outcome {
        let position = self.unacknowledged.iter().position(|sent| sent.nonce == request.response_nonce);
        let Some(sent) = position.and_then(|position| self.unacknowledged.remove(position)) else {
            return Outcome::default(); // spontaneous, or an answer to something we do not remember
        };
        let Some(status) = &request.error_detail else {
            for (name, version) in &sent.versions {
                let name = name.to_string();
                if self.rejected.get(&name).is_some_and(|rejection| rejection.version != *version) {
                    self.rejected.remove(&name);
                }
            }
            self.rejected.remove(WHOLE);
            return Outcome { acknowledged: sent.changed, rejected: Vec::new() };
        };
        let mut rejected = rejections(status);
        if rejected.is_empty() {
            // A proxy that cannot say what it rejects.
            rejected.push(Rejected { name: WHOLE.to_owned(), reason: status.message.clone() });
        }
        for (name, version) in &sent.versions {
            let name = name.to_string();
            if let Some(entry) = rejected.iter().find(|entry| entry.name == name) {
                self.reject(name, Rejection { reason: entry.reason.clone(), version: version.clone() });
            } else {
                self.rejected.remove(&name);
            }
        }
        if let [Rejected { name, reason }] = rejected.as_slice()
            && name == WHOLE
        {
            self.reject(name.clone(), Rejection { reason: reason.clone(), version: None });
        }
        Outcome { acknowledged: None, rejected }
    }

    fn reject(&mut self, name: String, rejection: Rejection) {
        if self.rejected.len() < REJECTIONS_MAX || self.rejected.contains_key(&name) {
            self.rejected.insert(name, rejection);
        }
    }

    /// What the proxy says it holds.
    fn declare(&mut self, versions: BTreeMap<String, String>, kind: ResourceKind) {
        for (text, version) in versions {
            match text.parse::<ResourceName>() {
                Ok(name) if name.kind() == kind => {
                    self.held.insert(name, version.into());
                }
                _ => {
                    self.unknown.insert(cut(&text).to_owned());
                }
            }
        }
    }

    /// A name was subscribed to (perhaps again): it is answered. In the first request, what is held and current is not.
    fn ask(&mut self, name: ResourceName, first: bool, config: &impl Config, now: Instant) {
        let members = match &name {
            ResourceName::Endpoints(service) => {
                let member = |uid| ResourceName::Endpoint(service.clone(), uid);
                config.members(service).into_iter().map(member).collect()
            }
            _ => Vec::new(),
        };
        let names = members.into_iter().chain([name]);
        for name in names {
            let holds_current = || config.get(&name).is_some_and(|now| self.held.get(&name) == Some(&now.version));
            if first && holds_current() {
                continue;
            }
            if !self.held.contains_key(&name) && config.may_appear(&name) {
                self.waiting.insert(name, now + APPEAR_WAIT);
                continue;
            }
            self.asked.insert(name.clone());
            self.pending.entry(name).or_insert(None);
        }
    }

    /// After the first request: what the proxy holds and does not exist (any more) is taken from it, each member of a
    /// collection included; what exists and is not subscribed to is not ours to follow.
    fn release_gone(&mut self, config: &impl Config) {
        let covered = |name: &ResourceName| match name {
            ResourceName::Endpoint(service, _) => self.subscribed.contains(&ResourceName::Endpoints(service.clone())),
            name => self.subscribed.contains(name),
        };
        let (ours, others): (Vec<_>, Vec<_>) = self.held.keys().cloned().partition(covered);
        for name in others {
            if !config.may_subscribe(&name) || !config.exists(&name) {
                self.unknown.insert(name.to_string());
            }
            self.held.remove(&name);
        }
        for name in ours {
            if config.get(&name).is_none() {
                self.pending.entry(name).or_insert(None);
            }
        }
    }

    /// Forgets what was unsubscribed; the proxy drops it by itself.
    fn forget(&mut self, name: &ResourceName) {
        let is_gone = |other: &ResourceName| match (name, other) {
            (ResourceName::Endpoints(service), ResourceName::Endpoint(of, _)) => service == of,
            (name, other) => name == other,
        };
        self.held.retain(|other, _| !is_gone(other));
        self.pending.retain(|other, _| !is_gone(other));
        self.urgent.retain(|other, _| !is_gone(other));
        self.asked.retain(|other| !is_gone(other));
        self.waiting.remove(name);
        self.rejected.remove(&name.to_string());
    }

    fn stop_waiting(&mut self, now: Instant) {
        let over: Vec<ResourceName> =
            self.waiting.iter().filter(|(_, until)| **until <= now).map(|(name, _)| name.clone()).collect();
        for name in over {
            self.waiting.remove(&name);
            self.asked.insert(name.clone());
            self.pending.entry(name).or_insert(None);
        }
    }

    fn has_response(&self, now: Instant) -> bool {
        let something = !self.urgent.is_empty()
            || !self.pending.is_empty()
            || !self.unknown.is_empty()
            || (self.answer_due && self.waiting.is_empty())
            || self.waiting.values().any(|until| *until <= now);
        something && self.unacknowledged.len() < UNACKNOWLEDGED_MAX
    }

    fn respond(&mut self, kind: ResourceKind, nonce: String, config: &impl Config) -> Option<DeltaDiscoveryResponse> {
        let mut response = DeltaDiscoveryResponse { type_url: type_url(kind).to_owned(), ..Default::default() };
        let mut versions = Vec::new();
        let mut changed: Option<Instant> = None;
        let mut bytes = 0;
        while bytes < RESPONSE_BYTES_CUT
            && let Some(name) = self.unknown.pop_first()
        {
            bytes += name.len() + OVERHEAD_BYTES;
            response.removed_resources.push(name);
        }
        while let Some((name, since, urgent)) = self.next() {
            let now = config.get(&name);
            let asked = self.asked.contains(&name);
            let same = match (&now, self.held.get(&name)) {
                (Some(now), Some(held)) => now.version == *held,
                (None, None) => true,
                _ => false,
            };
            if same && !asked {
                self.done(&name);
                continue;
            }
            let size = name_bytes(&now, &name);
            if bytes > 0 && bytes + size > RESPONSE_BYTES_CUT {
                // Not in this response; back to where it came from.
                if urgent {
                    self.urgent.insert(name, since)
                } else {
                    self.pending.insert(name, since)
                };
                break;
            }
            bytes += size;
            self.done(&name);
            changed = changed.into_iter().chain(since).min();
            match now {
                Some(now) => {
                    response.resources.push(now.to_wire());
                    self.held.insert(name.clone(), now.version.clone());
                    versions.push((name, Some(now.version.clone())));
                }
                None => {
                    response.removed_resources.push(name.to_string());
                    self.held.remove(&name);
                    versions.push((name, None));
                }
            }
        }
        let empty = response.resources.is_empty() && response.removed_resources.is_empty();
        if empty && !(self.answer_due && self.waiting.is_empty()) {
            return None;
        }
        self.answer_due = false;
        response.nonce = nonce.clone();
        self.unacknowledged.push_back(Sent { nonce, versions, changed });
        Some(response)
    }

    fn next(&mut self) -> Option<(ResourceName, Option<Instant>, bool)> {
        if let Some((name, since)) = self.urgent.pop_first() {
            return Some((name, since, true));
        }
        self.pending.pop_first().map(|(name, since)| (name, since, false))
    }

    /// The name's newest form is (about to be) with the proxy.
    fn done(&mut self, name: &ResourceName) {
        self.asked.remove(name);
        self.pending.remove(name);
    }

    fn sync(&self) -> Sync {
        let idle = self.urgent.is_empty()
            && self.pending.is_empty()
            && self.waiting.is_empty()
            && self.unknown.is_empty()
            && self.unacknowledged.is_empty()
            && !self.answer_due;
        match (idle, self.rejected.is_empty()) {
            (false, _) => Sync::Pending,
            (true, true) => Sync::Synced,
            (true, false) => Sync::Rejected,
        }
    }
}

/// The name of a rejection of a whole response, by a proxy that cannot say more.
const WHOLE: &str = "*";

fn name_bytes(resource: &Option<Arc<Encoded>>, name: &ResourceName) -> usize {
    match resource {
        Some(encoded) => encoded.bytes.len() + encoded.name.len() + encoded.type_url.len() + OVERHEAD_BYTES,
        None => name.to_string().len() + OVERHEAD_BYTES,
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
