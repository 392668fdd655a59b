//! Generated messages and stubs, in the module tree that the generated code expects of its packages.
//!
//! `src/gen/` is written by `MESH_UPDATE=1 cargo test -p mesh-api --test codegen`; edit the protos instead.
#![allow(missing_docs, unreachable_pub, clippy::all, rust_2018_idioms)] // machine-written; documented in proto/

pub use envoy::config::core::v3 as core;
pub use envoy::service::discovery::v3 as discovery;
pub use google::protobuf::Any;
pub use google::rpc::Status;

pub mod google {
    pub mod protobuf {
        include!("gen/google.protobuf.rs");
    }
    pub mod rpc {
        include!("gen/google.rpc.rs");
    }
}

pub mod envoy {
    pub mod config {
        pub mod core {
            pub mod v3 {
                include!("gen/envoy.config.core.v3.rs");
            }
        }
    }
    pub mod service {
        pub mod discovery {
            pub mod v3 {
                include!("gen/envoy.service.discovery.v3.rs");
            }
        }
    }
}

pub mod istio {
    pub use v1::auth;
    pub mod v1 {
        pub mod auth {
            include!("gen/istio.v1.auth.rs");
        }
    }
}

/// Our resources.
pub mod mesh {
    pub mod v1 {
        include!("gen/mesh.v1.rs");
    }
}
