//! HTTP as a proxy sees it: messages, their bodies, and the headers that belong to one hop only.
//!
//! hyper parses and writes the bytes; what it leaves to a proxy is here. Nothing in this folder knows where a request
//! goes. In the order in which a request meets them: [`limits`] bound what a peer can send, [`exec`] lets hyper run on a
//! single-threaded worker, [`head`] validates a request's head, [`hop`] removes what was meant for this hop,
//! [`hygiene`] removes what a peer has no right to say, [`replay`] keeps a body for another attempt, [`body`] counts what
//! passes, [`local`] writes the answers that the proxy gives itself, and [`serve`] serves one client.

pub(crate) mod body;
pub(crate) mod exec;
pub(crate) mod head;
pub(crate) mod hop;
pub(crate) mod hygiene;
pub(crate) mod limits;
pub(crate) mod local;
pub(crate) mod replay;
pub(crate) mod serve;
