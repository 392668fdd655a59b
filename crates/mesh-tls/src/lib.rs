//! TRUST: rustls configuration, the one SPIFFE verifier, certificate issue and parse. No sockets.
