//! What a step takes and gives: serde types over the JSON payload of `wit/step.wit`.

use serde::{Serialize, de::DeserializeOwned};

use crate::Error;

/// Decodes the payload, calls the step, encodes what it returns. `#[step]` expands to a call of this.
#[doc(hidden)]
pub fn call<I, O, E>(payload: &[u8], step: fn(I) -> Result<O, E>) -> Result<Vec<u8>, Error>
where
    I: DeserializeOwned,
    O: Serialize,
    E: Into<Error>,
{
    // No input at all is JSON's `null`, so that a step of `()` or of an `Option` runs without one.
    let payload = if payload.is_empty() { b"null" } else { payload };
    let input = serde_json::from_slice(payload).map_err(|e| Error::new("INPUT_INVALID", e))?;
    let output = step(input).map_err(Into::into)?;
    serde_json::to_vec(&output).map_err(|e| Error::new("OUTPUT_INVALID", e))
}
