//! The composition root: what runs on which thread, and what each is handed.
//!
//! - The *control* thread (`current_thread` runtime) runs certificates, the configuration stream, admin, health and the
//!   control socket. None of it is on the path of a request.
//! - N *workers* (one thread and one single-threaded runtime each) run the data path: [`crate::listen::run`], which is
//!   handed a [`Worker`]. A panic ends the connection in which it happened: the data path catches it per connection.

use std::sync::Arc;

use mesh_tls::{ClientTls, ServerTls};

use crate::bootstrap::Bootstrap;
use crate::config::{Discovery, Views};
use crate::drain::DrainWatch;

/// What a worker of the data path is handed. Everything in it is shared and cheap to clone.
#[derive(Clone)]
pub(crate) struct Worker {
    /// Its number, from 0; workers never change while running.
    pub(crate) index: usize,
    /// How the process was set up.
    pub(crate) bootstrap: Arc<Bootstrap>,
    /// The configuration of now.
    pub(crate) views: Views,
    /// For what the view does not hold.
    pub(crate) discovery: Discovery,
    /// Makes configurations for mesh TLS to a peer whose identity is known.
    pub(crate) client_tls: ClientTls,
    /// Chooses the configuration for mesh TLS from a peer.
    pub(crate) server_tls: ServerTls,
    /// The end of life.
    pub(crate) drain: DrainWatch,
}
