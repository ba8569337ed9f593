//! The daemon's side of its jailed processes: starts them, talks to them, and outlives them.
//!
//! A worker's every frame is hostile input. One that breaks the rules is killed, and its steps end as lost.

mod backoff;
mod bodies;
mod checks;
mod compiler;
mod entry;
mod home;
mod life;
mod line;
mod pool;
mod precedence;
mod process;
mod running;
mod steps;
#[cfg(test)]
mod tests;
mod wear;

pub use bodies::{Bodies, Download, Upload};
pub use compiler::{CompileError, CompileLimits, Compiled, Compiler};
pub use home::{Home, Whose};
pub use life::{Change, Changed, Hello, Loss, State};
pub use pool::{Settings, SetupOf, WorkerError, Workers};
pub use process::{Confining, Spawner};
pub use running::{Events, Handle, Next, Running};
pub use wear::{Reason, Wear};
