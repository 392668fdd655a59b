//! The ports beside the data path: admin 15000, merged metrics and probes 15020, health 15021, metrics 15090.
//!
//! (This list was restored by the helper of the data path, who had overwritten it by mistake; the folder's owner knows
//! better.)

mod ask;
mod dump;
mod listen;
mod local;
mod merge;
mod metrics;
mod ports;
mod probe;
mod reply;

pub(crate) use ports::{Admin, run};
