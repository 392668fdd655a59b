//! Traffic capture: the redirect rules of a pod.

fn main() {}
