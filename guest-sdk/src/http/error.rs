//! Why a request has no response, or a response not the body that was expected.

use std::{
    error,
    fmt::{self, Display, Formatter},
    io,
};

use crate::{CallError, Denial, Exhaustion};

/// Why a request has no response, or a response not the body that was expected. A status is no error:
/// [`Response::error_for_status`](super::Response::error_for_status).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// Not allowed: do not retry.
    Denied(Denial),
    /// A budget is used up: do not retry in this step.
    Exhausted(Exhaustion),
    /// The request itself is wrong: correct it.
    Invalid(crate::Error),
    /// It was tried, and failed.
    Failed(crate::Error),
    /// It cannot be done or recorded now: retry later.
    Unavailable(crate::Error),
    /// It failed, and nothing more is known than the words of WASI's error code: `connection refused`.
    Transport(String),
}

impl Error {
    /// Returns the stable code.
    pub fn code(&self) -> &str {
        match self {
            Self::Denied(denial) => &denial.code,
            Self::Exhausted(_) => "BUDGET_EXHAUSTED",
            Self::Invalid(error) | Self::Failed(error) | Self::Unavailable(error) => &error.code,
            Self::Transport(_) => "HTTP_TRANSPORT",
        }
    }

    /// Returns whether it is not allowed.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Denied(_))
    }

    pub(super) fn invalid(code: &str, message: impl Display) -> Self {
        Self::Invalid(crate::Error::new(code, message))
    }

    pub(super) fn failed(code: &str, message: impl Display) -> Self {
        Self::Failed(crate::Error::new(code, message))
    }

    /// Returns what a reader or a writer of ours said through its `io::Error`. Any other error broke the body.
    pub(super) fn from_io(error: io::Error) -> Self {
        error.downcast().unwrap_or_else(|other| Self::failed("BODY_BROKEN", other))
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        CallError::from(self.clone()).fmt(f)
    }
}

impl error::Error for Error {}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Denied(denial) => Self::Denied(denial),
            CallError::Exhausted(exhaustion) => Self::Exhausted(exhaustion),
            CallError::Invalid(error) => Self::Invalid(error),
            CallError::Failed(error) => Self::Failed(error),
            CallError::Unavailable(error) => Self::Unavailable(error),
        }
    }
}

/// What only says that it failed has failed, with the code `HTTP_TRANSPORT`.
impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        let code = error.code().to_owned();
        match error {
            Error::Denied(denial) => Self::Denied(denial),
            Error::Exhausted(exhaustion) => Self::Exhausted(exhaustion),
            Error::Invalid(error) => Self::Invalid(error),
            Error::Failed(error) => Self::Failed(error),
            Error::Unavailable(error) => Self::Unavailable(error),
            Error::Transport(words) => {
                Self::Failed(crate::Error::new(code, format_args!("the request failed: {words}")))
            }
        }
    }
}
