//! One pod: its namespaces, its containers' processes, their files, and the order in which they start and end.
//!
//! [`helper`] is what runs in the re-executed program, on the far side of a namespace; [`root`] builds what a container
//! sees as its file system; everything else runs in the supervisor: [`process`] starts and signals processes,
//! [`context`] says what is known about a pod, [`volumes`] fills volumes, [`mod@env`] computes environments, [`probe`] asks a container how it is, [`container`] keeps
//! one container running while [`watch`] asks its probes, and [`lifecycle`] is the pod's story from start to end.

pub(crate) mod container;
pub(crate) mod context;
pub(crate) mod env;
pub(crate) mod helper;
pub(crate) mod lifecycle;
pub(crate) mod probe;
pub(crate) mod process;
pub(crate) mod root;
pub(crate) mod status;
pub(crate) mod volumes;
pub(crate) mod watch;
