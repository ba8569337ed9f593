//! One call of a record: what was used, and what the policies said to it.

use serde_json::{Map, Value};

use crate::{
    policy::MemoryVerb,
    step::{Name, ToolName, Version},
};

/// What was used.
#[derive(Debug, Clone)]
pub enum What {
    Tool { name: ToolName, version: Version },
    Memory { space: Name, verb: MemoryVerb },
    Request(Request),
}

/// A request over HTTP.
#[derive(Debug, Clone)]
pub struct Request {
    pub rule: Name,
    pub host: String,
    pub method: String,
    pub path: String,
    pub credential: Option<Name>,
}

/// What the policies in force said.
#[derive(Debug, Clone)]
pub enum Said {
    Permitted {
        by: Vec<String>,
    },
    /// With the smallest permit that would allow it.
    Unpermitted {
        addition: String,
    },
    Forbidden {
        by: Vec<String>,
    },
    /// A policy failed, so that no other can permit it.
    Failed,
}

/// A call that is to happen, or happened.
#[derive(Debug, Clone)]
pub struct Call {
    pub sequence: u64,
    /// The number of its step among those that were learned from.
    pub step: u32,
    /// The tools inside which it was made, the outermost first.
    pub inside: Vec<ToolName>,
    /// One of them is in no draft.
    pub orphaned: bool,
    /// It was answered that it lacks a credential, or that this is not enough.
    pub unauthorized: bool,
    pub what: What,
    pub said: Said,
}

impl What {
    /// Reads what an intent is about. `None`: nothing that needs a grant, or nothing that can be read.
    pub fn of(body: &Map<String, Value>) -> Option<Self> {
        let word = |key: &str| body.get(key).and_then(Value::as_str);
        match (word("power")?, word("verb")?) {
            ("tools", "call") => {
                let (name, version) = word("tool")?.split_once('@')?;
                Some(Self::Tool { name: name.parse().ok()?, version: version.parse().ok()? })
            }
            ("memory", verb) => {
                let verb = match verb {
                    "get" | "list" => MemoryVerb::Read,
                    "put" => MemoryVerb::Write,
                    "delete" => MemoryVerb::Delete,
                    _ => return None,
                };
                Some(Self::Memory { space: word("space")?.parse().ok()?, verb })
            }
            ("http", method) => Some(Self::Request(Request {
                rule: word("rule")?.parse().ok()?,
                host: word("host")?.to_owned(),
                method: method.to_owned(),
                path: word("path")?.to_owned(),
                credential: word("credential").and_then(|name| name.parse().ok()),
            })),
            _ => None,
        }
    }

    /// Returns the action and the resource that policies judge it by.
    pub fn judged(&self) -> (String, (&'static str, String)) {
        match self {
            Self::Tool { name, .. } => (format!("tool:{name}"), ("Tool", name.to_string())),
            Self::Memory { space, verb } => {
                let action = match verb {
                    MemoryVerb::Read => "ReadMemory",
                    MemoryVerb::Write => "WriteMemory",
                    MemoryVerb::Delete => "DeleteMemory",
                };
                (action.into(), ("Space", space.to_string()))
            }
            Self::Request(request) => ("SendRequest".into(), ("Host", request.host.clone())),
        }
    }
}

impl Said {
    /// Reads a decision. What the manifest lacked is a verdict, too: whether policies would have permitted it is told by
    /// whether there is an addition.
    pub fn of(decision: &Value) -> Self {
        let policies = || {
            let ids = decision["policies"].as_array().into_iter().flatten().filter_map(Value::as_str);
            ids.map(String::from).collect::<Vec<_>>()
        };
        let Some(addition) = decision["addition"].as_str() else { return Self::Permitted { by: policies() } };
        let failed = decision["errors"].as_array().is_some_and(|errors| !errors.is_empty());
        match policies() {
            by if !by.is_empty() => Self::Forbidden { by },
            _ if failed || decision["code"] == "POLICY_ERROR" => Self::Failed,
            _ => Self::Unpermitted { addition: addition.to_owned() },
        }
    }

    /// Returns whether no permit can allow it.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Forbidden { .. } | Self::Failed)
    }
}
