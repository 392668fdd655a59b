//! From a worker's buffer to the log file: batches, written by a thread of their own, dropped rather than waited for.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use mesh_core::config::AccessLog;
use tracing::warn;

use super::access::{Line, write};
use super::exposition::Metrics;

/// Bytes after which a batch is handed to the writer.
const BATCH_BYTES: usize = 32 * 1024;
/// Time after which a batch is handed to the writer.
pub(crate) const FLUSH_INTERVAL: Duration = Duration::from_millis(100);
/// Batches that wait for the writer, of all workers together.
const BATCHES_MAX: usize = 64;
/// Files that are held open.
const FILES_MAX: usize = 4;

struct Batch {
    file: Arc<str>,
    lines: u64,
    bytes: Vec<u8>,
}

/// The way to the writer thread; a clone for each worker.
#[derive(Clone)]
pub(crate) struct Sink {
    batches: SyncSender<Batch>,
    metrics: Arc<Metrics>,
}

impl Sink {
    /// Starts the writer thread. It ends when the last clone of the sink is gone.
    ///
    /// # Errors
    /// If the system has no thread to give.
    pub(crate) fn start(metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let (batches, received) = sync_channel(BATCHES_MAX);
        let counted = Arc::clone(&metrics);
        std::thread::Builder::new().name("access-log".into()).spawn(move || write_all(&received, &counted))?;
        Ok(Self { batches, metrics })
    }
}

fn write_all(batches: &Receiver<Batch>, metrics: &Metrics) {
    let mut files: HashMap<Arc<str>, File> = HashMap::new();
    while let Ok(batch) = batches.recv() {
        let written = open(&mut files, &batch.file).and_then(|file| file.write_all(&batch.bytes));
        let counter = match written {
            Ok(()) => &metrics.own.log_lines,
            Err(error) => {
                if files.remove(&batch.file).is_some() {
                    warn!(file = %batch.file, %error, "the access log cannot be written; lines are lost");
                }
                &metrics.own.log_lines_lost
            }
        };
        counter.fetch_add(batch.lines, Ordering::Relaxed);
    }
}

fn open<'f>(files: &'f mut HashMap<Arc<str>, File>, path: &Arc<str>) -> std::io::Result<&'f mut File> {
    if !files.contains_key(path) {
        if files.len() >= FILES_MAX {
            files.clear();
        }
        let file = File::options().append(true).create(true).open(&**path)?;
        files.insert(Arc::clone(path), file);
    }
    files.get_mut(path).ok_or_else(|| std::io::ErrorKind::NotFound.into())
}

/// One worker's lines.
pub(crate) struct Buffer {
    sink: Sink,
    pending: RefCell<Pending>,
}

#[derive(Default)]
struct Pending {
    file: Option<Arc<str>>,
    lines: u64,
    bytes: Vec<u8>,
}

impl Buffer {
    /// An empty buffer.
    pub(crate) fn new(sink: Sink) -> Self {
        Self { sink, pending: RefCell::default() }
    }

    /// Adds a line to the log that is configured.
    pub(crate) fn add(&self, log: &AccessLog, line: &Line<'_>) {
        let mut pending = self.pending.borrow_mut();
        if pending.file.as_deref() != Some(&*log.file) {
            self.hand_over(&mut pending);
            pending.file = Some(log.file.as_str().into());
        }
        write(&mut pending.bytes, log.format, line);
        pending.lines += 1;
        if pending.bytes.len() >= BATCH_BYTES {
            self.hand_over(&mut pending);
        }
    }

    /// Hands over what is there. Called every [`FLUSH_INTERVAL`].
    pub(crate) fn flush(&self) {
        self.hand_over(&mut self.pending.borrow_mut());
    }

    fn hand_over(&self, pending: &mut Pending) {
        let (Some(file), true) = (&pending.file, pending.lines > 0) else { return };
        // One allocation per batch; the writer has the old buffer.
        let bytes = std::mem::replace(&mut pending.bytes, Vec::with_capacity(BATCH_BYTES + 4096));
        let batch = Batch { file: Arc::clone(file), lines: pending.lines, bytes };
        pending.lines = 0;
        if let Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) = self.sink.batches.try_send(batch) {
            self.sink.metrics.own.log_lines_lost.fetch_add(batch.lines, Ordering::Relaxed);
            // The buffer stays ours.
            pending.bytes = batch.bytes;
            pending.bytes.clear();
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.flush();
    }
}
