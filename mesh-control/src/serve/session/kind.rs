//! One kind of resource on one stream: what is subscribed to, held, changed, sent, and rejected.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use mesh_api::limits::{KEYS_MAX, REJECTIONS_MAX, RESPONSE_BYTES_CUT};
use mesh_api::proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use mesh_api::{Encoded, Rejected, rejections, type_url};
use mesh_core::config::{ResourceKind, ResourceName};

use super::{APPEAR_WAIT, Config, Outcome, Sync, cut};

/// Responses of one kind that may be unacknowledged.
pub(super) const UNACKNOWLEDGED_MAX: usize = 8;
/// Room in a response for what surrounds a resource, in bytes.
const OVERHEAD_BYTES: usize = 64;

#[derive(Default)]
pub(super) struct KindState {
    /// The first request must be answered, if only with "in sync".
    pub(super) answer_due: bool,
    pub(super) subscribed: HashSet<ResourceName>,
    /// What the proxy holds, with its version.
    pub(super) held: HashMap<ResourceName, Arc<str>>,
    pub(super) urgent: BTreeMap<ResourceName, Option<Instant>>,
    /// Names to look at; members sort before their collection.
    pub(super) pending: BTreeMap<ResourceName, Option<Instant>>,
    /// Those of `pending` that are answered even if nothing changed: just subscribed.
    pub(super) asked: BTreeSet<ResourceName>,
    /// Names that are answered as removed: they mean nothing here.
    pub(super) unknown: BTreeSet<String>,
    /// Addresses that a pod may be about to have, and until when that is waited for.
    pub(super) waiting: BTreeMap<ResourceName, Instant>,
    pub(super) unacknowledged: VecDeque<Sent>,
    pub(super) rejected: BTreeMap<String, Rejection>,
}

pub(super) struct Sent {
    nonce: String,
    versions: Vec<(ResourceName, Option<Arc<str>>)>,
    changed: Option<Instant>,
}

pub(super) struct Rejection {
    pub(super) reason: String,
    version: Option<Arc<str>>,
}

impl KindState {
    /// What the proxy says of the response with this nonce.
    pub(super) fn acknowledge(&mut self, request: &DeltaDiscoveryRequest) -> Outcome {
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
    pub(super) fn declare(&mut self, versions: BTreeMap<String, String>, kind: ResourceKind) {
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
    pub(super) fn ask(&mut self, name: ResourceName, first: bool, config: &impl Config, now: Instant) {
        let members = match &name {
            ResourceName::Endpoints(service) => {
                let member = |uid| ResourceName::Endpoint(service.clone(), uid);
                config.members(service).into_iter().map(member).collect()
            }
            _ => Vec::new(),
        };
        let names = members.into_iter().chain([name]);
        for name in names {
            if first && self.held.contains_key(&name) {
                self.pending.entry(name).or_insert(None); // sent if it differs by then
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
    pub(super) fn release_gone(&mut self, config: &impl Config) {
        let covered = |name: &ResourceName| match name {
            ResourceName::Endpoint(service, _) => self.subscribed.contains(&ResourceName::Endpoints(service.clone())),
            name => self.subscribed.contains(name),
        };
        let (ours, others): (Vec<_>, Vec<_>) = self.held.keys().cloned().partition(covered);
        for (count, name) in others.into_iter().enumerate() {
            // Looking costs a compilation each, for a member that of its whole collection: only so many are looked for.
            let is_member = matches!(name, ResourceName::Endpoint(..));
            if count >= KEYS_MAX || is_member || !config.may_subscribe(&name) || !config.exists(&name) {
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
    pub(super) fn forget(&mut self, name: &ResourceName) {
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

    pub(super) fn stop_waiting(&mut self, now: Instant) {
        let over: Vec<ResourceName> =
            self.waiting.iter().filter(|(_, until)| **until <= now).map(|(name, _)| name.clone()).collect();
        for name in over {
            self.waiting.remove(&name);
            self.asked.insert(name.clone());
            self.pending.entry(name).or_insert(None);
        }
    }

    pub(super) fn has_response(&self, now: Instant) -> bool {
        let something = !self.urgent.is_empty()
            || !self.pending.is_empty()
            || !self.unknown.is_empty()
            || (self.answer_due && self.waiting.is_empty())
            || self.waiting.values().any(|until| *until <= now);
        something && self.unacknowledged.len() < UNACKNOWLEDGED_MAX
    }

    pub(super) fn respond(
        &mut self,
        kind: ResourceKind,
        nonce: String,
        config: &impl Config,
    ) -> Option<DeltaDiscoveryResponse> {
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

    pub(super) fn sync(&self) -> Sync {
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
