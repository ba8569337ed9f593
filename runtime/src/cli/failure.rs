//! Failures for people: a line that says what to do, and an exit code for scripts.

use std::{collections::HashMap, fmt::Display, process::ExitCode};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Why a command failed.
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    pub const NOT_FOUND: u8 = 3;
    pub const NOT_ALLOWED: u8 = 4;
    pub const STEP: u8 = 5;
    pub const TIME: u8 = 6;
    pub const UNAVAILABLE: u8 = 7;
    /// As a shell reports SIGPIPE.
    pub const PIPE: u8 = 141;
    /// sysexits: EX_UNAVAILABLE, EX_CONFIG.
    pub const SERVE: u8 = 69;
    pub const CONFIG: u8 = 78;

    /// Returns a failure with an exit code.
    pub fn new(code: u8, message: impl Display) -> Self {
        Self { code, message: message.to_string() }
    }

    /// Returns a failure of no special kind.
    pub fn other(message: impl Display) -> Self {
        Self::new(1, message)
    }

    /// Returns a failure of whoever typed the command.
    pub fn usage(message: impl Display) -> Self {
        Self::new(2, message)
    }

    /// Prints the failure and returns its exit code.
    pub fn report(self) -> ExitCode {
        if !self.message.is_empty() {
            eprintln!("error: {}", super::print::safe(&self.message));
        }
        ExitCode::from(self.code)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let code = match status.code() {
            Code::InvalidArgument | Code::AlreadyExists | Code::FailedPrecondition | Code::OutOfRange => 2,
            Code::NotFound => Self::NOT_FOUND,
            Code::PermissionDenied | Code::Unauthenticated => Self::NOT_ALLOWED,
            Code::DeadlineExceeded => Self::TIME,
            Code::Unavailable | Code::ResourceExhausted | Code::Aborted => Self::UNAVAILABLE,
            _ => 1,
        };
        let info = status.get_details_error_info();
        let reason = info.as_ref().map(|info| format!(" ({})", info.reason)).unwrap_or_default();
        let decision = info.as_ref().map(|info| denied(&info.metadata)).unwrap_or_default();
        Self::new(code, format!("{}{reason}{decision}", status.message().trim_end()))
    }
}

/// Returns what a denial says beside its message: the rule, and where to read on.
fn denied(metadata: &HashMap<String, String>) -> String {
    let given = |key: &str| metadata.get(key).filter(|value| !value.is_empty());
    let rule = given("rule").map(|rule| format!("\n  rule      {rule}")).unwrap_or_default();
    let decision = given("decision")
        .map(|name| format!("\n  decision  {name}\n  `palisade policy explain {name}` says what would allow it"));
    format!("{rule}{}", decision.unwrap_or_default())
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            // Whoever reads our output has seen enough: `palisade … | head`.
            std::io::ErrorKind::BrokenPipe => Self::new(Self::PIPE, ""),
            _ => Self::other(error),
        }
    }
}
