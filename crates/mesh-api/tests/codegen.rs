//! The generated Rust in `src/gen/` is what the protos in `proto/` say.
//!
//! `MESH_UPDATE=1 cargo test -p mesh-api --test codegen` rewrites it; without that, drift fails. No `protoc` is needed.
#![allow(clippy::unwrap_used)] // a test's helpers fail by panicking

use std::path::{Path, PathBuf};

const PROTOS: [&str; 10] = [
    "envoy/service/discovery/v3/discovery.proto",
    "istio/v1/auth/ca.proto",
    "mesh/v1/address.proto",
    "mesh/v1/authz.proto",
    "mesh/v1/common.proto",
    "mesh/v1/endpoint.proto",
    "mesh/v1/inbound.proto",
    "mesh/v1/route.proto",
    "mesh/v1/service.proto",
    "mesh/v1/settings.proto",
];

fn generate(into: &Path) {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut compiler = protox::Compiler::new([package.join("proto")]).unwrap();
    compiler.include_imports(true).include_source_info(false).open_files(PROTOS).unwrap();
    let mut config = tonic_prost_build::Config::new();
    config
        .compile_well_known_types()
        .btree_map(["."])
        .bytes(["."])
        .enable_type_names()
        .type_name_domain(["."], "type.googleapis.com");
    tonic_prost_build::configure()
        .build_transport(false)
        .out_dir(into)
        .compile_fds_with_config(compiler.file_descriptor_set(), config)
        .unwrap();
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| PathBuf::from(entry.unwrap().file_name())).collect();
    names.sort();
    names
}

#[test]
fn generated_code_is_up_to_date() {
    let made = tempfile::tempdir().unwrap();
    generate(made.path());
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gen");
    if std::env::var_os("MESH_UPDATE").is_some() {
        for name in files(&kept) {
            std::fs::remove_file(kept.join(name)).unwrap();
        }
        for name in files(made.path()) {
            std::fs::copy(made.path().join(&name), kept.join(&name)).unwrap();
        }
        return;
    }
    assert_eq!(files(&kept), files(made.path()), "MESH_UPDATE=1 cargo test -p mesh-api --test codegen");
    for name in files(made.path()) {
        let (ours, theirs) =
            (std::fs::read(kept.join(&name)).unwrap(), std::fs::read(made.path().join(&name)).unwrap());
        assert!(
            ours == theirs,
            "{} is out of date: MESH_UPDATE=1 cargo test -p mesh-api --test codegen",
            name.display()
        );
    }
}
