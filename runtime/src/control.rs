//! What operators and containment rules hold back: who is stopped, who may not begin, which calls are not made. It
//! decides who is held and keeps that; `lifecycle` stops them.

mod hold;
mod holds;
mod matching;
mod order;
mod scope;
#[cfg(test)]
mod tests;

pub use hold::{Action, BY_BYTES_MAX, BadHold, Hold, REASON_BYTES_MAX, RECORDS_MAX, hold_id};
pub use holds::{CONTAINMENT_HOLDS_MAX, HOLDS_MAX, Holds, ImposeError};
pub use matching::{Standing, Subject, Target};
pub use order::{Evidence, Imposed, LastEffect, Order, StoppedCall, StoppedStep};
pub use scope::{BadScope, Scope, is_caller};
