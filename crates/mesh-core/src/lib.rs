//! PURE: every decision the mesh makes about traffic. No IO, clock, Kubernetes or protobuf.
