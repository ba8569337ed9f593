//! Why something was not done: by the step or tool itself, or by the host.

use std::{
    any::Any,
    error,
    fmt::{self, Display, Formatter},
};

#[cfg(target_arch = "wasm32")]
use crate::bindings::palisade::agent::types as host;
use crate::http;

/// Why a step or a tool failed: what its caller sees.
///
/// Anything that displays converts into one, so `?` works on every error. A [`CallError`] and an [`http::Error`] keep
/// their code; any other error gets `STEP_FAILED`, or `TOOL_FAILED` where it leaves a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Stable, for programs: `SCREAMING_SNAKE_CASE`.
    pub code: String,
    /// For people.
    pub message: String,
}

/// Why a host call was not done. Nothing of it happened, unless it [`Failed`](CallError::Failed).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// Not allowed: do not retry.
    Denied(Denial),
    /// A budget is used up: do not retry in this step.
    Exhausted(Exhaustion),
    /// The request itself is wrong: correct it.
    Invalid(Error),
    /// It was tried, and failed.
    Failed(Error),
    /// It cannot be done or recorded now: retry later.
    Unavailable(Error),
}

/// A host call that is not allowed. Asking again changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Stable, for programs.
    pub code: String,
    /// What was denied and why, for people.
    pub message: String,
    /// The policy, or the part of the manifest or of the configuration, that decided.
    pub rule: Option<String>,
    /// What would have had to hold.
    pub missing: Vec<String>,
    /// The nearest thing that is allowed.
    pub alternative: Option<String>,
    /// Names the decision in the journal: `palisade policy explain` tells more.
    pub decision: String,
}

/// A budget that a host call would overdraw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exhaustion {
    /// Whose budget: `step`, `job`, `tenant`, or a tool's.
    pub account: String,
    /// `fuel`, `wall_ms`, `host_calls`, `tool_calls`, `bytes_in` or `bytes_out`.
    pub dimension: String,
    pub limit: u64,
    pub left: u64,
    pub asked: u64,
}

impl Error {
    /// The code of an error that has none of its own.
    pub(crate) const UNNAMED: &str = "STEP_FAILED";

    /// Returns an error with a code of your own.
    pub fn new(code: impl Into<String>, message: impl Display) -> Self {
        Self { code: code.into(), message: message.to_string() }
    }

    /// Returns the error as one line.
    // `Error` itself must not implement `Display`, or the blanket conversion below would overlap with
    // `From<T> for T`.
    pub fn to_line(&self) -> impl Display + '_ {
        struct Line<'a>(&'a Error);
        impl Display for Line<'_> {
            fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
                write!(f, "{}: {}", self.0.code, self.0.message)
            }
        }
        Line(self)
    }
}

impl<E: Display + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        // A second conversion beside this one would overlap with it, so it looks for those that differ.
        let any: &dyn Any = &error;
        let of_call = any.downcast_ref().map(CallError::code);
        let code = of_call.or_else(|| any.downcast_ref().map(http::Error::code)).unwrap_or(Self::UNNAMED);
        Self::new(code, &error)
    }
}

impl CallError {
    /// Returns the stable code. A failed tool's code is the tool's own.
    pub fn code(&self) -> &str {
        match self {
            Self::Denied(denial) => &denial.code,
            Self::Exhausted(_) => "BUDGET_EXHAUSTED",
            Self::Invalid(error) | Self::Failed(error) | Self::Unavailable(error) => &error.code,
        }
    }

    /// Returns whether it is not allowed.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Denied(_))
    }
}

impl Display for CallError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(denial) => f.write_str(&denial.message),
            Self::Exhausted(Exhaustion { account, dimension, limit, left, asked }) => {
                write!(f, "the {account}'s budget of {limit} {dimension} has {left} left; the call needs {asked}")
            }
            Self::Invalid(error) | Self::Failed(error) | Self::Unavailable(error) => f.write_str(&error.message),
        }
    }
}

impl error::Error for CallError {}

#[cfg(target_arch = "wasm32")]
impl From<host::CallError> for CallError {
    fn from(error: host::CallError) -> Self {
        let plain = |host::Error { code, message }| Error { code, message };
        match error {
            host::CallError::Denied(host::Denial { code, message, rule, missing, alternative, decision }) => {
                Self::Denied(Denial { code, message, rule, missing, alternative, decision })
            }
            host::CallError::Exhausted(host::Exhaustion { account, dimension, limit, left, asked }) => {
                Self::Exhausted(Exhaustion { account, dimension, limit, left, asked })
            }
            host::CallError::Invalid(error) => Self::Invalid(plain(error)),
            host::CallError::Failed(error) => Self::Failed(plain(error)),
            host::CallError::Unavailable(error) => Self::Unavailable(plain(error)),
        }
    }
}
