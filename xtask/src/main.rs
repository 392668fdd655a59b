//! All automation: ci, tidy, codegen, test.

fn main() {}
