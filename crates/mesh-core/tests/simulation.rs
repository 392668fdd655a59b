//! A small world with a virtual clock: clients, endpoints that fail and recover, and the mesh's decisions between them.
//!
//! Everything random comes from one seed, which is printed; `MESH_SIMULATION_SEED=n cargo test -p mesh-core --test
//! simulation` repeats a world. What must hold in every world is asserted at every step: retries stay within their
//! budget, a request that is provably unsent is not given up early, a POST is executed at most once, and ejection stays
//! within its bounds.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use mesh_core::balance::{LoadBalancer, Plan};
use mesh_core::config::{
    Balancer, Endpoint, Health, Locality, OutlierDetection, ProxyKind, RetryOn, RetryPolicy, TrafficPolicy, Workload,
};
use mesh_core::limits::{Budget, Circuit, Guard, Limit, RetryPermit};
use mesh_core::outlier::{Active, EndpointState, Outcome, Pool, observe, sweep};
use mesh_core::retry::{Attempt, Next, Retry, Unsent, Verdict, is_idempotent};
use mesh_core::time::Millis;

/// How an endpoint behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Well,
    /// Nobody listens.
    Down,
    /// Answers 503 after having executed the request.
    Failing,
    /// Executes the request, then resets the connection.
    Resetting,
    /// Says that the request was not processed, because its application is ending.
    Ending,
}

#[derive(Debug)]
struct Request {
    method: &'static str,
    attempts: u32,
    tried: Vec<u32>,
    executions: u32,
    _active: Option<Guard>,
    permit: Option<RetryPermit>,
}

#[derive(Debug)]
enum Event {
    Arrives,
    /// An attempt begins.
    Begins(usize),
    /// An attempt at a member ends so.
    Ends(usize, u32, Mood),
    Turns,
    Sweeps,
}

struct World {
    rng: fastrand::Rng,
    now: Millis,
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: Vec<Option<Event>>,
    balancer: LoadBalancer,
    moods: Vec<Mood>,
    outlier: OutlierDetection,
    budget: Budget,
    circuit: Arc<Circuit>,
    retry: Retry,
    limits: mesh_core::config::CircuitLimits,
    requests: Vec<Request>,
    working: BTreeMap<usize, Active>,
    delivered: Delivered,
}

/// How requests ended.
#[derive(Debug, Default)]
struct Delivered {
    well: u32,
    failed: u32,
    unsent: u32,
    nowhere: u32,
    retries_paid: u32,
    ejections: u32,
}

fn endpoint(number: u8) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        uid: format!("uid-{number:03}").into(),
        addresses: vec![[10, 0, 0, number].into()],
        hostname: None,
        network: String::new(),
        locality: Locality::default(),
        identity: None,
        labels: BTreeMap::new(),
        ports: BTreeMap::from([(80, 8080)]),
        health: Health::Healthy,
        weight: 1,
        proxy: ProxyKind::Mesh,
        mesh_tls: true,
        plaintext_ports: Vec::new(),
        workload: Workload::default(),
    })
}

impl World {
    fn new(seed: u64, endpoints: u8) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let outlier = OutlierDetection {
            consecutive_5xx: rng.u32(1..6),
            consecutive_gateway_errors: rng.u32(0..4),
            consecutive_local_failures: 5,
            split_local_errors: rng.bool(),
            interval: Duration::from_secs(1),
            base_ejection_time: Duration::from_secs(rng.u64(1..5)),
            max_ejection_percent: rng.u32(0..101),
            min_health_percent: 0,
        };
        let balancer = [Balancer::LeastRequest, Balancer::RoundRobin, Balancer::Random][rng.usize(0..3)].clone();
        let policy = TrafficPolicy { balancer, outlier: Some(outlier), ..TrafficPolicy::default() };
        let endpoints: Vec<_> = (0..endpoints).map(endpoint).collect();
        let (none, locality) = (BTreeMap::new(), Locality::default());
        let plan = Plan {
            endpoints: &endpoints,
            port: 80,
            subset: &none,
            policy: &policy,
            locality: &locality,
            labels: &none,
            prefer_v6: false,
            seed,
        };
        let on = RetryOn { server_error: true, reset: true, ..RetryOn::default() };
        Self {
            balancer: LoadBalancer::build(&plan, Arc::<Pool>::default(), |_| Arc::<EndpointState>::default()),
            moods: vec![Mood::Well; endpoints.len()],
            rng,
            now: Millis(0),
            queue: BinaryHeap::new(),
            events: Vec::new(),
            outlier,
            budget: Budget::of(&policy),
            circuit: Arc::default(),
            retry: Retry::compile(&RetryPolicy { on, ..RetryPolicy::default() }),
            limits: policy.pool.limits,
            requests: Vec::new(),
            working: BTreeMap::new(),
            delivered: Delivered::default(),
        }
    }

    fn plan(&mut self, after: u64, event: Event) {
        let number = self.events.len();
        self.events.push(Some(event));
        self.queue.push(Reverse((self.now.0 + after, number as u64, number)));
    }

    /// Runs until nothing happens any more; new requests come until `until`, and moods change if they do.
    fn run(&mut self, until: Millis, changing: bool) {
        self.plan(0, Event::Arrives);
        self.plan(1000, Event::Sweeps);
        if changing {
            self.plan(100, Event::Turns);
        }
        while let Some(Reverse((time, _, number))) = self.queue.pop() {
            assert!(time >= self.now.0, "time never goes back");
            self.now = Millis(time);
            let goes_on = self.now < until;
            match self.events[number].take().expect("every event happens once") {
                Event::Arrives if goes_on => self.arrives(),
                Event::Turns if goes_on => self.turns(),
                Event::Sweeps if goes_on => {
                    sweep(self.balancer.members().iter().map(|member| &*member.state), self.balancer.pool(), self.now);
                    self.plan(1000, Event::Sweeps);
                }
                Event::Arrives | Event::Turns | Event::Sweeps => {}
                Event::Begins(request) => self.begins(request),
                Event::Ends(request, member, mood) => self.ends(request, member, mood),
            }
            self.bounds_hold();
        }
    }

    fn arrives(&mut self) {
        let method = if self.rng.bool() { "GET" } else { "POST" };
        let active = self.circuit.enter(Limit::Requests, &self.limits);
        self.requests.push(Request {
            method,
            attempts: 0,
            tried: vec![],
            executions: 0,
            _active: active,
            permit: None,
        });
        self.plan(0, Event::Begins(self.requests.len() - 1));
        let pause = self.rng.u64(0..4);
        self.plan(pause, Event::Arrives);
    }

    /// One endpoint changes its mood; more often for the better, and at times all of them at once.
    fn turns(&mut self) {
        let moods =
            [Mood::Well, Mood::Well, Mood::Well, Mood::Down, Mood::Failing, Mood::Resetting, Mood::Ending, Mood::Well];
        let mood = moods[self.rng.usize(0..moods.len())];
        if self.rng.u8(0..10) == 0 {
            self.moods.fill(mood);
        } else {
            let index = self.rng.usize(0..self.moods.len());
            self.moods[index] = mood;
        }
        let pause = self.rng.u64(20..300);
        self.plan(pause, Event::Turns);
    }

    fn begins(&mut self, number: usize) {
        self.requests[number].attempts += 1;
        let tried = &self.requests[number].tried;
        let Ok(picked) = self.balancer.pick(None, tried, self.now, &mut self.rng) else {
            let all_out = self.balancer.members().iter().all(|member| member.state.is_ejected(self.now));
            assert!(all_out, "there is always an endpoint, unless all are ejected");
            self.delivered.nowhere += 1;
            return self.forget(number);
        };
        assert!(!picked.member.state.is_ejected(self.now), "what is ejected is not picked");
        let usable = |index: &u32| !self.balancer.members()[*index as usize].state.is_ejected(self.now);
        let fresh = (0..self.moods.len() as u32).filter(usable).any(|index| !tried.contains(&index));
        assert_eq!(picked.again, !fresh, "another attempt goes elsewhere, if there is an elsewhere");
        let index = picked.index;
        self.working.insert(number, picked.member.state.begin());
        self.requests[number].tried.push(index);
        let mood = self.moods[index as usize];
        let takes = if mood == Mood::Down { 1 } else { self.rng.u64(1..60) };
        self.plan(takes, Event::Ends(number, index, mood));
    }

    fn ends(&mut self, number: usize, member: u32, mood: Mood) {
        self.working.remove(&number);
        let (verdict, outcome) = match mood {
            Mood::Well => (Verdict::Answered { status: 200, grpc: None }, Outcome::Status(200)),
            Mood::Failing => (Verdict::Answered { status: 503, grpc: None }, Outcome::Status(503)),
            Mood::Resetting => (Verdict::Lost, Outcome::LocalFailure),
            Mood::Down => (Verdict::Unsent(Unsent::ConnectFailed), Outcome::LocalFailure),
            Mood::Ending => (Verdict::Unsent(Unsent::PeerSaysUnsent), Outcome::Status(503)),
        };
        let unsent = matches!(verdict, Verdict::Unsent(_));
        let request = &mut self.requests[number];
        request.executions += u32::from(!unsent);
        request.permit = None;
        let state = &self.balancer.members()[member as usize].state;
        let total = self.balancer.members().len();
        let ejection = observe(&self.outlier, state, self.balancer.pool(), outcome, total, self.now);
        self.delivered.ejections += u32::from(ejection.is_some());

        let idempotent = is_idempotent(request.method, false);
        let attempt = Attempt { number: request.attempts, replayable: true, idempotent, remaining: None };
        match self.retry.after(verdict, &attempt, &self.budget, &self.circuit, &mut self.rng) {
            Next::RetryAfter(pause, permit) => {
                assert!(unsent || idempotent, "a POST is not repeated on a guess");
                assert!(request.attempts <= 2, "two attempts beside the first");
                request.permit = Some(permit);
                self.delivered.retries_paid += u32::from(!unsent);
                let (paid, active) = (self.circuit.active(Limit::PaidRetries), self.circuit.active(Limit::Requests));
                assert!(unsent || paid <= self.budget.allowance(active), "{paid} retries of {active} requests");
                let pause = u64::try_from(pause.as_millis()).expect("a pause is short");
                assert!(pause <= 250);
                self.plan(pause, Event::Begins(number));
            }
            Next::Deliver => {
                assert!(!unsent || request.attempts == 3, "what is unsent is not given up early");
                match (mood, unsent) {
                    (Mood::Well, _) => self.delivered.well += 1,
                    (_, true) => self.delivered.unsent += 1,
                    (_, false) => self.delivered.failed += 1,
                }
                self.forget(number);
            }
        }
    }

    fn forget(&mut self, number: usize) {
        let request = &mut self.requests[number];
        assert!(request.method == "GET" || request.executions <= 1, "a POST is executed at most once");
        request._active = None;
        request.permit = None;
    }

    fn bounds_hold(&self) {
        let members = self.balancer.members();
        let ejected = members.iter().filter(|member| member.state.is_ejected(self.now)).count();
        let most = (members.len() * self.outlier.max_ejection_percent as usize / 100).max(1);
        assert!(ejected <= most, "{ejected} of {} are ejected, {most} may be", members.len());
    }
}

/// Runs a world, and prints its seed where something does not hold.
fn world(seed: u64, endpoints: u8) -> World {
    println!("MESH_SIMULATION_SEED={seed} endpoints={endpoints}");
    let mut world = World::new(seed, endpoints);
    world.run(Millis(10_000), true);
    println!("{:?}", world.delivered);
    world
}

fn seeds() -> Vec<u64> {
    match std::env::var("MESH_SIMULATION_SEED") {
        Ok(seed) => vec![seed.parse().expect("MESH_SIMULATION_SEED is a number")],
        Err(_) => (1..=40).collect(),
    }
}

#[test]
fn in_every_world_the_bounds_hold() {
    let mut totals = Delivered::default();
    for seed in seeds() {
        let world = world(seed, [1, 2, 3, 5, 10][(seed % 5) as usize]);
        let ended = &world.delivered;
        let requests = world.requests.len() as u32;
        assert_eq!(ended.well + ended.failed + ended.unsent + ended.nowhere, requests, "every request ends once");
        for limit in [Limit::Requests, Limit::Retries, Limit::PaidRetries] {
            assert_eq!(world.circuit.active(limit), 0, "{limit:?}: every place was given back");
        }
        assert!(world.balancer.members().iter().all(|member| member.state.active() == 0));
        totals.well += ended.well;
        totals.failed += ended.failed;
        totals.unsent += ended.unsent;
        totals.nowhere += ended.nowhere;
        totals.retries_paid += ended.retries_paid;
        totals.ejections += ended.ejections;
    }
    // Worlds in which nothing happens prove nothing.
    let happened = [totals.well, totals.failed, totals.unsent, totals.nowhere, totals.retries_paid, totals.ejections];
    assert!(std::env::var_os("MESH_SIMULATION_SEED").is_some() || happened.iter().all(|n| *n > 0), "{totals:?}");
    println!("{totals:?}");
}

#[test]
fn when_everything_fails_retries_stay_a_fraction() {
    for seed in seeds() {
        let mut world = World::new(seed, 5);
        world.moods.fill(Mood::Failing);
        world.outlier.consecutive_5xx = 0;
        world.outlier.consecutive_gateway_errors = 0;
        world.run(Millis(10_000), false);
        let (requests, retries) = (world.requests.len() as f64, f64::from(world.delivered.retries_paid));
        // About 20 requests are active, so the floor of 3 and the share of 20 % are near each other.
        assert!(retries / requests < 0.30, "seed {seed}: {retries} retries of {requests} requests");
        assert_eq!(world.delivered.well, 0);
    }
}

#[test]
fn one_endpoint_that_is_down_costs_nobody_a_request() {
    for seed in seeds() {
        let mut world = World::new(seed, 3);
        world.moods[1] = if seed % 2 == 0 { Mood::Down } else { Mood::Ending };
        world.run(Millis(5_000), false);
        let ended = &world.delivered;
        assert_eq!(ended.well as usize, world.requests.len(), "seed {seed}: {ended:?}");
    }
}
