//! Every failure as a gRPC status: a code, a stable reason, and what to do about it. The one place where our errors
//! meet the wire.

use std::{
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use tracing::error;

use crate::{
    control::{Hold, ImposeError},
    journal::{ExportError, JournalError, ReadError},
    lifecycle::{
        AdmitError, ControlError, CredentialError, ExplainError, ForgetError, PolicyError, PushError, RegisterError,
        RunError, TenantError,
    },
    policy::BadPolicies,
    step::BadLimit,
    store::{ComponentError, VersionError, WorkspaceError},
    wire::Refusal,
    worker::{CompileError, WorkerError},
};

/// `ErrorInfo.domain` of every failure.
const DOMAIN: &str = "palisade.v1";

/// Bytes of the longest message.
const MESSAGE_BYTES_MAX: usize = 1024;

/// Bytes of all violations of one status.
const VIOLATIONS_BYTES_MAX: usize = 4 << 10;

/// When to come back after a refusal for want of room.
const RETRY: Duration = Duration::from_secs(1);

/// Returns a failure with a stable reason.
pub fn refuse(code: Code, reason: &str, message: impl Into<String>) -> Status {
    with(code, message.into(), info(reason))
}

/// Returns a failure that names a field of the request.
pub fn bad_field(reason: &str, field: &str, message: impl Into<String>) -> Status {
    let mut message = message.into();
    cut(&mut message);
    let mut details = info(reason);
    details.add_bad_request_violation(field, &message);
    with(Code::InvalidArgument, message, details)
}

pub fn tenant(error: &TenantError) -> Status {
    let (code, reason) = match error {
        TenantError::Unsaid { .. } => (Code::InvalidArgument, "TENANT_REQUIRED"),
        TenantError::Nobody(_) | TenantError::NotAllowed { .. } => (Code::PermissionDenied, "TENANT_NOT_ALLOWED"),
    };
    refuse(code, reason, error.to_string())
}

/// A status travels in headers, more than once: a component can have a thousand imports with long names.
fn cut(message: &mut String) {
    if message.len() > MESSAGE_BYTES_MAX {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        message.push_str(" …");
    }
}

fn info(reason: &str) -> ErrorDetails {
    ErrorDetails::with_error_info(reason, DOMAIN, [])
}

fn with(code: Code, mut message: String, details: ErrorDetails) -> Status {
    cut(&mut message);
    Status::with_error_details(code, message, details)
}

fn retry_later(code: Code, reason: &str, message: String) -> Status {
    retry_in_time(code, reason, message, RETRY)
}

fn retry_in_time(code: Code, reason: &str, message: String, retry_in: Duration) -> Status {
    let mut details = info(reason);
    details.set_retry_info(Some(retry_in));
    with(code, message, details)
}

fn quota(reason: &str, subject: &str, message: String) -> Status {
    let mut details = info(reason);
    details.add_quota_failure_violation(subject, &message);
    with(Code::ResourceExhausted, message, details)
}

pub fn run(error: RunError) -> Status {
    let message = error.to_string();
    match error {
        RunError::Tenant(error) => tenant(&error),
        RunError::Component(error) => component(error),
        RunError::Agent(error) => version(error),
        RunError::AgentDisabled(_) => refuse(Code::FailedPrecondition, "AGENT_DISABLED", message),
        RunError::NotInManifest(_) => bad_field("NOT_IN_MANIFEST", "narrow", message),
        RunError::Denied(denial) => {
            let mut details = ErrorDetails::with_error_info(
                &denial.code,
                DOMAIN,
                [
                    ("decision".to_owned(), denial.decision.clone()),
                    ("rule".to_owned(), denial.rule.clone().unwrap_or_default()),
                ],
            );
            details.add_precondition_failure_violation("policy", "caller", &message);
            with(Code::PermissionDenied, message, details)
        }
        RunError::Held(hold) => held(&hold, message),
        RunError::Exhausted(exhausted) => {
            let mut details = info("BUDGET_EXHAUSTED");
            details.add_quota_failure_violation(&exhausted.account, &message);
            details.set_retry_info(exhausted.resets_in);
            with(Code::ResourceExhausted, message, details)
        }
        RunError::Unrecorded(error) => journal(&error),
        RunError::Unreadable(_) => internal(&message),
        RunError::Workspace(error) => workspace(error),
        RunError::Compile(error) => push(error),
        RunError::NotRunnable(_) => bad_field("NOT_RUNNABLE", "component", message),
        RunError::NoMount { .. } => bad_field("MOUNT_NOT_FOUND", "mounts", message),
        RunError::Field { field, .. } => bad_field("FIELD_INVALID", field, message),
        RunError::Limit(error) => limit(error),
        RunError::InputTooLarge { .. } => bad_field("INPUT_TOO_LARGE", "input", message),
        RunError::Admit(AdmitError::QueueFull { .. }) => retry_later(Code::ResourceExhausted, "QUEUE_FULL", message),
        RunError::Admit(AdmitError::QueueTimeout(_)) => retry_later(Code::ResourceExhausted, "QUEUE_TIMEOUT", message),
        RunError::Admit(AdmitError::TooLarge { .. }) => bad_field("LIMIT_INVALID", "limits.memory_bytes", message),
        RunError::Admit(AdmitError::ShuttingDown) => retry_later(Code::Unavailable, "SHUTTING_DOWN", message),
        RunError::Worker(WorkerError::Wire(_)) => bad_field("FIELD_INVALID", "input", message),
        RunError::Worker(WorkerError::BackingOff { retry_in, .. }) => {
            retry_in_time(Code::Unavailable, "WORKER_UNAVAILABLE", message, retry_in)
        }
        RunError::Worker(WorkerError::NoPlace(_)) => retry_later(Code::Unavailable, "WORKER_UNAVAILABLE", message),
        RunError::Worker(_) => {
            error!(error = message, "no worker");
            retry_later(
                Code::Unavailable,
                "WORKER_UNAVAILABLE",
                "no worker can run the step: see the daemon's log".into(),
            )
        }
    }
}

pub fn register(error: RegisterError) -> Status {
    let message = error.to_string();
    match error {
        RegisterError::Manifest(_) => bad_field("MANIFEST_INVALID", "manifest", message),
        RegisterError::Component(error) => component(error),
        RegisterError::NotAnAgent(_) => bad_field("NOT_RUNNABLE", "component", message),
        RegisterError::NotATool(_) => bad_field("NOT_A_TOOL", "component", message),
        RegisterError::ImportNotInManifest { .. } => bad_field("IMPORT_NOT_IN_MANIFEST", "manifest", message),
        RegisterError::NoMount { .. } => bad_field("MOUNT_NOT_FOUND", "manifest", message),
        RegisterError::Egress(_) => bad_field("EGRESS_INVALID", "manifest", message),
        RegisterError::Mount { .. } => bad_field("MANIFEST_INVALID", "manifest", message),
        RegisterError::Limit { .. } => bad_field("LIMIT_INVALID", "manifest", message),
        RegisterError::Wider { .. } => refuse(Code::FailedPrecondition, "REACH_WIDER", message),
        RegisterError::Schema { .. } => bad_field("SCHEMA_INVALID", "component", message),
        RegisterError::Held(hold) => held(&hold, message),
        RegisterError::Undescribed(_) => bad_field("TOOL_DESCRIBE_FAILED", "component", message),
        RegisterError::Policies(_) => refuse(Code::FailedPrecondition, "POLICY_INVALID", message),
        RegisterError::Replace(error) => policies(error),
        RegisterError::Version(error) => version(error),
        RegisterError::Unrecorded(error) => journal(&error),
        RegisterError::Admit(error) => run(RunError::Admit(error)),
        RegisterError::Worker(error) => run(RunError::Worker(error)),
        RegisterError::Compile(error) => push(error),
        RegisterError::Failed(_) => internal(&message),
    }
}

pub fn version(error: VersionError) -> Status {
    let message = error.to_string();
    let of = |kind: &str, what: &str| format!("{}_{what}", kind.to_ascii_uppercase());
    match error {
        VersionError::NotFound { kind, .. } => refuse(Code::NotFound, &of(kind, "NOT_FOUND"), message),
        VersionError::Exists { .. } => refuse(Code::AlreadyExists, "VERSION_EXISTS", message),
        VersionError::TooMany { kind, .. } => quota(&format!("TOO_MANY_{}S", kind.to_ascii_uppercase()), kind, message),
        VersionError::Io(error) => storage(error),
    }
}

pub fn policies(error: PolicyError) -> Status {
    match error {
        PolicyError::Bad(error) => bad_policies(error),
        PolicyError::Unrecorded(error) => journal(&error),
        PolicyError::Egress(_) => bad_field("EGRESS_INVALID", "egress.toml", error.to_string()),
        PolicyError::Unreadable(_) => refuse(Code::FailedPrecondition, "POLICY_INVALID", error.to_string()),
    }
}

fn bad_policies(error: BadPolicies) -> Status {
    let mut details = info("POLICY_INVALID");
    // Every problem that fits: a status travels in headers.
    let mut bytes = 0;
    for problem in &error.problems {
        let problem = problem.to_string();
        bytes += problem.len();
        if bytes > VIOLATIONS_BYTES_MAX {
            break;
        }
        details.add_bad_request_violation("files", problem);
    }
    with(Code::InvalidArgument, error.to_string(), details)
}

pub fn explain(error: ExplainError) -> Status {
    let message = error.to_string();
    match error {
        ExplainError::BadReference(_) => bad_field("FIELD_INVALID", "decision", message),
        ExplainError::NotFound(_) => refuse(Code::NotFound, "DECISION_NOT_FOUND", message),
        ExplainError::Read(error) => read_journal(&error),
    }
}

/// Nothing is done that cannot be recorded.
pub fn journal(error: &JournalError) -> Status {
    error!(error = %error, "the journal takes nothing");
    retry_later(Code::Unavailable, "JOURNAL_UNAVAILABLE", format!("nothing is done that cannot be recorded: {error}"))
}

pub fn read_journal(error: &ReadError) -> Status {
    match error {
        ReadError::OutOfRange { .. } => refuse(Code::NotFound, "RECORD_NOT_FOUND", error.to_string()),
        _ => internal(&error.to_string()),
    }
}

pub fn export(error: &ExportError) -> Status {
    match error {
        ExportError::Read(error) => read_journal(error),
        _ => internal(&error.to_string()),
    }
}

pub fn audit_busy(what: &str, max: usize) -> Status {
    let message = format!("{max} {what} run already: retry when one has ended");
    retry_later(Code::ResourceExhausted, "AUDIT_BUSY", message)
}

pub fn forget(error: ForgetError) -> Status {
    let message = error.to_string();
    match error {
        ForgetError::NotFound(_) => refuse(Code::NotFound, "PAYLOAD_NOT_FOUND", message),
        ForgetError::Read(error) => read_journal(&error),
        ForgetError::Unrecorded(error) => journal(&error),
        ForgetError::Failed(_) => internal(&message),
    }
}

pub fn credential(error: CredentialError) -> Status {
    let message = error.to_string();
    match error {
        CredentialError::NotFound(_) => refuse(Code::NotFound, "CREDENTIAL_NOT_FOUND", message),
        CredentialError::Unrecorded(error) => journal(&error),
        CredentialError::Unkept(error) => storage(error),
        CredentialError::Failed(_) => internal(&message),
    }
}

pub fn control(error: ControlError) -> Status {
    let message = error.to_string();
    match error {
        ControlError::Impose(ImposeError::Full(_)) => quota("TOO_MANY_HOLDS", "holds", message),
        ControlError::Impose(ImposeError::Bad(_)) => bad_field("FIELD_INVALID", "reason", message),
        ControlError::Unkept(error) => storage(error),
        ControlError::OtherHold(_) => refuse(Code::AlreadyExists, "REQUEST_ID_USED", message),
        ControlError::NotFound(_) => refuse(Code::NotFound, "HOLD_NOT_FOUND", message),
        ControlError::Unrecorded(error) => journal(&error),
        ControlError::Failed(_) => internal(&message),
    }
}

/// What holds until it is lifted is no reason to come back.
fn held(hold: &Hold, message: String) -> Status {
    let mut details = ErrorDetails::with_error_info("HELD", DOMAIN, [("hold".to_owned(), hold.id.clone())]);
    let Some(until_ms) = hold.until_ms else { return with(Code::PermissionDenied, message, details) };
    let until = UNIX_EPOCH + Duration::from_millis(until_ms);
    details.set_retry_info(Some(until.duration_since(SystemTime::now()).unwrap_or_default()));
    with(Code::Unavailable, message, details)
}

pub fn limit(error: BadLimit) -> Status {
    let BadLimit::OutOfRange { name, .. } = error;
    bad_field("LIMIT_INVALID", name, error.to_string())
}

pub fn push(error: PushError) -> Status {
    let message = error.to_string();
    match error {
        PushError::TooLarge(_) => bad_field("COMPONENT_TOO_LARGE", "chunk", message),
        PushError::DigestMismatch { .. } => bad_field("DIGEST_MISMATCH", "header.digest", message),
        PushError::Compile(CompileError::Refused(refusal)) => {
            let reason = match refusal {
                Refusal::NotWasm => "NOT_WASM",
                Refusal::Invalid(_) => "WASM_INVALID",
                Refusal::UnknownImports(_) => "IMPORT_UNKNOWN",
                Refusal::NothingToRun(_) => "EXPORT_MISSING",
                Refusal::TooMuch { .. } => "COMPILE_LIMIT",
            };
            bad_field(reason, "chunk", message)
        }
        PushError::Compile(CompileError::Timeout(_) | CompileError::Died(_)) => {
            bad_field("COMPILE_LIMIT", "chunk", message)
        }
        PushError::Compile(CompileError::LineFull(_)) => retry_later(Code::ResourceExhausted, "QUEUE_FULL", message),
        PushError::Compile(CompileError::LineTimeout(_)) => {
            retry_later(Code::ResourceExhausted, "QUEUE_TIMEOUT", message)
        }
        PushError::Compile(CompileError::Violation(_)) => internal(&message),
        PushError::Compile(CompileError::Io(error)) | PushError::Io(error) => storage(error),
        PushError::Store(error) => component(error),
    }
}

pub fn component(error: ComponentError) -> Status {
    let message = error.to_string();
    match error {
        ComponentError::NotFound(_) => refuse(Code::NotFound, "COMPONENT_NOT_FOUND", message),
        ComponentError::BadReference(_) => bad_field("FIELD_INVALID", "component", message),
        ComponentError::TooMany(_) => quota("TOO_MANY_COMPONENTS", "components", message),
        ComponentError::Io(error) => storage(error),
    }
}

pub fn workspace(error: WorkspaceError) -> Status {
    let message = error.to_string();
    match error {
        WorkspaceError::NotFound(_) => refuse(Code::NotFound, "WORKSPACE_NOT_FOUND", message),
        WorkspaceError::BadReference(_) => bad_field("FIELD_INVALID", "workspace", message),
        WorkspaceError::Exists(_) => refuse(Code::AlreadyExists, "WORKSPACE_EXISTS", message),
        WorkspaceError::Busy(_) => retry_later(Code::Aborted, "WORKSPACE_BUSY", message),
        WorkspaceError::TooMany(_) => quota("TOO_MANY_WORKSPACES", "workspaces", message),
        WorkspaceError::BadPath(..) => bad_field("FIELD_INVALID", "path", message),
        WorkspaceError::NoFile(_) => refuse(Code::NotFound, "FILE_NOT_FOUND", message),
        WorkspaceError::QuotaExceeded(_) => quota("QUOTA_EXCEEDED", "workspace", message),
        WorkspaceError::TooDeep(_) => refuse(Code::FailedPrecondition, "WORKSPACE_TOO_DEEP", message),
        WorkspaceError::Io(error) => storage(error),
    }
}

/// The caller is told whether the disk is full; what else is wrong with it is for the log.
pub fn storage(error: io::Error) -> Status {
    if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        let message = "the daemon's disk is full: free space below `data_dir` and retry";
        return retry_later(Code::ResourceExhausted, "STORAGE_FULL", message.into());
    }
    internal(&error.to_string())
}

pub fn internal(message: &str) -> Status {
    error!(error = message, "internal failure");
    refuse(Code::Internal, "INTERNAL", "the daemon failed: see its log")
}
