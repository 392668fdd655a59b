//! People's tool for the mesh.

fn main() {}
