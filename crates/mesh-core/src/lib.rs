//! PURE: every decision the mesh makes about traffic. No IO, no clock, no Kubernetes, no protobuf.
//!
//! Decisions are functions over values; `now` and randomness are arguments. What the control plane validates, the proxy
//! runs and `meshctl` explains is this same code. The modules, in the order in which a connection meets them:
//!
//! | module | decides |
//! |---|---|
//! | [`destination`] | what a captured connection's original destination means; host names |
//! | [`sniff`], [`detect`] | what the first bytes are, and what is done about it |
//! | [`path`] | the one form of a path that is authorized and forwarded |
//! | [`authz`] | who may |
//! | [`route`] | where a request or connection goes |
//! | [`fault`] | whether it is delayed or aborted on purpose |
//! | [`balance`], [`limits`], [`outlier`] | which endpoint gets it, if any may |
//! | [`retry`] | whether a failed attempt is worth another |
//! | [`reason`] | what to call a failure that we made, whose it is, and what to do next |
//!
//! [`config`] is the model that all of them are compiled from; [`request`], [`time`] and [`matching`] are their words.

pub mod authz;
pub mod balance;
pub mod config;
pub mod destination;
pub mod detect;
pub mod fault;
pub mod identity;
pub mod limits;
pub mod matching;
pub mod outlier;
pub mod path;
pub mod reason;
pub mod request;
pub mod retry;
pub mod route;
pub mod sniff;
pub mod time;
