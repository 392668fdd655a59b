//! What is tried again, how often, and after how long.

use super::*;
use crate::config::TrafficPolicy;
use crate::limits::Limit;

fn attempt(number: u32) -> Attempt {
    Attempt { number, replayable: true, idempotent: false, remaining: None }
}

/// Whether, and after how many milliseconds at most.
fn after(policy: &RetryPolicy, verdict: Verdict, attempt: &Attempt) -> Option<u128> {
    let (budget, circuit) = (Budget::of(&TrafficPolicy::default()), Arc::new(Circuit::default()));
    let pause = |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        match Retry::compile(policy).after(verdict, attempt, &budget, &circuit, &mut rng) {
            Next::Deliver => None,
            Next::RetryAfter(pause, _) => Some(pause.as_millis()),
        }
    };
    (0..200).map(pause).max().flatten()
}

const ALL_UNSENT: [Unsent; 8] = [
    Unsent::ConnectFailed,
    Unsent::ConnectTimeout,
    Unsent::TlsFailed,
    Unsent::NothingWritten,
    Unsent::RefusedStream,
    Unsent::GoAwayBelow,
    Unsent::ReusedFinUnacknowledged,
    Unsent::PeerSaysUnsent,
];

#[test]
fn what_is_provably_unsent_is_tried_again_whatever_the_method() {
    let default = RetryPolicy::default();
    for unsent in ALL_UNSENT {
        let verdict = Verdict::Unsent(unsent);
        assert!(after(&default, verdict, &attempt(1)).is_some(), "{unsent:?}");
        assert!(after(&default, verdict, &attempt(2)).is_some());
        assert_eq!(after(&default, verdict, &attempt(3)), None, "two attempts beside the first");
        let gone = Attempt { replayable: false, ..attempt(1) };
        assert_eq!(after(&default, verdict, &gone), None, "the body is gone");
        assert_eq!(after(&RetryPolicy { attempts: 0, ..default.clone() }, verdict, &attempt(1)), None);
    }
}

#[test]
fn by_default_nothing_else_is_tried_again() {
    let sent = [
        Verdict::Lost,
        Verdict::TryTimeout,
        Verdict::Answered { status: 503, grpc: None },
        Verdict::Answered { status: 200, grpc: Some(14) },
    ];
    for verdict in sent {
        let get = Attempt { idempotent: true, ..attempt(1) };
        assert_eq!(after(&RetryPolicy::default(), verdict, &get), None, "{verdict:?}");
    }
}

#[test]
fn what_may_have_been_processed_needs_an_idempotent_request_and_a_written_condition() {
    let on = |on| RetryPolicy { on, ..RetryPolicy::default() };
    let server_error = on(RetryOn { server_error: true, ..RetryOn::default() });
    let gateway = on(RetryOn { gateway_error: true, ..RetryOn::default() });
    let reset = on(RetryOn { reset: true, ..RetryOn::default() });
    let conflict = on(RetryOn { retriable_4xx: true, statuses: vec![418], grpc: vec![14], ..RetryOn::default() });
    let answered = |status| Verdict::Answered { status, grpc: None };
    let unavailable = Verdict::Answered { status: 200, grpc: Some(14) };
    for (policy, verdict, expected) in [
        (&server_error, answered(500), true),
        (&server_error, answered(404), false),
        (&server_error, Verdict::Lost, true),
        (&server_error, Verdict::TryTimeout, true),
        (&gateway, answered(503), true),
        (&gateway, answered(500), false),
        (&gateway, Verdict::Lost, false),
        (&reset, Verdict::Lost, true),
        (&reset, answered(503), false),
        (&conflict, answered(409), true),
        (&conflict, answered(418), true),
        (&conflict, answered(400), false),
        (&conflict, unavailable, true),
    ] {
        let get = Attempt { idempotent: true, ..attempt(1) };
        assert_eq!(after(policy, verdict, &get).is_some(), expected, "{policy:?} {verdict:?}");
        assert_eq!(after(policy, verdict, &attempt(1)), None, "a POST is never repeated on a guess");
    }
    assert!(is_idempotent("PUT", false) && !is_idempotent("POST", false) && !is_idempotent("PATCH", false));
    assert!(is_idempotent("POST", true) && !is_idempotent("get", false));
}

#[test]
fn pauses_grow_up_to_tenfold_and_are_jittered() {
    let policy = RetryPolicy { attempts: 9, ..RetryPolicy::default() };
    let refused = Verdict::Unsent(Unsent::ConnectFailed);
    for (number, bound) in [(1, 25), (2, 50), (3, 100), (4, 200), (5, 250), (9, 250)] {
        let longest = after(&policy, refused, &attempt(number)).unwrap();
        assert!(longest <= bound && longest * 10 >= bound * 8, "{number}: {longest}");
    }
    assert_eq!(after(&policy, Verdict::Unsent(Unsent::ReusedFinUnacknowledged), &attempt(1)), Some(0));
    let late = Attempt { remaining: Some(Duration::ZERO), ..attempt(2) };
    assert_eq!(after(&policy, refused, &late), None, "no time is left");
}

#[test]
fn retries_are_paid_for_from_the_budget() {
    let policy = RetryPolicy { on: RetryOn { server_error: true, ..RetryOn::default() }, ..RetryPolicy::default() };
    let (retry, budget) = (Retry::compile(&policy), Budget::of(&TrafficPolicy::default()));
    let circuit = Arc::new(Circuit::default());
    let mut rng = fastrand::Rng::with_seed(1);
    let get = Attempt { idempotent: true, ..attempt(1) };
    let answered = Verdict::Answered { status: 503, grpc: None };
    let mut permits = Vec::new();
    while let Next::RetryAfter(_, permit) = retry.after(answered, &get, &budget, &circuit, &mut rng) {
        permits.push(permit);
    }
    assert_eq!(permits.len(), Budget::DEFAULT_MIN as usize);
    let unsent = Verdict::Unsent(Unsent::PeerSaysUnsent);
    assert!(matches!(retry.after(unsent, &get, &budget, &circuit, &mut rng), Next::RetryAfter(..)));
    permits.clear();
    assert_eq!(circuit.active(Limit::Retries), 0);
    assert!(matches!(retry.after(answered, &get, &budget, &circuit, &mut rng), Next::RetryAfter(..)));
}
