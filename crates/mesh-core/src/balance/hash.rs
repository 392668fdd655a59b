//! Consistent hashing: what of a request is hashed, and the ring or Maglev table that the hash is looked up in.
//!
//! Placement follows Envoy's algorithms (xxHash64 of `address:port_n` for rings, of `address:port` for Maglev), so that a
//! mixed mesh can send a key to the same endpoint; that it does has not been compared with a running Envoy.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use smallvec::SmallVec;
use xxhash_rust::xxh64::xxh64;

use super::Member;
use crate::config::{HashKey, HashTable};
use crate::matching::query_value;
use crate::request::RequestHead;

/// Ring points where nothing is configured.
const RING_POINTS_DEFAULT: u64 = 1024;
/// Most points of a ring.
const RING_POINTS_MAX: u64 = 1 << 20;
/// Entries of a Maglev table where nothing is configured.
const MAGLEV_ENTRIES_DEFAULT: u64 = 65_537;
/// Most entries of a Maglev table.
const MAGLEV_ENTRIES_MAX: u64 = 1 << 20;

/// What there is to hash in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestHash {
    /// This.
    Of(u64),
    /// The cookie is absent and is to be made: see [`cookie`].
    MakeCookie,
    /// Nothing: any endpoint is right.
    Nothing,
}

/// Hashes what the configuration names. `request` is none for opaque connections, of which only the source can be
/// hashed.
#[must_use]
pub fn request_hash(key: &HashKey, request: Option<&RequestHead<'_>>, source: IpAddr) -> RequestHash {
    let of = |value: Option<&[u8]>| value.map_or(RequestHash::Nothing, |value| RequestHash::Of(hash_bytes(value)));
    match (key, request) {
        (HashKey::SourceIp, _) => {
            let mut text = [0_u8; 64];
            let mut rest = &mut text[..];
            // An address is at most 45 characters long.
            let _ = write!(rest, "{}", source.to_canonical());
            let left = rest.len();
            let length = text.len() - left;
            of(Some(&text[..length]))
        }
        (_, None) => RequestHash::Nothing,
        (HashKey::Header(name), Some(request)) => of(request.field(name).as_bytes()),
        (HashKey::Query(name), Some(request)) => of(request.query.and_then(|q| query_value(q, name)).as_deref()),
        (HashKey::Cookie { name, ttl, .. }, Some(request)) => match (cookie_value(request, name), ttl) {
            (Some(value), _) => of(Some(value)),
            (None, Some(_)) => RequestHash::MakeCookie,
            (None, None) => RequestHash::Nothing,
        },
    }
}

/// xxHash64 without seed.
#[must_use]
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    xxh64(bytes, 0)
}

fn cookie_value<'h>(request: &RequestHead<'h>, name: &str) -> Option<&'h [u8]> {
    let mut found = None;
    request.headers.visit("cookie", &mut |value| {
        for pair in value.split(|b| *b == b';') {
            let pair = pair.trim_ascii();
            if let (None, Some(value)) = (found, pair.strip_prefix(name.as_bytes()).and_then(|v| v.strip_prefix(b"=")))
            {
                let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
                found = Some(bare.unwrap_or(value));
            }
        }
    });
    found
}

/// A new cookie for stickiness: the hash of its value, and the `set-cookie` field's value. `random` becomes the value.
#[must_use]
pub fn cookie(name: &str, path: &str, ttl: Duration, random: u64) -> (u64, String) {
    let value = format!("{random:016x}");
    let mut field = format!("{name}=\"{value}\"");
    // Writing to a String cannot fail.
    if !ttl.is_zero() {
        let _ = write!(field, "; Max-Age={}", ttl.as_secs());
    }
    if !path.is_empty() {
        let _ = write!(field, "; Path={path}");
    }
    field.push_str("; HttpOnly");
    (hash_bytes(value.as_bytes()), field)
}

/// Where a hash leads.
#[derive(Debug)]
pub(super) enum Table {
    /// Points in ascending order, each with a position.
    Ring(Vec<(u64, u32)>),
    /// Positions.
    Maglev(Vec<u32>),
}

impl Table {
    /// Builds the table of members with their weights; positions are those of the iteration.
    pub(super) fn build<'m>(kind: HashTable, members: impl Iterator<Item = (&'m Member, u32)>) -> Self {
        let keyed: Vec<(String, u32)> = members.map(|(member, weight)| (key_of(member), weight.max(1))).collect();
        match kind {
            HashTable::Ring(points) => Self::Ring(ring(&keyed, points)),
            HashTable::Maglev(entries) => Self::Maglev(maglev(&keyed, entries)),
        }
    }

    /// The position that a hash leads to, or the next on its way that fits.
    pub(super) fn find(&self, hash: u64, fits: &dyn Fn(usize) -> bool) -> Option<usize> {
        match self {
            Self::Ring(points) => {
                let start = points.partition_point(|(point, _)| *point < hash);
                let onwards = points[start..].iter().chain(&points[..start]);
                first_fitting(onwards.map(|(_, position)| *position), fits)
            }
            Self::Maglev(entries) => {
                let start = (hash % entries.len() as u64) as usize;
                let onwards = entries[start..].iter().chain(&entries[..start]);
                first_fitting(onwards.copied(), fits)
            }
        }
    }
}

/// The first position that fits, each looked at once.
fn first_fitting(positions: impl Iterator<Item = u32>, fits: &dyn Fn(usize) -> bool) -> Option<usize> {
    // What did not fit is remembered while it costs little, so that a long way is not spent on asking again.
    let mut refused: SmallVec<[u32; 8]> = SmallVec::new();
    for position in positions {
        if refused.contains(&position) {
            continue;
        }
        if fits(position as usize) {
            return Some(position as usize);
        }
        if refused.len() < refused.inline_size() {
            refused.push(position);
        }
    }
    None
}

fn key_of(member: &Member) -> String {
    match (member.address, &member.endpoint.hostname) {
        (Some(address), _) => address.to_string(),
        (None, Some(name)) => format!("{name}:{}", member.port),
        (None, None) => member.endpoint.uid.to_string(),
    }
}

/// Envoy's ring: at least `points` in all, and as many for each member as its weight says. Where a member goes for good,
/// the others' points become more, so a few of their keys move as well; where it is only ejected, none do.
fn ring(keyed: &[(String, u32)], points: u64) -> Vec<(u64, u32)> {
    let least = if points == 0 { RING_POINTS_DEFAULT } else { points.min(RING_POINTS_MAX) } as f64;
    let sum: f64 = keyed.iter().map(|(_, weight)| f64::from(*weight)).sum();
    let lightest = keyed.iter().map(|(_, weight)| f64::from(*weight) / sum).fold(1.0, f64::min);
    let scale = ((lightest * least).ceil() / lightest).min(RING_POINTS_MAX as f64);
    let mut ring = Vec::with_capacity(scale as usize + keyed.len());
    let (mut made, mut wanted) = (0.0, 0.0);
    let mut text = String::new();
    for (position, (key, weight)) in (0_u32..).zip(keyed) {
        wanted += scale * f64::from(*weight) / sum;
        let mut number = 0_u64;
        while made < wanted {
            text.clear();
            // Writing to a String cannot fail.
            let _ = write!(text, "{key}_{number}");
            ring.push((hash_bytes(text.as_bytes()), position));
            number += 1;
            made += 1.0;
        }
    }
    ring.sort_unstable();
    ring
}

/// Envoy's Maglev table: each member walks its own permutation of the entries and takes the next free one in turn.
fn maglev(keyed: &[(String, u32)], entries: u64) -> Vec<u32> {
    let wanted = if entries == 0 { MAGLEV_ENTRIES_DEFAULT } else { entries.min(MAGLEV_ENTRIES_MAX) };
    // The permutations only reach every entry if their number is prime.
    let size = (wanted.max(keyed.len() as u64).max(3)..).find(|n| is_prime(*n)).unwrap_or(MAGLEV_ENTRIES_DEFAULT);
    struct Walk {
        at: u64,
        skip: u64,
        weight: f64,
        target: f64,
    }
    let heaviest = keyed.iter().map(|(_, weight)| *weight).max().unwrap_or(1);
    let walk = |(key, weight): &(String, u32)| Walk {
        at: xxh64(key.as_bytes(), 0) % size,
        skip: xxh64(key.as_bytes(), 1) % (size - 1) + 1,
        weight: f64::from(*weight) / f64::from(heaviest),
        target: 0.0,
    };
    let mut walks: Vec<Walk> = keyed.iter().map(walk).collect();
    let mut table = vec![u32::MAX; size as usize];
    let mut free = table.len();
    let mut round = 1.0;
    while free > 0 {
        for (position, walk) in (0_u32..).zip(&mut walks) {
            // Lighter members sit out some rounds.
            if round * walk.weight < walk.target {
                continue;
            }
            walk.target += 1.0;
            while table[walk.at as usize] != u32::MAX {
                walk.at = (walk.at + walk.skip) % size;
            }
            table[walk.at as usize] = position;
            walk.at = (walk.at + walk.skip) % size;
            free -= 1;
            if free == 0 {
                break;
            }
        }
        round += 1.0;
    }
    table
}

fn is_prime(number: u64) -> bool {
    number > 1 && (2..).take_while(|d| d * d <= number).all(|d| !number.is_multiple_of(d))
}
