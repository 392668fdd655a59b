//! The way to a destination: connect, prove who is there, pool, and say what a failure proves.
//!
//! Used by both directions: [`outbound`](crate::outbound) goes to other workloads, [`inbound`](crate::inbound) to the
//! pod's own application. [`target`] is where to, [`resolve`] finds the address of a name, [`dial`] makes a [`connection`], [`pool`] keeps connections for one worker,
//! [`http1`] and [`http2`] drive them through hyper, [`failure`] says whether a request was provably unsent, [`io`] and
//! [`copy`] are the bytes, [`tcp_info`] asks the kernel what the other side has acknowledged.

pub(crate) mod connection;
pub(crate) mod copy;
pub(crate) mod dial;
pub(crate) mod failure;
pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod io;
pub(crate) mod pool;
pub(crate) mod resolve;
pub(crate) mod target;
pub(crate) mod tcp_info;
