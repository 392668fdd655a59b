//! Configuration: from the control plane's stream to the snapshot that the data path reads.
//!
//! ```text
//! stream ──resources──▶ store ──next View──▶ Views ◀──load()── workers
//!   ▲ subscribe           ▲ ask(key)                              │
//!   └─────────────────────┴────────────── Discovery ◀──resolve()──┘
//! ```
//!
//! One task on the admin thread owns the store and is the only writer. The data path knows two things of this folder:
//!
//! - [`Views::load`] gives the [`View`] of now. Load once per connection or request, keep it, read it without locks:
//!   [`View::address`], [`View::host`], [`View::service`], [`View::routes`], [`View::cluster`], [`View::inbound`],
//!   [`View::settings`]. An answer is in the view only when everything that it leads to is.
//! - [`Discovery::resolve_address`] and [`Discovery::resolve_host`] wait (at most 2 s) for what the view does not hold and
//!   give the view that does. Their error is the reason `discovery_unavailable`.
//!
//! While a connection or pool lives, it keeps [`view::Held::hold`] of the key through which it was found, so that what it uses is
//! not forgotten. State that workers share about endpoints and destinations ([`Cluster`]) outlives views.

mod cluster;
mod discovery;
mod keys;
mod saved;
mod store;
mod stream;
#[cfg(test)]
pub(crate) mod testing;
mod view;
mod writer;

pub(crate) use cluster::Cluster;
pub(crate) use discovery::Discovery;
pub(crate) use keys::KeyHold;
pub(crate) use saved::write_file;
pub(crate) use view::{InboundView, ServiceView, View, Views};
pub(crate) use writer::Writer;
