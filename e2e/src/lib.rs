//! Scenarios with the real programs in real network namespaces, named for what they prove.
//!
//! A scenario is a sentence and a function. Those of one file share one sandbox (`meshctl sandbox up`), run one after
//! the other, and put back what they changed. They wait for conditions, never for time, and a failing one says which
//! command of `meshctl` shows more.

pub mod capture;
pub mod runner;
pub mod sandbox;
pub mod wait;

pub use runner::{Scenario, run, run_with};
pub use sandbox::{Output, Sandbox};
pub use wait::until;
