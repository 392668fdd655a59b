//! Faults that somebody asked for: who is delayed, who is aborted.

use std::time::Duration;

use crate::config::{Abort, Fault, Percent};

/// Parts in a whole.
const MILLION: u32 = 1_000_000;

/// What happens to one request. Delay and abort are drawn independently; a request can get both, the delay first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drawn {
    /// Wait this long before anything else.
    pub delay: Option<Duration>,
    /// Answer with this instead of forwarding.
    pub abort: Option<Abort>,
}

/// Draws for one request.
#[must_use]
pub fn draw(fault: &Fault, rng: &mut fastrand::Rng) -> Drawn {
    Drawn {
        delay: fault.delay.filter(|delay| hits(delay.percent, rng)).map(|delay| delay.duration),
        abort: fault.abort.filter(|abort| hits(abort.percent, rng)),
    }
}

/// Whether one request is among the share.
#[must_use]
pub fn hits(share: Percent, rng: &mut fastrand::Rng) -> bool {
    share.0 > 0 && rng.u32(0..MILLION) < share.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Delay;

    #[test]
    fn delay_and_abort_are_drawn_independently() {
        let fault = Fault {
            delay: Some(Delay { duration: Duration::from_millis(5), percent: Percent(500_000) }),
            abort: Some(Abort { status: 503, grpc: None, percent: Percent(500_000) }),
        };
        let mut rng = fastrand::Rng::with_seed(7);
        let mut counts = [0_i32; 4];
        for _ in 0..40_000 {
            let drawn = draw(&fault, &mut rng);
            counts[usize::from(drawn.delay.is_some()) * 2 + usize::from(drawn.abort.is_some())] += 1;
        }
        // 5 sigma of a quarter of 40,000.
        assert!(counts.iter().all(|count| (count - 10_000).abs() < 433), "{counts:?}");
    }

    #[test]
    fn none_and_all_are_exact() {
        let mut rng = fastrand::Rng::with_seed(1);
        assert!((0..10_000).all(|_| !hits(Percent(0), &mut rng) && hits(Percent(MILLION), &mut rng)));
    }
}
