//! Names and identifiers in Kubernetes' shapes: uids, template hashes, the random end of a pod's name.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// The letters that Kubernetes uses for generated names: no vowels, so no words.
const SAFE: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A number that nobody can guess well enough to matter here; names only have to differ.
pub fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A random uid in the shape of a version 4 UUID.
pub fn uid() -> String {
    shape(random(), random(), 4)
}

/// The uid of something that has no other: always the same for the same words.
pub fn stable_uid(words: &str) -> String {
    shape(hash(words), hash(&format!("{words}\0")), 8)
}

fn shape(a: u64, b: u64, version: u64) -> String {
    let (hi, mid) = (a >> 32, (a >> 16) & 0xffff);
    let third = (a & 0x0fff) | (version << 12);
    let fourth = ((b >> 48) & 0x3fff) | 0x8000;
    format!("{hi:08x}-{mid:04x}-{third:04x}-{fourth:04x}-{:012x}", b & 0xffff_ffff_ffff)
}

/// FNV-1a with a final mix: stable over time and machines, which the standard hasher does not promise.
pub fn hash(words: &str) -> u64 {
    let mut h = words.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    h ^= h >> 33;
    h = h.wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^ (h >> 33)
}

/// `number` in the letters of generated names, `count` of them.
pub fn letters(mut number: u64, count: usize) -> String {
    let mut out = String::with_capacity(count);
    for _ in 0..count {
        let index = usize::try_from(number % SAFE.len() as u64).unwrap_or(0);
        out.push(char::from(SAFE[index]));
        number /= SAFE.len() as u64;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_have_the_shape_of_uuids() {
        let uid = uid();
        assert_eq!(uid.len(), 36);
        assert_eq!(&uid[14..15], "4");
        assert_ne!(uid, super::uid());
        assert_eq!(stable_uid("a"), stable_uid("a"));
        assert_ne!(stable_uid("a"), stable_uid("b"));
    }
}
