//! Why a host call is refused, as codes that stay. `docs/denials.md` is their catalogue, and a test compares the two.

use serde_json::{Value, json};

use crate::step::{CallError, Denial, Exhaustion, Failure};

/// Every code of a refusal, and the part of [`CallError`] in which it comes.
pub const CODES: &[(&str, &str)] = &[
    ("NOT_IN_MANIFEST", "denied"),
    ("NARROWED", "denied"),
    ("READ_ONLY", "denied"),
    ("ABOVE_CEILING", "denied"),
    ("TOOL_DISABLED", "denied"),
    ("TOO_DEEP", "denied"),
    ("POLICY_NO_PERMIT", "denied"),
    ("POLICY_FORBIDS", "denied"),
    ("POLICY_ERROR", "denied"),
    ("ADDRESS_FORBIDDEN", "denied"),
    ("CREDENTIAL_SUPPLIED", "denied"),
    ("CREDENTIAL_REVOKED", "denied"),
    ("RULE_CHANGED", "denied"),
    ("HELD", "denied"),
    ("BUDGET_EXHAUSTED", "exhausted"),
    ("ARGUMENTS_INVALID", "invalid"),
    ("KEY_INVALID", "invalid"),
    ("VALUE_TOO_LARGE", "invalid"),
    ("REQUEST_INVALID", "invalid"),
    ("REQUEST_TOO_LARGE", "invalid"),
    ("BODY_BROKEN", "invalid"),
    ("TOOL_STOPPED", "failed"),
    ("RESULT_INVALID", "failed"),
    ("MEMORY_CONFLICT", "failed"),
    ("MEMORY_FULL", "failed"),
    ("ANSWER_TOO_LARGE", "failed"),
    ("DNS_FAILED", "failed"),
    ("CONNECT_FAILED", "failed"),
    ("TLS_FAILED", "failed"),
    ("HTTP_TIMEOUT", "failed"),
    ("HTTP_PROTOCOL", "failed"),
    ("RESPONSE_TOO_LARGE", "failed"),
    ("RESPONSE_REFUSED", "failed"),
    ("REQUEST_DROPPED", "failed"),
    ("RATE_LIMITED", "unavailable"),
    ("EGRESS_BUSY", "unavailable"),
    ("CREDENTIAL_UNAVAILABLE", "unavailable"),
    ("JOURNAL_UNAVAILABLE", "unavailable"),
    ("STORAGE_UNAVAILABLE", "unavailable"),
    ("WORKER_UNAVAILABLE", "unavailable"),
];

/// Returns the stable code of an error. A tool's own code is its own.
pub fn code(error: &CallError) -> &str {
    match error {
        CallError::Denied(denial) => &denial.code,
        CallError::Exhausted(_) => "BUDGET_EXHAUSTED",
        CallError::Invalid(failure) | CallError::Failed(failure) | CallError::Unavailable(failure) => &failure.code,
    }
}

/// Returns an error as it is recorded.
pub fn record(error: &CallError) -> Value {
    match error {
        CallError::Denied(Denial { code, message, rule, missing, alternative, decision }) => json!({
            "class": "denied", "code": code, "message": message, "rule": rule, "missing": missing,
            "alternative": alternative, "decision": decision, "retry": false,
        }),
        CallError::Exhausted(Exhaustion { account, dimension, limit, left, asked }) => json!({
            "class": "exhausted", "code": code(error), "message": message(error), "account": account, "dimension": dimension, "limit": limit,
            "left": left, "asked": asked, "retry": false,
        }),
        CallError::Invalid(failure) => plain("invalid", failure, false),
        CallError::Failed(failure) => plain("failed", failure, false),
        CallError::Unavailable(failure) => plain("unavailable", failure, true),
    }
}

/// Returns an error in words.
pub fn message(error: &CallError) -> String {
    match error {
        CallError::Denied(denial) => denial.message.clone(),
        CallError::Exhausted(Exhaustion { account, dimension, limit, left, asked }) => {
            format!("the {account}'s budget of {limit} {dimension} has {left} left; the call needs {asked}")
        }
        CallError::Invalid(failure) | CallError::Failed(failure) | CallError::Unavailable(failure) => {
            failure.message.clone()
        }
    }
}

fn plain(class: &str, failure: &Failure, retry: bool) -> Value {
    json!({ "class": class, "code": failure.code, "message": failure.message, "retry": retry })
}

pub fn invalid(code: &str, message: impl Into<String>) -> CallError {
    CallError::Invalid(Failure::new(code, message))
}

pub fn failed(code: &str, message: impl Into<String>) -> CallError {
    CallError::Failed(Failure::new(code, message))
}

pub fn unavailable(code: &str, message: impl Into<String>) -> CallError {
    CallError::Unavailable(Failure::new(code, message))
}
