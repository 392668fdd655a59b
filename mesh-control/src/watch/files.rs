//! The `files` source: a directory tree of Kubernetes objects in YAML or JSON.
//!
//! inotify on the directories (not the files: editors and volumes replace files by rename) wakes a scan; a slow poll
//! finds what inotify cannot see (network file systems, watches that ran out).

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use mesh_crd::document::FILE_BYTES_MAX;
use notify::{RecursiveMode, Watcher as _};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use super::saved::Saved;
use super::tree::{Taken, Tree};
use super::{Barrier, Event, FileProblem, Source};

/// How often the directory is scanned without being woken.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Quiet time after a wake, so that a file that is being written in place is read when complete.
const SETTLE: Duration = Duration::from_millis(5);
/// Every so many scans all files are read, whatever their metadata says.
const SCANS_PER_FULL_READ: u32 = 15;
/// Most files that are read.
const FILES_MAX: usize = 50_000;
/// Deepest folder.
const DEPTH_MAX: usize = 32;

/// A directory of files.
pub(crate) struct Files {
    root: PathBuf,
    saved: Saved,
    tree: Tree,
    seen: BTreeMap<String, Stamp>,
    scans: u32,
    reported: Vec<FileProblem>,
}

/// What tells a file's content from its last one without reading it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Files {
    /// Reads `root`; the last good contents lie in `state`.
    pub(crate) fn new(root: &Path, state: &Path) -> Self {
        Self {
            root: root.to_owned(),
            saved: Saved::new(state),
            tree: Tree::default(),
            seen: BTreeMap::new(),
            scans: 0,
            reported: Vec::new(),
        }
    }

    /// Reads what changed and says so.
    fn scan(&mut self) -> Vec<Event> {
        let full = self.scans.is_multiple_of(SCANS_PER_FULL_READ);
        self.scans = self.scans.wrapping_add(1);
        let (found, mut problems) = list(&self.root);
        for (path, stamp) in &found {
            if full || self.seen.get(path) != Some(stamp) {
                self.read(path);
            }
        }
        // A root that is gone for a moment (a volume that is being swapped) is not an order to forget everything.
        if problems.is_empty() {
            for path in self.tree.retain(|path| found.contains_key(path)) {
                self.saved.remove(&path);
            }
        }
        self.seen = found;
        let mut events = self.tree.changes();
        problems.extend(self.tree.problems());
        if problems != self.reported {
            for problem in problems.iter().filter(|problem| !self.reported.contains(problem)) {
                let place = format!("{}:{}", problem.file, problem.line);
                tracing::warn!(place, problem = problem.message, fix = problem.fix, "a file is not used as it stands");
            }
            self.reported = problems.clone();
            events.push(Event::Files(problems));
        }
        events
    }

    fn read(&mut self, path: &str) {
        let saved = || self.saved.read(path);
        match read_bounded(&self.root.join(path)) {
            Ok(content) => match self.tree.file(path, &content, saved) {
                Taken::Used => self.saved.write(path, &content),
                Taken::Same | Taken::Broken => {}
            },
            // Gone between listing and reading: the next scan knows.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => self.tree.unreadable(path, &error.to_string(), saved),
        }
    }
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    let mut content = String::new();
    let limit = FILE_BYTES_MAX as u64 + 1; // one more, so that the parser sees that it is too large
    std::fs::File::open(path)?.take(limit).read_to_string(&mut content)?;
    Ok(content)
}

impl Source for Files {
    fn run(
        self: Box<Self>,
        events: mpsc::Sender<Vec<Event>>,
        barriers: mpsc::Receiver<Barrier>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(follow(*self, events, barriers))
    }
}

async fn follow(mut files: Files, events: mpsc::Sender<Vec<Event>>, mut barriers: mpsc::Receiver<Barrier>) {
    let wake = Arc::new(Notify::new());
    let watcher = watch(&files.root, &wake);
    let mut first = true;
    let mut barrier = None;
    loop {
        // Files are read off the runtime's threads.
        let scanned = tokio::task::spawn_blocking(move || {
            let found = files.scan();
            (files, found)
        });
        let Ok((back, mut found)) = scanned.await else { return };
        files = back;
        if first {
            found.push(Event::Synced);
            first = false;
        }
        found.extend(barrier.take().map(Event::Barrier));
        if !found.is_empty() && events.send(found).await.is_err() {
            drop(watcher);
            return;
        }
        tokio::select! {
            woken = timeout(POLL_INTERVAL, wake.notified()) => {
                if woken.is_ok() {
                    tokio::time::sleep(SETTLE).await;
                }
            }
            // Whoever asks has written what he wants to be seen.
            asked = barriers.recv(), if !barriers.is_closed() => barrier = asked,
            () = events.closed() => return,
        }
    }
}

/// inotify on the tree. Without it the poll still works.
fn watch(root: &Path, wake: &Arc<Notify>) -> Option<notify::RecommendedWatcher> {
    let wake = Arc::clone(wake);
    let handler = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            wake.notify_one();
        }
    };
    let made = notify::recommended_watcher(handler).and_then(|mut watcher| {
        watcher.watch(root, RecursiveMode::Recursive)?;
        Ok(watcher)
    });
    match made {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(root = %root.display(), %error, "files are only polled: raise fs.inotify.max_user_watches");
            None
        }
    }
}

/// All `*.yaml`, `*.yml` and `*.json` files below `root`, by their path within it. Names that begin with a dot are
/// passed over: editors and volume mounts keep their own things there.
fn list(root: &Path) -> (BTreeMap<String, Stamp>, Vec<FileProblem>) {
    let mut found = BTreeMap::new();
    let mut problems = Vec::new();
    let mut visited = HashSet::new();
    let mut folders = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                let message = format!("the folder cannot be read: {error}; what was read from it stays");
                let fix = "make the folder readable";
                problems.push(FileProblem { file: folder.display().to_string(), line: 1, message, fix });
                continue;
            }
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
            // Follows symbolic links: that is how volumes are mounted.
            let Ok(metadata) = std::fs::metadata(&path) else { continue };
            if hidden {
                continue;
            }
            if metadata.is_dir() {
                if depth < DEPTH_MAX && visited.insert((metadata.dev(), metadata.ino())) {
                    folders.push((path, depth + 1));
                }
                continue;
            }
            let wanted = path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json");
            if !wanted || !metadata.is_file() {
                continue;
            }
            if found.len() == FILES_MAX {
                let message = format!("there are more than {FILES_MAX} files; the rest is not read");
                problems.push(FileProblem {
                    file: path.display().to_string(),
                    line: 1,
                    message,
                    fix: "put several objects into one file",
                });
                return (found, problems);
            }
            let stamp = Stamp {
                inode: metadata.ino(),
                bytes: metadata.len(),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
            };
            let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            found.insert(name, stamp);
        }
    }
    (found, problems)
}
