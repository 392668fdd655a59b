//! Bookinfo: a web page made by four small services, with the names, ports and answers' shapes of the classical demo,
//! so that routing files written for it apply unchanged.
//!
//! `productpage` asks `details` and `reviews`; versions 2 and 3 of `reviews` ask `ratings`. Every service hands the
//! trace headers of its request on to what it asks.

pub(crate) mod details;
mod login;
mod page;
mod passing;
pub(crate) mod productpage;
pub(crate) mod ratings;
pub(crate) mod reviews;
mod upstream;

#[cfg(test)]
mod tests;

/// The port that all services listen on unless told otherwise.
const PORT: u16 = 9080;

/// The number of a book in a path: the classical routes take whole numbers only.
fn book_id(text: &str) -> Option<u64> {
    text.parse().ok()
}
