//! Why a request of the probe came to nothing, as JSON.

use palisade_guest::{__private::bindings::palisade::agent::http, CallError};
use serde_json::{Value, json};
use wasip2::{
    http::types::{self, ErrorCode, HeaderError},
    io::error::Error as IoError,
};

/// An error code of wasi:http, and what the host says about it.
pub fn of_code(at: &str, code: &ErrorCode) -> Value {
    json!({ "error": kebab(code), "at": at, "text": format!("{code:?}"), "why": why() })
}

/// A stream that broke. Not every such error has a code.
pub fn of_stream(at: &str, error: &IoError) -> Value {
    let code = types::http_error_code(error);
    let code = code.as_ref().map_or_else(|| "io-error".into(), kebab);
    json!({ "error": code, "at": at, "text": error.to_debug_string(), "why": why() })
}

/// A header or trailer that the host does not take.
pub fn of_field(at: &str, name: &str, error: HeaderError) -> Value {
    let word = match error {
        HeaderError::InvalidSyntax => "invalid-syntax",
        HeaderError::Forbidden => "forbidden",
        HeaderError::Immutable => "immutable",
    };
    json!({ "error": format!("header-error:{word}"), "at": at, "name": name, "why": why() })
}

/// A function without a reason said no.
pub fn of(at: &str) -> Value {
    json!({ "error": "refused", "at": at, "why": why() })
}

fn kebab(code: &ErrorCode) -> String {
    let name = format!("{code:?}");
    let name = name.split(['(', ' ']).next().unwrap_or_default().trim_start_matches("ErrorCode::");
    let mut kebab = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !kebab.is_empty() {
            kebab.push('-');
        }
        kebab.extend(letter.to_lowercase());
    }
    kebab
}

fn why() -> Value {
    let Some(error) = http::why().map(CallError::from) else { return Value::Null };
    let (class, details) = match &error {
        CallError::Denied(denial) => (
            "denied",
            json!({
                "rule": denial.rule, "missing": denial.missing, "alternative": denial.alternative,
                "decision": denial.decision,
            }),
        ),
        CallError::Exhausted(exhaustion) => (
            "exhausted",
            json!({
                "account": exhaustion.account, "dimension": exhaustion.dimension, "limit": exhaustion.limit,
                "left": exhaustion.left, "asked": exhaustion.asked,
            }),
        ),
        CallError::Invalid(_) => ("invalid", json!({})),
        CallError::Failed(_) => ("failed", json!({})),
        CallError::Unavailable(_) => ("unavailable", json!({})),
    };
    let mut said = details;
    said["class"] = class.into();
    said["code"] = error.code().into();
    said["message"] = error.to_string().into();
    said
}
