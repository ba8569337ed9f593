//! What a step takes and gives: serde types over the JSON payload of `wit/step.wit`.

use std::fmt::{self, Display};

use serde::{Serialize, de::DeserializeOwned};

#[cfg(target_arch = "wasm32")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "step",
        pub_export_macro: true,
        export_macro_name: "export_step",
    });
}

/// Why a step failed: what its caller sees in `StepResult.failure`.
///
/// Anything that displays converts into one with the code `STEP_FAILED`, so `?` works on every error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Stable, for programs: `SCREAMING_SNAKE_CASE`.
    pub code: String,
    /// For people.
    pub message: String,
}

impl Error {
    /// Returns an error with a code of your own.
    pub fn new(code: impl Into<String>, message: impl Display) -> Self {
        Self { code: code.into(), message: message.to_string() }
    }
}

impl<E: Display> From<E> for Error {
    fn from(error: E) -> Self {
        Self::new("STEP_FAILED", error)
    }
}

// `Error` itself must not implement `Display`, or the blanket conversion above would overlap with `From<T> for T`.
impl Error {
    /// Returns the error as one line.
    pub fn to_line(&self) -> impl Display + '_ {
        struct Line<'a>(&'a Error);
        impl Display for Line<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}: {}", self.0.code, self.0.message)
            }
        }
        Line(self)
    }
}

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
