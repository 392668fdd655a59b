//! What a destination's port has turned out to speak: only what silence on it means, never what bytes are.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;

use mesh_core::detect::Memory;

/// Ports that one worker remembers; when there are more, all are forgotten.
const PORTS_MAX: usize = 1024;

/// One worker's memory, by address and port.
#[derive(Debug, Default)]
pub(crate) struct Memories(RefCell<HashMap<SocketAddr, Memory>>);

impl Memories {
    /// What is remembered.
    pub(crate) fn get(&self, port: SocketAddr) -> Memory {
        self.0.borrow().get(&port).copied().unwrap_or_default()
    }

    /// A response's head was parsed: the port speaks HTTP.
    pub(crate) fn answered_http(&self, port: SocketAddr) {
        self.set(port, Memory::Http);
    }

    /// The server spoke first. Bytes that begin as an HTTP response prove nothing.
    pub(crate) fn spoke_first(&self, port: SocketAddr, bytes: &[u8]) {
        if !bytes.starts_with(b"HTTP/") {
            self.set(port, Memory::ServerFirst);
        }
    }

    fn set(&self, port: SocketAddr, memory: Memory) {
        let mut ports = self.0.borrow_mut();
        if ports.get(&port) == Some(&memory) {
            return;
        }
        if ports.len() >= PORTS_MAX {
            ports.clear();
        }
        ports.insert(port, memory);
    }
}
