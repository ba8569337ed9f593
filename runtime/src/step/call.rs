//! What a guest asks of the host beyond its sandbox, and what it is answered.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Failure, Headers, HttpRequest, HttpResponse, field_bytes, header_bytes};

/// One host call. Whatever is in it came from a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    ListTools,
    CallTool {
        name: String,
        arguments: String,
    },
    GetMemory {
        space: String,
        key: String,
    },
    ListMemory {
        space: String,
        prefix: String,
        after: Option<String>,
        limit: u32,
    },
    PutMemory {
        space: String,
        key: String,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
        if_version: Option<u64>,
    },
    DeleteMemory {
        space: String,
        key: String,
        if_version: Option<u64>,
    },
    /// Its bodies follow in pieces, in both directions.
    SendRequest(Box<HttpRequest>),
}

impl Call {
    /// Returns the bytes that the guest sends out with it, and what each header counts beside its own.
    pub fn bytes(&self) -> u64 {
        let bytes = match self {
            Self::ListTools => 0,
            Self::CallTool { name, arguments } => name.len() + arguments.len(),
            Self::GetMemory { space, key } | Self::DeleteMemory { space, key, .. } => space.len() + key.len(),
            Self::ListMemory { space, prefix, after, .. } => {
                space.len() + prefix.len() + after.as_ref().map_or(0, String::len)
            }
            Self::PutMemory { space, key, value, .. } => space.len() + key.len() + value.len(),
            Self::SendRequest(request) => {
                let line = request.method.len() + request.authority.len() + request.path_with_query.len();
                line + field_bytes(&request.headers) as usize
            }
        };
        bytes as u64
    }
}

/// What a host call that was done brings back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    Tools(Vec<ToolInfo>),
    /// A tool's result: JSON.
    Json(String),
    Item(Option<Item>),
    Listed(Vec<Listed>),
    Version(u64),
    Deleted(bool),
    /// The beginning of a response.
    Response(HttpResponse),
    /// The end of a response that has begun.
    Ended {
        trailers: Headers,
    },
}

impl Answer {
    /// Returns the bytes that come in with it.
    pub fn bytes(&self) -> u64 {
        let bytes = match self {
            Self::Tools(tools) => tools.iter().map(|tool| tool.description.len() + tool.input_schema.len()).sum(),
            Self::Json(json) => json.len(),
            Self::Item(item) => item.as_ref().map_or(0, |item| item.value.len()),
            Self::Listed(listed) => listed.iter().map(|listed| listed.key.len()).sum(),
            Self::Version(_) | Self::Deleted(_) | Self::Ended { .. } => 0,
            Self::Response(response) => header_bytes(&response.headers) as usize,
        };
        bytes as u64
    }
}

/// A tool, as a guest sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolInfo {
    pub name: String,
    pub version: String,
    pub description: String,
    pub effect: Effect,
    pub input_schema: String,
    pub output_schema: Option<String>,
}

/// A value of a memory space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    pub value: Vec<u8>,
    pub mark: Mark,
}

/// A key of a memory space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    pub key: String,
    pub size: u64,
    pub mark: Mark,
}

/// Who wrote a value, where and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub version: u64,
    pub agent: String,
    pub step: String,
    pub written_ms: u64,
    pub expires_ms: Option<u64>,
}

/// Why a host call was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallError {
    Denied(Denial),
    Exhausted(Exhaustion),
    /// The request is wrong.
    Invalid(Failure),
    /// It was tried.
    Failed(Failure),
    /// Not now.
    Unavailable(Failure),
}

/// A host call that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    pub code: String,
    pub message: String,
    pub rule: Option<String>,
    pub missing: Vec<String>,
    pub alternative: Option<String>,
    pub decision: String,
}

/// A budget that would be overdrawn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exhaustion {
    pub account: String,
    pub dimension: String,
    pub limit: u64,
    pub left: u64,
    pub asked: u64,
}

/// What a tool does to the world outside, from the least to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    Read,
    Append,
    Mutate,
    Destroy,
    ExternalSend,
}

impl Effect {
    pub const ALL: [Self; 5] = [Self::Read, Self::Append, Self::Mutate, Self::Destroy, Self::ExternalSend];

    /// Returns the word of the contracts.
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

/// A text that is no effect.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an effect: write `read`, `append`, `mutate`, `destroy` or `external-send`")]
pub struct BadEffect(String);

impl FromStr for Effect {
    type Err = BadEffect;

    fn from_str(text: &str) -> Result<Self, BadEffect> {
        let found = Self::ALL.into_iter().find(|effect| effect.as_str() == text);
        found.ok_or_else(|| BadEffect(text.chars().take(80).collect()))
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
