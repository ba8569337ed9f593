//! The daemon's side of its jailed processes: starts them, talks to them, and outlives them.
//!
//! A worker's every frame is hostile input. One that breaks the rules is killed, and its steps end as lost.

mod bodies;
mod compiler;
mod pool;
mod process;
mod running;
mod steps;
#[cfg(test)]
mod tests;

pub use bodies::{Bodies, Download, Upload};
pub use compiler::{CompileError, CompileLimits, Compiled, Compiler};
pub use pool::{Change, Changed, Hello, WorkerError, Workers};
pub use process::Spawner;
pub use running::{Events, Next, Running};
