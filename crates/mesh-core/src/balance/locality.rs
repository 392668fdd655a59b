//! Locality: which endpoints are preferred, and what share each place gets.

use super::{Member, Plan};
use crate::config::{Endpoint, Locality};

/// Where a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// 0 is preferred.
    pub(super) priority: u32,
    /// Its share within its priority.
    pub(super) weight: u32,
}

/// The places of all members; `None`: it gets nothing (`distribute` does not name its locality).
///
/// Priorities only act together with outlier detection, as in Istio: without it nothing would ever fall over.
/// `distribute` acts without it as well.
pub(super) fn places(members: &[Member], plan: &Plan<'_>) -> Vec<Option<Place>> {
    let settings = &plan.policy.locality;
    let alike = |member: &Member| Some(Place { priority: 0, weight: member.endpoint.weight.max(1) });
    if settings.disabled {
        return members.iter().map(alike).collect();
    }
    let from = settings.distribute.iter().filter(|(from, _)| covers(from, plan.locality));
    if let Some((_, to)) = from.max_by_key(|(from, _)| from.len()) {
        return distribute(members, to.iter().map(|(to, share)| (to.as_str(), *share)).collect());
    }
    // Who does not know where it is has no near and far.
    let nowhere = settings.priority.is_empty() && plan.locality.region.is_empty();
    if plan.policy.outlier.is_none() || nowhere {
        return members.iter().map(alike).collect();
    }
    let priority = |endpoint: &Endpoint| match settings.priority.is_empty() {
        true => by_distance(endpoint, plan),
        false => by_labels(endpoint, plan),
    };
    let place = |m: &Member| Some(Place { priority: priority(&m.endpoint), weight: m.endpoint.weight.max(1) });
    members.iter().map(place).collect()
}

/// Same subzone, zone, region, the region to fail over to, anywhere.
fn by_distance(endpoint: &Endpoint, plan: &Plan<'_>) -> u32 {
    let (own, other) = (plan.locality, &endpoint.locality);
    if own.region != other.region {
        return match plan.policy.locality.failover.get(&own.region) {
            Some(to) if *to != other.region => 4,
            Some(_) | None => 3,
        };
    }
    match (own.zone == other.zone, own.subzone == other.subzone) {
        (true, true) => 0,
        (true, false) => 1,
        (false, _) => 2,
    }
}

/// `failoverPriority`: as many labels as agree, from the first on.
fn by_labels(endpoint: &Endpoint, plan: &Plan<'_>) -> u32 {
    let keys = &plan.policy.locality.priority;
    let agrees = |key: &&String| {
        let (key, wanted) = match key.split_once('=') {
            Some((key, value)) => (key, value),
            None => (key.as_str(), label(key, plan.labels, plan.locality, None)),
        };
        label(key, &endpoint.labels, &endpoint.locality, Some(&endpoint.network)) == wanted
    };
    (keys.len() - keys.iter().take_while(agrees).count()) as u32
}

/// A label's value; topology is known even where it is not among the labels.
fn label<'a>(
    key: &str,
    labels: &'a std::collections::BTreeMap<String, String>,
    locality: &'a Locality,
    network: Option<&'a str>,
) -> &'a str {
    match (labels.get(key), key) {
        (Some(value), _) => value,
        (None, "topology.kubernetes.io/region") => &locality.region,
        (None, "topology.kubernetes.io/zone") => &locality.zone,
        (None, "topology.istio.io/subzone") => &locality.subzone,
        (None, "topology.istio.io/network") => network.unwrap_or_default(),
        (None, _) => "",
    }
}

/// Shares in percent to localities; within a share, by the endpoints' own weights.
fn distribute(members: &[Member], mut to: Vec<(&str, u32)>) -> Vec<Option<Place>> {
    /// So that a small share of many endpoints is not rounded away.
    const SCALE: u64 = 10_000;
    // The pattern that says most counts.
    to.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.len()));
    let entry = |member: &Member| to.iter().position(|(pattern, _)| covers(pattern, &member.endpoint.locality));
    let mut sums = vec![0_u64; to.len()];
    for member in members {
        if let Some(entry) = entry(member) {
            sums[entry] += u64::from(member.endpoint.weight.max(1));
        }
    }
    let place = |member: &Member| {
        let entry = entry(member)?;
        let (_, share) = to[entry];
        let weight = u64::from(share) * SCALE * u64::from(member.endpoint.weight.max(1)) / sums[entry];
        (share > 0).then(|| Place { priority: 0, weight: u32::try_from(weight).unwrap_or(u32::MAX).max(1) })
    };
    members.iter().map(place).collect()
}

/// Whether `region/zone/subzone`, perhaps ending in `*` or cut short, covers a locality.
fn covers(pattern: &str, locality: &Locality) -> bool {
    let own = [&locality.region, &locality.zone, &locality.subzone];
    pattern.split('/').zip(own).all(|(wanted, own)| wanted == "*" || wanted == own)
}
