//! A histogram with Istio's bucket bounds.

use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the buckets, as Istio's proxies have them (milliseconds, or bytes).
pub(crate) const BOUNDS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// Counts per bucket, not cumulated; written by one worker, read by scrapes.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    /// Sum of all values, as the bits of an `f64`.
    sum: AtomicU64,
}

/// The values of a histogram at one moment; those of several workers can be added.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Snapshot {
    /// Not cumulated; the last one has no upper bound.
    pub(crate) buckets: [u64; BOUNDS.len() + 1],
    /// Sum of all values.
    pub(crate) sum: f64,
}

impl Histogram {
    /// Counts a value. Only the worker that owns the histogram may call this, so that no update is lost.
    pub(crate) fn observe(&self, value: f64) {
        let index = BOUNDS.partition_point(|bound| *bound < value);
        bump(&self.buckets[index], 1);
        let sum = f64::from_bits(self.sum.load(Ordering::Relaxed)) + value;
        self.sum.store(sum.to_bits(), Ordering::Relaxed);
    }

    /// Adds the values to `total`.
    pub(crate) fn add_to(&self, total: &mut Snapshot) {
        for (sum, bucket) in total.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.load(Ordering::Relaxed);
        }
        total.sum += f64::from_bits(self.sum.load(Ordering::Relaxed));
    }
}

/// Adds to a counter that only this thread writes: a load and a store, without a locked instruction.
pub(crate) fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed) + by, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_belongs_below_it() {
        let histogram = Histogram::default();
        for value in [0.0, 0.5, 0.6, 5.0, 4e6] {
            histogram.observe(value);
        }
        let mut total = Snapshot::default();
        histogram.add_to(&mut total);
        assert_eq!((total.buckets[0], total.buckets[1], total.buckets[2], total.buckets[19]), (2, 1, 1, 1));
        assert!((total.sum - 4_000_006.1).abs() < 1e-6);
    }
}
