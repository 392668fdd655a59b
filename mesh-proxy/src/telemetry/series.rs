//! Series of Istio's standard metrics: bounded in number, one shard per worker, merged on scrape.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::histogram::{Histogram, bump};
use super::labels::{Key, Outcome, Route};

/// Label sets that one proxy keeps by default; what comes after them is counted in the series `other`.
pub(crate) const SERIES_MAX: usize = 500;
/// One in so many of them may be of destinations that nobody described: their names are whatever the application asks
/// for, and must not crowd out the mesh's own.
const UNDESCRIBED_SHARE: usize = 2;
/// A series that nothing has counted in for so long may make room for a new one.
const IDLE_TIME: Duration = Duration::from_secs(15 * 60);
/// Handles that one worker keeps; when there are more, all are forgotten and found again.
const HANDLES_MAX: usize = 1024;

/// One worker's numbers of an HTTP series.
#[derive(Debug, Default)]
pub(crate) struct HttpNumbers {
    pub(crate) requests: AtomicU64,
    pub(crate) duration_ms: Histogram,
    pub(crate) request_bytes: Histogram,
    pub(crate) response_bytes: Histogram,
    /// gRPC messages.
    pub(crate) request_messages: AtomicU64,
    pub(crate) response_messages: AtomicU64,
}

/// One worker's numbers of a TCP series.
#[derive(Debug, Default)]
pub(crate) struct TcpNumbers {
    pub(crate) opened: AtomicU64,
    pub(crate) closed: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
}

/// What one finished request adds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestSample {
    pub(crate) duration: Duration,
    /// Head and body.
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    pub(crate) request_messages: u64,
    pub(crate) response_messages: u64,
}

impl HttpNumbers {
    /// Counts a finished request. Only the worker that owns the shard may.
    pub(crate) fn add(&self, sample: &RequestSample) {
        bump(&self.requests, 1);
        self.duration_ms.observe(sample.duration.as_secs_f64() * 1000.0);
        self.request_bytes.observe(sample.request_bytes as f64);
        self.response_bytes.observe(sample.response_bytes as f64);
        bump(&self.request_messages, sample.request_messages);
        bump(&self.response_messages, sample.response_messages);
    }
}

impl TcpNumbers {
    /// Adds to the bytes that passed.
    pub(crate) fn add_bytes(&self, sent: u64, received: u64) {
        bump(&self.sent_bytes, sent);
        bump(&self.received_bytes, received);
    }

    /// Counts an opened connection.
    pub(crate) fn open(&self) {
        bump(&self.opened, 1);
    }

    /// Counts a closed connection.
    pub(crate) fn close(&self) {
        bump(&self.closed, 1);
    }
}

/// One label set with its numbers, a shard for each worker.
#[derive(Debug)]
pub(crate) struct Series<N> {
    pub(crate) key: Key,
    pub(crate) shards: Box<[N]>,
    /// Seconds since the family was made.
    used: AtomicU64,
}

/// All series of one kind.
#[derive(Debug)]
pub(crate) struct Family<N> {
    workers: usize,
    series_max: usize,
    begun: Instant,
    series: Mutex<HashMap<Key, Arc<Series<N>>>>,
    /// Grows when there was no room: workers then forget their handles, so that idle series can go.
    pressure: AtomicU64,
    /// Samples that went to `other`.
    pub(crate) overflown: AtomicU64,
}

impl<N: Default> Family<N> {
    /// A family for so many workers, with at most `series_max` label sets.
    pub(crate) fn new(workers: usize, series_max: usize) -> Self {
        let (series, pressure, overflown) = (Mutex::default(), AtomicU64::new(0), AtomicU64::new(0));
        Self { workers, series_max, begun: Instant::now(), series, pressure, overflown }
    }

    /// All series at this moment.
    pub(crate) fn snapshot(&self) -> Vec<Arc<Series<N>>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The series of a label set, or `other` where there are too many. Takes a lock: once per new label set and worker.
    fn resolve(&self, key: Key) -> Arc<Series<N>> {
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = all.get(&key) {
            return Arc::clone(found);
        }
        // From the share on, so that idle series of a flood make room for new names.
        if all.len() >= self.series_max / UNDESCRIBED_SHARE {
            let now = self.begun.elapsed().as_secs();
            // Nobody but the map holds a series that can go: a counter never loses what its owner adds.
            all.retain(|_, series| {
                let idle = now.saturating_sub(series.used.load(Ordering::Relaxed)) >= IDLE_TIME.as_secs();
                Arc::strong_count(series) > 1 || !idle
            });
        }
        let is_undescribed = |key: &Key| key.as_ref().is_some_and(|(route, _)| route.is_undescribed());
        let too_many_undescribed = is_undescribed(&key)
            && all.keys().filter(|key| is_undescribed(key)).count() >= self.series_max / UNDESCRIBED_SHARE;
        let key = if all.len() >= self.series_max || too_many_undescribed { None } else { key };
        if key.is_none() {
            let minute = self.begun.elapsed().as_secs() / 60 + 1;
            self.pressure.store(minute, Ordering::Relaxed);
        }
        let made = || {
            let shards = (0..self.workers).map(|_| N::default()).collect();
            Arc::new(Series { key: key.clone(), shards, used: AtomicU64::new(0) })
        };
        Arc::clone(all.entry(key.clone()).or_insert_with(made))
    }
}

/// One worker's way to its shard of a family.
#[derive(Debug)]
pub(crate) struct Recorder<N> {
    family: Arc<Family<N>>,
    worker: usize,
    handles: RefCell<Handles<N>>,
    routes: RefCell<HashMap<Route, Arc<Route>>>,
}

/// A label set found before, by the address of its interned route (which the value keeps alive).
type HandleKey = (usize, Outcome);

#[derive(Debug)]
struct Handles<N> {
    pressure: u64,
    found: HashMap<HandleKey, (Arc<Route>, Arc<Series<N>>)>,
}

impl<N: Default> Recorder<N> {
    /// The recorder of one worker.
    pub(crate) fn new(family: Arc<Family<N>>, worker: usize) -> Self {
        let handles = RefCell::new(Handles { pressure: 0, found: HashMap::new() });
        Self { family, worker, handles, routes: RefCell::default() }
    }

    /// Interns the labels of a destination. Resolve once, keep the handle.
    pub(crate) fn route(&self, route: Route) -> Arc<Route> {
        let mut routes = self.routes.borrow_mut();
        if let Some(known) = routes.get(&route) {
            return Arc::clone(known);
        }
        if routes.len() >= HANDLES_MAX {
            routes.clear();
        }
        let interned = Arc::new(route.clone());
        routes.insert(route, Arc::clone(&interned));
        interned
    }

    /// Adds to this worker's numbers of a series.
    pub(crate) fn with(&self, route: &Arc<Route>, outcome: Outcome, add: impl FnOnce(&N)) {
        let mut handles = self.handles.borrow_mut();
        let pressure = self.family.pressure.load(Ordering::Relaxed);
        if handles.found.len() >= HANDLES_MAX || handles.pressure != pressure {
            handles.found.clear();
            handles.pressure = pressure;
        }
        let (_, series) = handles
            .found
            .entry((Arc::as_ptr(route) as usize, outcome))
            .or_insert_with(|| (Arc::clone(route), self.family.resolve(Some((Arc::clone(route), outcome)))));
        if series.key.is_none() {
            self.family.overflown.fetch_add(1, Ordering::Relaxed);
        }
        series.used.store(self.family.begun.elapsed().as_secs(), Ordering::Relaxed);
        add(&series.shards[self.worker]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::labels::{Protocol, Reporter, Security};
    use super::super::peer::Peer;
    use super::*;

    fn route(service: &str) -> Route {
        let unknown = Arc::new(Peer::unknown());
        Route {
            reporter: Reporter::Source,
            source: Arc::clone(&unknown),
            destination: unknown,
            service: service.into(),
            service_name: service.into(),
            service_namespace: "default".into(),
            protocol: Protocol::Tcp,
            security: Security::Unknown,
        }
    }

    const OUTCOME: Outcome = Outcome { code: None, grpc: None, flags: "" };

    #[test]
    fn workers_count_apart_and_are_read_together() {
        let family = Arc::new(Family::<TcpNumbers>::new(2, SERIES_MAX));
        for worker in 0..2 {
            let recorder = Recorder::new(Arc::clone(&family), worker);
            let reviews = recorder.route(route("reviews"));
            recorder.with(&reviews, OUTCOME, TcpNumbers::open);
            recorder.with(&reviews, OUTCOME, |numbers| numbers.add_bytes(3, 4));
        }
        let all = family.snapshot();
        assert_eq!(all.len(), 1);
        let sent: u64 = all[0].shards.iter().map(|shard| shard.sent_bytes.load(Ordering::Relaxed)).sum();
        assert_eq!(sent, 6);
    }

    #[test]
    fn names_that_nobody_described_leave_room_for_the_meshs_own() {
        let family = Arc::new(Family::<TcpNumbers>::new(1, 8));
        let recorder = Recorder::new(Arc::clone(&family), 0);
        for number in 0..100 {
            let name = format!("random-{number}.example");
            let route =
                Route { service: name.into(), service_name: crate::telemetry::labels::PASSTHROUGH.into(), ..route("") };
            recorder.with(&recorder.route(route), OUTCOME, TcpNumbers::open);
        }
        let reviews = recorder.route(route("reviews"));
        recorder.with(&reviews, OUTCOME, TcpNumbers::open);
        let all = family.snapshot();
        assert_eq!(all.len(), 4 + 1 + 1, "half, the others as one, and ours");
        assert!(all.iter().any(|series| series.key.as_ref().is_some_and(|(route, _)| &*route.service == "reviews")));
    }

    #[test]
    fn too_many_series_are_counted_as_other() {
        let family = Arc::new(Family::<TcpNumbers>::new(1, 3));
        let recorder = Recorder::new(Arc::clone(&family), 0);
        for number in 0..10 {
            let service = recorder.route(route(&format!("s{number}")));
            recorder.with(&service, OUTCOME, TcpNumbers::open);
        }
        let all = family.snapshot();
        assert_eq!(all.len(), 4);
        assert_eq!(family.overflown.load(Ordering::Relaxed), 7);
        let other = all.iter().find(|series| series.key.is_none()).unwrap();
        assert_eq!(other.shards[0].opened.load(Ordering::Relaxed), 7);
    }
}
