//! Where objects come from. One trait, so that a directory of files and (later) Kubernetes' API server feed the same
//! index with the same events.

mod files;
mod saved;
mod tree;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use mesh_compile::ObjectRef;
use mesh_crd::{AnyObject, Positions};
use tokio::sync::{mpsc, oneshot};

pub(crate) use files::Files;

/// Barriers that may wait for the source.
pub(crate) const BARRIERS_MAX: usize = 16;

/// Answered once everything that was there when it was asked is published: what `meshctl sandbox apply` waits for.
pub(crate) type Barrier = oneshot::Sender<()>;

/// Batches of events that may wait between a source and the index.
pub(crate) const BATCHES_MAX: usize = 64;

/// An object with the places of its fields.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The object.
    pub(crate) object: AnyObject,
    /// Where its fields stand in its file.
    pub(crate) positions: Positions,
    /// Hash of what was written.
    pub(crate) digest: [u8; 32],
}

impl Loaded {
    pub(crate) fn reference(&self) -> ObjectRef {
        ObjectRef { kind: self.object.kind().to_owned(), key: self.object.key() }
    }
}

/// A file, or an object of a file, that is not used as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileProblem {
    /// The file.
    pub(crate) file: String,
    /// The line, from 1.
    pub(crate) line: u32,
    /// What is wrong, and what is used instead.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) fix: &'static str,
}

/// A change that a source saw.
#[derive(Debug)]
pub(crate) enum Event {
    /// An object is new or different.
    Apply(Arc<Loaded>),
    /// An object is the same, but stands elsewhere in its file.
    Moved(Arc<Loaded>),
    /// An object is gone.
    Remove(ObjectRef),
    /// The problems of the source itself, all of them.
    Files(Vec<FileProblem>),
    /// Everything that there was at the start has been delivered.
    Synced,
    /// Everything that was there when somebody asked has been delivered.
    Barrier(Barrier),
}

/// A place that objects come from.
pub(crate) trait Source: Send {
    /// Delivers what there is, then [`Event::Synced`], then changes; until the receiver is gone. For each of `barriers`
    /// it looks again at once, and passes it on behind what it found.
    fn run(
        self: Box<Self>,
        events: mpsc::Sender<Vec<Event>>,
        barriers: mpsc::Receiver<Barrier>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}
