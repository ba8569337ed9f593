//! Palisade: runs agent steps that nobody has to trust.
//!
//! The life of a step is told in `lifecycle`; `docs/architecture.md` is the map.

pub mod compile;
pub mod config;
pub mod host;
pub mod jail;
pub mod sandbox;
pub mod step;
pub mod wire;
pub mod work;
