//! Connections that the pod's application makes: what is behind the address, which way the request goes, and who must
//! answer.
//!
//! [`connection`] begins with a captured connection, [`place`] finds what its address means and [`named`] what its host
//! does, [`http`] serves requests (open `http::serve_request` first), [`plan`] asks the routes, [`attempts`] tries
//! endpoints and [`attempt`] says what became of one, [`edits`] are the author's changes of headers and direct answers,
//! [`tcp`] passes bytes, and [`labels`] are the series.

mod attempt;
mod attempts;
mod connection;
mod edits;
mod http;
mod labels;
mod named;
mod place;
mod plan;
mod tcp;
#[cfg(test)]
mod tests;

pub(crate) use connection::serve;
#[cfg(test)]
pub(crate) use connection::serve_meant_for;
pub(crate) use labels::Known;
