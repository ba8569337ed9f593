//! From the records of an agent to a draft: the least manifest and the least policies that would have allowed what it did.
//!
//! Nothing here reads a journal or asks a daemon: records go in, texts come out, and people decide. What was denied, and
//! what a policy forbids, is in no draft; it is told beside it.

mod call;
mod draft;
mod evidence;
mod learner;
mod manifest;
mod paths;
mod permits;
mod seen;
#[cfg(test)]
mod tests;
mod warnings;

pub use draft::{Basis, Draft, NoDraft};
pub use learner::Learner;
