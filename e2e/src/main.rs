//! Scenarios with the real programs, named for what they prove.

fn main() {}
