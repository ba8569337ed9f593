//! Calls tools: those that the agent's manifest names and that policy allows. A tool runs in a sandbox of its own.
//!
//! Outside the sandbox there are none: each call answers [`CallError::Unavailable`] with the code `OUTSIDE_SANDBOX`.

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};

#[cfg(target_arch = "wasm32")]
use crate::bindings::palisade::agent::tools as host;
use crate::{CallError, Error};

/// A tool that can be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    pub name: String,
    pub version: String,
    /// What it does, for people and for models.
    pub description: String,
    pub effect: Effect,
    /// JSON Schema (2020-12) of the arguments.
    pub input_schema: String,
    /// JSON Schema of the result; none means any JSON.
    pub output_schema: Option<String>,
}

/// What a tool does to the world outside, as the operator judged it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Looks and changes nothing.
    Read,
    /// Adds; what was there stays.
    Append,
    /// Changes what was there.
    Mutate,
    /// Takes away for good.
    Destroy,
    /// Tells somebody outside.
    ExternalSend,
}

/// Returns the tools that can be called: those of the manifest that policy may allow for some arguments.
pub fn list() -> Result<Vec<Tool>, CallError> {
    #[cfg(target_arch = "wasm32")]
    {
        Ok(host::list()?.into_iter().map(tool).collect())
    }
    #[cfg(not(target_arch = "wasm32"))]
    {
        Err(outside())
    }
}

/// Calls a tool with arguments that serialise to a JSON object, and reads its result. `()` stands for no arguments.
///
/// Arguments that cannot be serialised are invalid (`ARGUMENTS_INVALID`); a result that is no `R` has failed
/// (`RESULT_INVALID`), after the tool did what it does. Integers beyond ±(2^53 − 1) are refused: send them as strings.
pub fn call<A, R>(name: &str, arguments: &A) -> Result<R, CallError>
where
    A: Serialize + ?Sized,
    R: DeserializeOwned,
{
    let arguments =
        serde_json::to_string(arguments).map_err(|e| CallError::Invalid(Error::new("ARGUMENTS_INVALID", e)))?;
    let result = call_raw(name, if arguments == "null" { "{}" } else { &arguments })?;
    serde_json::from_str(&result).map_err(|e| {
        let message = format!("the result of tool `{name}` is not what its caller expects: {e}");
        CallError::Failed(Error::new("RESULT_INVALID", message))
    })
}

/// Calls a tool with the text of a JSON object and returns the text of its result, as canonical JSON (RFC 8785).
pub fn call_raw(name: &str, arguments: &str) -> Result<String, CallError> {
    #[cfg(target_arch = "wasm32")]
    {
        Ok(host::call(name, arguments)?)
    }
    #[cfg(not(target_arch = "wasm32"))]
    {
        let _ = (name, arguments);
        Err(outside())
    }
}

impl Effect {
    /// Returns the word of the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Append => "append",
            Self::Mutate => "mutate",
            Self::Destroy => "destroy",
            Self::ExternalSend => "external-send",
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(target_arch = "wasm32")]
fn tool(tool: host::Tool) -> Tool {
    let effect = match tool.effect {
        host::Effect::Read => Effect::Read,
        host::Effect::Append => Effect::Append,
        host::Effect::Mutate => Effect::Mutate,
        host::Effect::Destroy => Effect::Destroy,
        host::Effect::ExternalSend => Effect::ExternalSend,
    };
    Tool {
        name: tool.name,
        version: tool.version,
        description: tool.description,
        effect,
        input_schema: tool.input_schema,
        output_schema: tool.output_schema,
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn outside() -> CallError {
    CallError::Unavailable(Error::new("OUTSIDE_SANDBOX", "there are no tools outside the sandbox"))
}
