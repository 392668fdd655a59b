//! WIRE: the protobuf between proxy and control plane, and both conversions to and from mesh-core.
