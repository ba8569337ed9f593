//! Containment: rules of the operator that watch what agents do, and say when one is to be held. It counts; who is held
//! and how is for `control`, and when to ask for `lifecycle`.

mod engine;
mod rule;
mod sketch;
#[cfg(test)]
mod tests;
mod window;

pub use engine::{Engine, Observation, Seen, Triggered};
pub use rule::{BadRule, Rule, Trigger};
