//! The table of traps 5.1.
use super::*;
