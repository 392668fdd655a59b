//! The control plane in one process.

fn main() {}
