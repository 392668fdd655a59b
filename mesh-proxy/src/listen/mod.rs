//! Where connections come in: one thread per worker, each with its own listeners, and what one worker owns.
//!
//! [`workers`] starts and ends the threads, [`socket`] opens the listeners and reads where a connection was going,
//! [`accept`] takes connections and contains their failures, [`local`] is what all connections of one worker share.

pub(crate) mod accept;
pub(crate) mod local;
pub(crate) mod socket;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod workers;
