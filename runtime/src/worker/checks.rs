//! What a jailed process says of its walls, of a step's end and of events, looked at before it is believed.

use super::steps::Violation;
use crate::{
    step::{Event, FIELD_BYTES, FIXED, GUEST_STOPPED, Outcome, StepLimits},
    wire::{CHUNK_BYTES_MAX, Wall, WallState},
};

/// Bytes of a code, a limit's name or a content type. A worker cuts all of them to 256 and an ellipsis, or less.
const WORD_BYTES_MAX: usize = 512;

/// Bytes of a failure's message, which a worker cuts to 16 KiB and an ellipsis. Whatever is in it, six times as much as
/// JSON fits into a record: no worker can keep the end of a step from being recorded.
const MESSAGE_BYTES_MAX: usize = 20 << 10;

/// Returns those of the `required` walls that a process lacks. One of which it says nothing is as good as missing.
pub fn lacking(required: &[&str], walls: &[Wall]) -> Vec<Wall> {
    let lacking = required.iter().filter_map(|name| match walls.iter().find(|wall| wall.name == *name) {
        Some(wall) if wall.state == WallState::Missing => Some(wall.clone()),
        Some(_) => None,
        None => {
            let detail = "nothing was said of it".into();
            Some(Wall { name: (*name).into(), state: WallState::Missing, detail })
        }
    });
    lacking.collect()
}

/// Returns whether a step ended as no correct guest makes one end: the engine did not take what it had made itself, or
/// stopped the guest for what is no trap, no limit and no misuse of a resource. Neither shows that a guest broke out;
/// both are what trying to looks like. A worker that lies here has broken out already, and is bounded by its jail.
pub fn is_suspicious(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::WorkerLost(_) => true,
        Outcome::Trapped(failure) => failure.code == GUEST_STOPPED,
        _ => false,
    }
}

/// Some ends are the daemon's alone to say, and a worker that says one would pass off what it did. `told` is whether the
/// step was told to stop, `begun` whether it said or asked anything.
pub fn check_end(outcome: &Outcome, told: bool, begun: bool) -> Result<(), Violation> {
    let known = match outcome {
        Outcome::Cancelled(failure) => told && failure.code == "CANCELLED",
        Outcome::WorkerLost(failure) => !begun && failure.code == "STEP_NOT_STARTED",
        Outcome::Unrecorded(_) => false,
        _ => true,
    };
    if known { Ok(()) } else { Err(Violation::End(outcome.word())) }
}

/// A result must fit into a message to the caller, and into its record.
pub fn check_size(outcome: &Outcome, limits: &StepLimits) -> Result<(), Violation> {
    let failure = match outcome {
        Outcome::Succeeded { output, content_type } => {
            let fits = output.len() as u64 <= limits.output_bytes && content_type.len() <= WORD_BYTES_MAX;
            return if fits { Ok(()) } else { Err(Violation::Limit("output_bytes")) };
        }
        Outcome::Exited { .. } => return Ok(()),
        Outcome::LimitExceeded { failure, limit, .. } if limit.len() <= WORD_BYTES_MAX => failure,
        Outcome::LimitExceeded { .. } => return Err(Violation::Limit("output_bytes")),
        Outcome::Failed(failure)
        | Outcome::Trapped(failure)
        | Outcome::Cancelled(failure)
        | Outcome::WorkerLost(failure)
        | Outcome::Unrecorded(failure) => failure,
    };
    let fits = failure.code.len() <= WORD_BYTES_MAX && failure.message.len() <= MESSAGE_BYTES_MAX;
    if fits { Ok(()) } else { Err(Violation::Limit("output_bytes")) }
}

/// An event must keep to what one may have; how many there may be is for their step to know.
pub fn check_event(event: &Event) -> Result<(), Violation> {
    let bytes = match event {
        Event::Output { data, .. } if data.len() > CHUNK_BYTES_MAX => return Err(Violation::Limit("stdio_bytes")),
        Event::Output { .. } => return Ok(()),
        Event::Log { message, fields, .. } => {
            message.len() + fields.iter().map(|(k, v)| k.len() + v.len() + FIELD_BYTES).sum::<usize>()
        }
        Event::Progress { message, .. } => message.len(),
    };
    if bytes > FIXED.event_bytes as usize { Err(Violation::Limit("event_bytes")) } else { Ok(()) }
}
