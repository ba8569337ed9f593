//! Palisade: runs agent steps that nobody has to trust.
//!
//! The life of a step is told in `lifecycle`; `docs/architecture.md` is the map.

pub mod budget;
pub mod cgroups;
pub mod cli;
pub mod compile;
pub mod config;
pub mod containment;
pub mod control;
pub mod credentials;
pub mod durable;
pub mod egress;
pub mod host;
pub mod jail;
pub mod journal;
pub mod json;
pub mod learn;
pub mod lifecycle;
pub mod manifest;
pub mod memory;
mod notify;
pub mod policy;
pub mod sandbox;
pub mod serve;
pub mod service;
pub mod spawn;
pub mod step;
pub mod store;
pub mod telemetry;
pub mod wire;
pub mod work;
pub mod worker;
