//! HOSTS: pods as network namespaces on one Linux machine, behind `meshctl sandbox` and the test world.
//!
//! Ordinary Kubernetes manifests run as local processes in namespaces of their own. This crate plays the parts of API
//! server, controllers, scheduler, kubelet, kube-proxy and cluster DNS, each as small as it can be; the mesh in it is
//! the real one: the same injector, redirect rules, proxy and control plane as on a cluster.
//!
//! In the order in which a manifest travels: [`objects`] reads it, `agent` (the supervisor) keeps it and decides what
//! should run, `pod` runs it, [`net`] and [`dns`] connect it. [`client`] is the side of `meshctl`.
//!
//! The machine's own network namespace gets no interface, no route, no rule and no setting, and its mount table no entry:
//! all of that exists in namespaces that end with the supervisor. Only the state folder ([`paths`]) outlives a crash, and
//! [`client::down`] removes it.

pub mod client;
pub mod dns;
pub mod images;
pub mod names;
pub mod net;
pub mod objects;
pub mod paths;
pub mod protocol;
pub mod token;

mod agent;
mod pod;

pub use agent::run;
pub use pod::helper::dispatch;

/// In an image's command: the program that is running now (`meshctl` itself).
pub(crate) const SELF_PROGRAM: &str = "@self";
