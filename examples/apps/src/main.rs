//! The programs behind the examples.

fn main() {}
