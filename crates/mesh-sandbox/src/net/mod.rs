//! The sandbox's network: one namespace that is the switch, one per pod, and nothing in the machine's own.
//!
//! [`netns`] enters a namespace for a moment, [`switch`] owns the bridge, [`pod`] connects a pod to it, [`addresses`]
//! hands addresses out, and [`services`] turns Services into the rules of each pod's nat table.

pub mod addresses;
pub mod netns;
pub mod pod;
pub mod services;
pub mod switch;
