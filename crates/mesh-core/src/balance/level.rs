//! Members of equal preference, and the algorithm that chooses among them.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::hash::Table;
use super::{Member, Plan};
use crate::config::Balancer;

/// Longest schedule of weighted turns, in entries.
const SCHEDULE_ENTRIES_MAX: u64 = 2048;
/// Draws until members are looked at in order instead.
const DRAWS_MAX: usize = 8;

/// Members of equal preference.
#[derive(Debug)]
pub(super) struct Level {
    members: Vec<u32>,
    weights: Vec<u32>,
    /// The cumulative weight up to each member; empty where all weights are equal.
    until: Vec<u64>,
    pub(super) algorithm: Algorithm,
}

#[derive(Debug)]
pub(super) enum Algorithm {
    LeastRequest,
    Random,
    /// Positions in `members`, in the order of turns; empty where all weights are equal.
    RoundRobin {
        schedule: Vec<u32>,
        turn: AtomicUsize,
    },
    Hash(Table),
}

impl Level {
    /// Builds a level of these members (index and weight); there is at least one.
    pub(super) fn build(members: &[Member], chosen: Vec<(u32, u32)>, plan: &Plan<'_>) -> Self {
        let (indexes, weights): (Vec<u32>, Vec<u32>) = chosen.into_iter().unzip();
        let equal = weights.windows(2).all(|pair| pair[0] == pair[1]);
        let mut sum = 0_u64;
        let mut cumulate = |weight: &u32| {
            sum += u64::from(*weight);
            sum
        };
        let until = if equal { Vec::new() } else { weights.iter().map(&mut cumulate).collect() };
        let algorithm = match &plan.policy.balancer {
            Balancer::LeastRequest => Algorithm::LeastRequest,
            Balancer::Random | Balancer::Passthrough => Algorithm::Random,
            Balancer::RoundRobin => {
                let schedule = if equal { Vec::new() } else { schedule(&weights) };
                let turn = AtomicUsize::new(plan.seed as usize);
                Algorithm::RoundRobin { schedule, turn }
            }
            Balancer::ConsistentHash(spec) => {
                let entries = indexes.iter().zip(&weights).map(|(index, weight)| (&members[*index as usize], *weight));
                Algorithm::Hash(Table::build(spec.table, entries))
            }
        };
        Self { members: indexes, weights, until, algorithm }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn indexes(&self) -> impl Iterator<Item = u32> + '_ {
        self.members.iter().copied()
    }

    /// Picks a member that fits; `None`: none does.
    pub(super) fn pick(
        &self,
        members: &[Member],
        fits: &dyn Fn(u32) -> bool,
        hash: u64,
        rng: &mut fastrand::Rng,
    ) -> Option<u32> {
        let position = match &self.algorithm {
            Algorithm::Random => self.draw(fits, rng),
            Algorithm::LeastRequest => self.less_busy(members, fits, rng),
            Algorithm::RoundRobin { schedule, turn } if schedule.is_empty() => {
                let start = turn.fetch_add(1, Relaxed) % self.members.len();
                self.scan(start, fits)
            }
            Algorithm::RoundRobin { schedule, turn } => {
                let start = turn.fetch_add(1, Relaxed) % schedule.len();
                let turns = schedule[start..].iter().chain(&schedule[..start]);
                let position = turns.map(|p| *p as usize).find(|p| fits(self.members[*p]));
                // A member whose share is too small for the schedule is better than none.
                position.or_else(|| self.scan(0, fits))
            }
            Algorithm::Hash(table) => table.find(hash, &|position| fits(self.members[position])),
        };
        position.map(|position| self.members[position])
    }

    /// Power of two choices: draws two by weight and takes the one with fewer active requests per weight.
    fn less_busy(&self, members: &[Member], fits: &dyn Fn(u32) -> bool, rng: &mut fastrand::Rng) -> Option<usize> {
        let first = self.draw(fits, rng)?;
        if self.members.len() == 1 {
            return Some(first);
        }
        let others = |index: u32| index != self.members[first] && fits(index);
        let Some(second) = self.draw(&others, rng) else { return Some(first) };
        let busy = |position: usize, other: usize| {
            let active = members[self.members[position] as usize].state.active();
            u64::from(active) * u64::from(self.weights[other])
        };
        Some(if busy(second, first) < busy(first, second) { second } else { first })
    }

    /// Draws a position by weight.
    fn draw(&self, fits: &dyn Fn(u32) -> bool, rng: &mut fastrand::Rng) -> Option<usize> {
        for _ in 0..DRAWS_MAX {
            let position = match self.until.last() {
                None => rng.usize(0..self.members.len()),
                Some(&sum) => {
                    let drawn = rng.u64(0..sum);
                    self.until.partition_point(|&until| until <= drawn)
                }
            };
            if fits(self.members[position]) {
                return Some(position);
            }
        }
        self.scan(rng.usize(0..self.members.len()), fits)
    }

    fn scan(&self, start: usize, fits: &dyn Fn(u32) -> bool) -> Option<usize> {
        (start..self.members.len()).chain(0..start).find(|position| fits(self.members[*position]))
    }
}

/// Turns in which each position comes as often as its weight says, spread as evenly as possible (smooth weighted round
/// robin). Weights are divided by their greatest common divisor, and scaled down if the schedule would be too long.
fn schedule(weights: &[u32]) -> Vec<u32> {
    let divisor = weights.iter().fold(0, |a, b| greatest_common_divisor(a, *b)).max(1);
    let sum: u64 = weights.iter().map(|w| u64::from(w / divisor)).sum();
    let longest = SCHEDULE_ENTRIES_MAX.max(weights.len() as u64);
    let scale = |weight: u32| -> i64 {
        let reduced = u64::from(weight / divisor);
        let scaled = if sum > longest { (reduced * longest / sum).max(1) } else { reduced };
        i64::try_from(scaled).unwrap_or(i64::MAX)
    };
    let shares: Vec<i64> = weights.iter().map(|w| scale(*w)).collect();
    let sum: i64 = shares.iter().sum();
    let mut credit = vec![0_i64; shares.len()];
    (0..sum)
        .map(|_| {
            credit.iter_mut().zip(&shares).for_each(|(credit, share)| *credit += share);
            // The first of the richest.
            let richest = (0..credit.len()).rev().max_by_key(|position| credit[*position]).unwrap_or_default();
            credit[richest] -= sum;
            richest as u32
        })
        .collect()
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
