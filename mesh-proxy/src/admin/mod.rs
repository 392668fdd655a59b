//! The ports beside the data path: what operators, the kubelet and Prometheus ask a running proxy.
//!
//! | port | listens on | answers |
//! |---|---|---|
//! | 15000 | loopback only | what the proxy holds ([`dump`]), `/ready`, `/version`, `/stats/prometheus` |
//! | 15020 | all addresses | `/healthz/ready`, merged metrics ([`merge`]), the application's probes and hooks ([`probe`]) |
//! | 15021 | all addresses | `/healthz/ready` |
//! | 15090 | all addresses | `/stats/prometheus`, the proxy's own |
//!
//! All of it runs on the control thread, so that nothing here can slow a request, and everything is read only: what
//! changes the proxy's state is the Unix socket ([`crate::control_socket`]). No answer ever holds a key.
//!
//! [`ports`] says which port answers what, [`listen`] takes connections and bounds them, [`reply`] makes answers,
//! [`local`] tells requests of this machine's programs from those of a browser that was led here, [`ask`] is the client
//! side for probes and scrapes, [`metrics`] writes the proxy's own numbers.

mod ask;
mod dump;
mod listen;
mod local;
mod merge;
mod metrics;
mod ports;
mod probe;
mod reply;
#[cfg(test)]
mod tests;

pub(crate) use ports::{Admin, run};
