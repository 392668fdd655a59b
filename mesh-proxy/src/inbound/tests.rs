//! Tests of this folder, within one process.
