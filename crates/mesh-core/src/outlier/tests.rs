//! When an endpoint is left out, and for how long.

use super::*;

fn config() -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx: 3,
        consecutive_gateway_errors: 0,
        consecutive_local_failures: 2,
        split_local_errors: false,
        interval: Duration::from_secs(10),
        base_ejection_time: Duration::from_secs(30),
        max_ejection_percent: 50,
        min_health_percent: 0,
    }
}

/// Feeds outcomes at time 0, and says at which of them the endpoint was left out.
fn ejected_at(config: &OutlierDetection, outcomes: &[Outcome]) -> Option<(usize, Cause)> {
    let (state, pool) = (EndpointState::default(), Pool::default());
    outcomes.iter().enumerate().find_map(|(index, outcome)| {
        observe(config, &state, &pool, *outcome, 10, Millis(0)).map(|ejection| (index, ejection.cause))
    })
}

#[test]
fn failures_in_a_row_lead_to_ejection() {
    use Outcome::{Done, Grpc, LocalFailure, Status};
    let five = (2, Cause::Consecutive5xx);
    let plain = config();
    assert_eq!(ejected_at(&plain, &[Status(500), Status(503), Status(599)]), Some(five));
    assert_eq!(ejected_at(&plain, &[Status(500), Status(200), Status(500), Status(500)]), None);
    assert_eq!(ejected_at(&plain, &[Status(404); 9]), None);
    assert_eq!(ejected_at(&plain, &[LocalFailure, Status(500), LocalFailure]), Some(five));
    assert_eq!(ejected_at(&plain, &[Grpc(14), Grpc(13), Grpc(2)]), Some(five));
    assert_eq!(ejected_at(&plain, &[Grpc(14), Grpc(5), Grpc(14), Done]), None);
    let gateway = OutlierDetection { consecutive_5xx: 0, consecutive_gateway_errors: 2, ..plain };
    let cause = Cause::ConsecutiveGatewayErrors;
    assert_eq!(ejected_at(&gateway, &[Status(502), Status(504)]), Some((1, cause)));
    assert_eq!(ejected_at(&gateway, &[Status(502), Status(500), Status(502)]), None);
    let split = OutlierDetection { split_local_errors: true, ..plain };
    let cause = Cause::ConsecutiveLocalFailures;
    assert_eq!(ejected_at(&split, &[LocalFailure, LocalFailure]), Some((1, cause)));
    assert_eq!(ejected_at(&split, &[LocalFailure, Status(500), LocalFailure, Status(500)]), None);
    assert_eq!(ejected_at(&split, &[Status(500), LocalFailure, Status(500), Status(500)]), Some((3, five.1)));
}

#[test]
fn the_nth_ejection_is_n_times_as_long_and_is_forgotten_by_sweeps() {
    let (config, state, pool) = (config(), EndpointState::default(), Pool::default());
    let mut now = Millis(1_000);
    let eject = |now: Millis| -> u64 {
        let ejections = (0..3).filter_map(|_| observe(&config, &state, &pool, Outcome::Status(500), 10, now));
        ejections.last().unwrap().until.0 - now.0
    };
    for seconds in [30, 60, 90] {
        let length = eject(now);
        assert_eq!(length, seconds * 1000);
        assert!(state.is_ejected(now) && state.is_ejected(Millis(now.0 + length - 1)));
        assert_eq!(observe(&config, &state, &pool, Outcome::Status(500), 10, now), None, "already left out");
        now = Millis(now.0 + length);
        assert!(!state.is_ejected(now));
        sweep([&state], &pool, now);
        assert_eq!(pool.ejected(), 0);
    }
    // The sweep after an ejection's end does not count as a good interval; the next three do.
    (0..3).for_each(|_| sweep([&state], &pool, now));
    assert_eq!(eject(now), 30_000);
    for _ in 0..20 {
        now = state.ejected_until(now).unwrap();
        sweep([&state], &pool, now);
        assert!(eject(now) <= EJECTION_TIME_MAX.as_millis() as u64);
    }
}

#[test]
fn at_most_a_share_is_left_out_but_one_always_may_be() {
    for (total, percent, most) in [(10, 50, 5), (10, 0, 1), (1, 10, 1), (3, 50, 1), (4, 100, 4)] {
        let config = OutlierDetection { max_ejection_percent: percent, ..config() };
        let pool = Pool::default();
        let states: Vec<EndpointState> = (0..total).map(|_| EndpointState::default()).collect();
        for state in &states {
            (0..9).for_each(|_| _ = observe(&config, state, &pool, Outcome::Status(500), total, Millis(0)));
        }
        let ejected = states.iter().filter(|state| state.is_ejected(Millis(0))).count();
        assert_eq!((ejected, pool.ejected()), (most, most as u32), "{percent} % of {total}");
    }
}
