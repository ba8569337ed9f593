//! What a jailed process says of its walls, of a step's end and of events, looked at before it is believed.

use super::steps::Violation;
use crate::{
    step::{Event, FIELD_BYTES, GUEST_STOPPED, Outcome, StepLimits},
    wire::{Wall, WallState},
};

/// Bytes of a failure's code or message, which a worker cuts well below.
const TEXT_BYTES_MAX: usize = 32 << 10;

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

/// A result must fit into a message to the caller.
pub fn check_size(outcome: &Outcome, limits: &StepLimits) -> Result<(), Violation> {
    let failure = match outcome {
        Outcome::Succeeded { output, content_type } => {
            let fits = output.len() as u64 <= limits.output_bytes && content_type.len() <= TEXT_BYTES_MAX;
            return if fits { Ok(()) } else { Err(Violation::Limit("output_bytes")) };
        }
        Outcome::Exited { .. } => return Ok(()),
        Outcome::LimitExceeded { failure, limit, .. } if limit.len() <= TEXT_BYTES_MAX => failure,
        Outcome::LimitExceeded { .. } => return Err(Violation::Limit("output_bytes")),
        Outcome::Failed(failure)
        | Outcome::Trapped(failure)
        | Outcome::Cancelled(failure)
        | Outcome::WorkerLost(failure)
        // Said by the daemon alone.
        | Outcome::Unrecorded(failure) => failure,
    };
    let fits = failure.code.len() <= TEXT_BYTES_MAX && failure.message.len() <= TEXT_BYTES_MAX;
    if fits { Ok(()) } else { Err(Violation::Limit("output_bytes")) }
}

/// Returns what counts of an event.
pub fn text_bytes(event: &Event) -> usize {
    match event {
        Event::Log { message, fields, .. } => {
            message.len() + fields.iter().map(|(k, v)| k.len() + v.len() + FIELD_BYTES).sum::<usize>()
        }
        Event::Progress { message, .. } => message.len(),
        Event::Output { data, .. } => data.len(),
    }
}
