//! The first wall: WebAssembly. Compiles components and runs them, one fresh store for each step.

mod adapt;
mod compile;
mod engine;
mod limiter;
mod meter;
mod run;
mod state;
#[cfg(test)]
mod tests;
mod turn;

pub use compile::{compile, inspect};
pub use engine::{ENGINE, configuration, engine_hash, worker_engine};
pub use run::Runner;
pub use state::{StepState, Ways};
