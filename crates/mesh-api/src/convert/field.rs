//! How texts, numbers, times, addresses and collections travel, with their bounds.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use mesh_core::config::Percent;
use mesh_core::identity::SpiffeId;

use super::Field;
use crate::Invalid;
use crate::limits::{BODY_BYTES_MAX, ITEMS_MAX, NAME_BYTES_MAX, TEXT_BYTES_MAX};

fn bounded(text: String, bytes_max: usize) -> Result<String, Invalid> {
    match text.len() <= bytes_max {
        true => Ok(text),
        false => Err(Invalid::new(format!("has {} bytes, more than {bytes_max}", text.len()))),
    }
}

impl Field<String> for String {
    fn put(&self) -> String {
        self.clone()
    }

    fn take(wire: String) -> Result<Self, Invalid> {
        bounded(wire, TEXT_BYTES_MAX)
    }
}

/// Shared texts are names.
impl Field<String> for Arc<str> {
    fn put(&self) -> String {
        self.to_string()
    }

    fn take(wire: String) -> Result<Self, Invalid> {
        let name = bounded(wire, NAME_BYTES_MAX)?;
        if name.is_empty() { Err(Invalid::new("is empty")) } else { Ok(name.into()) }
    }
}

impl Field<String> for SpiffeId {
    fn put(&self) -> String {
        self.to_string()
    }

    fn take(wire: String) -> Result<Self, Invalid> {
        wire.parse().map_err(|error| Invalid::new(format!("is no SPIFFE ID of the mesh: {error}")))
    }
}

impl Field<String> for IpNet {
    fn put(&self) -> String {
        self.to_string()
    }

    fn take(wire: String) -> Result<Self, Invalid> {
        wire.parse().map_err(|_| Invalid::new("is no address prefix"))
    }
}

impl Field<bool> for bool {
    fn put(&self) -> bool {
        *self
    }

    fn take(wire: bool) -> Result<Self, Invalid> {
        Ok(wire)
    }
}

impl Field<u32> for u32 {
    fn put(&self) -> u32 {
        *self
    }

    fn take(wire: u32) -> Result<Self, Invalid> {
        Ok(wire)
    }
}

impl Field<u64> for u64 {
    fn put(&self) -> u64 {
        *self
    }

    fn take(wire: u64) -> Result<Self, Invalid> {
        Ok(wire)
    }
}

impl Field<u32> for u16 {
    fn put(&self) -> u32 {
        u32::from(*self)
    }

    fn take(wire: u32) -> Result<Self, Invalid> {
        Self::try_from(wire).map_err(|_| Invalid::new(format!("{wire} does not fit 16 bits")))
    }
}

impl Field<u32> for u8 {
    fn put(&self) -> u32 {
        u32::from(*self)
    }

    fn take(wire: u32) -> Result<Self, Invalid> {
        Self::try_from(wire).map_err(|_| Invalid::new(format!("{wire} does not fit 8 bits")))
    }
}

impl Field<u32> for Percent {
    fn put(&self) -> u32 {
        self.0
    }

    fn take(wire: u32) -> Result<Self, Invalid> {
        const WHOLE: u32 = 1_000_000;
        if wire <= WHOLE { Ok(Self(wire)) } else { Err(Invalid::new(format!("{wire} parts of a million"))) }
    }
}

/// Nanoseconds; what does not fit (584 years) is sent as the longest that does.
impl Field<u64> for Duration {
    fn put(&self) -> u64 {
        u64::try_from(self.as_nanos()).unwrap_or(u64::MAX)
    }

    fn take(wire: u64) -> Result<Self, Invalid> {
        Ok(Self::from_nanos(wire))
    }
}

impl Field<Bytes> for IpAddr {
    fn put(&self) -> Bytes {
        match self {
            Self::V4(ip) => Bytes::copy_from_slice(&ip.octets()),
            Self::V6(ip) => Bytes::copy_from_slice(&ip.octets()),
        }
    }

    fn take(wire: Bytes) -> Result<Self, Invalid> {
        if let Ok(octets) = <[u8; 4]>::try_from(wire.as_ref()) {
            return Ok(octets.into());
        }
        match <[u8; 16]>::try_from(wire.as_ref()) {
            Ok(octets) => Ok(octets.into()),
            Err(_) => Err(Invalid::new(format!("an address has 4 or 16 bytes, not {}", wire.len()))),
        }
    }
}

/// A body.
impl Field<Bytes> for Vec<u8> {
    fn put(&self) -> Bytes {
        Bytes::copy_from_slice(self)
    }

    fn take(wire: Bytes) -> Result<Self, Invalid> {
        match wire.len() <= BODY_BYTES_MAX {
            true => Ok(wire.to_vec()),
            false => Err(Invalid::new(format!("has {} bytes, more than {BODY_BYTES_MAX}", wire.len()))),
        }
    }
}

impl<T: Field<P>, P> Field<P> for Arc<T> {
    fn put(&self) -> P {
        T::put(self)
    }

    fn take(wire: P) -> Result<Self, Invalid> {
        T::take(wire).map(Self::new)
    }
}

impl<T: Field<P>, P> Field<Option<P>> for Option<T> {
    fn put(&self) -> Option<P> {
        self.as_ref().map(Field::put)
    }

    fn take(wire: Option<P>) -> Result<Self, Invalid> {
        wire.map(Field::take).transpose()
    }
}

impl<T: Field<P>, P> Field<Vec<P>> for Vec<T> {
    fn put(&self) -> Vec<P> {
        self.iter().map(Field::put).collect()
    }

    fn take(wire: Vec<P>) -> Result<Self, Invalid> {
        count(wire.len())?;
        let item = |(index, wire)| T::take(wire).map_err(|error| error.within(format_args!("[{index}]")));
        wire.into_iter().enumerate().map(item).collect()
    }
}

impl<K, V, KP, VP> Field<BTreeMap<KP, VP>> for BTreeMap<K, V>
where
    K: Field<KP> + Ord,
    V: Field<VP>,
    KP: Ord + std::fmt::Display,
{
    fn put(&self) -> BTreeMap<KP, VP> {
        self.iter().map(|(key, value)| (key.put(), value.put())).collect()
    }

    fn take(wire: BTreeMap<KP, VP>) -> Result<Self, Invalid> {
        count(wire.len())?;
        let mut map = Self::new();
        for (key, value) in wire {
            let place = format!("[{key}]");
            let value = V::take(value).map_err(|error| error.within(&place))?;
            map.insert(K::take(key).map_err(|error| error.within(&place))?, value);
        }
        Ok(map)
    }
}

fn count(items: usize) -> Result<(), Invalid> {
    if items <= ITEMS_MAX { Ok(()) } else { Err(Invalid::new(format!("has {items} items, more than {ITEMS_MAX}"))) }
}
