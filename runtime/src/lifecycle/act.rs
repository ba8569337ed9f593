//! What a host call comes down to: resolved against what its guest was granted, and then done.

use std::{net::SocketAddr, sync::Arc};

use serde_json::{Value, json};

use super::{
    denial::invalid,
    execution::Execution,
    gate::Permit,
    http::{self, Sending},
    memory,
    tools::{self, ReadyTool},
};
use crate::{
    budget::Amounts,
    journal::Payload,
    json::Canonical,
    manifest::ToolGrant,
    step::{Answer, Call, CallError, Denial, Effect, FIXED, Name, Usage},
    telemetry::{self, Span, ToolCall},
    worker::Bodies,
};

/// A host call whose every word is checked.
pub enum Act {
    ListTools,
    CallTool {
        tool: Arc<ReadyTool>,
        grant: Box<ToolGrant>,
        arguments: Canonical,
    },
    Memory {
        space: Name,
        key: String,
        verb: Verb,
        /// What an enforcing daemon would have said: the daemon observes, and no grant has the space.
        lacking: Option<Denial>,
    },
    SendRequest(Box<Sending>),
}

/// What is done to a memory space.
pub enum Verb {
    Get,
    /// Keys that begin with the key.
    List {
        after: Option<String>,
        limit: u32,
    },
    Put {
        value: Vec<u8>,
        ttl_ms: Option<u64>,
        if_version: Option<u64>,
    },
    Delete {
        if_version: Option<u64>,
    },
}

/// What became of an act.
pub struct Done {
    pub used: Amounts,
    /// Of the guest that ran for it, if one did.
    pub usage: Option<Usage>,
    /// Nobody knows whether it was done.
    pub lost: bool,
    /// What its record says of it beside that.
    pub about: Value,
    /// What is kept with its record.
    pub kept: Vec<Payload>,
    /// What a request over HTTP was answered: status, protocol, address.
    pub responded: Option<(u16, &'static str, SocketAddr)>,
    pub result: Result<Answer, CallError>,
}

impl Done {
    /// Returns what became of an act that needs no more words.
    pub fn new(used: Amounts, result: Result<Answer, CallError>) -> Self {
        Self { used, usage: None, lost: false, about: Value::Null, kept: Vec::new(), responded: None, result }
    }
}

impl Act {
    /// Returns what a guest asks, for people, before anything of it is checked.
    pub fn asked_in_words(asked: &Call) -> String {
        let of = |verb: &str, space: &str, key: &str| format!("{verb} `{}` in memory space `{}`", cut(key), cut(space));
        match asked {
            Call::ListTools => "listing tools".into(),
            Call::CallTool { name, .. } => format!("calling tool `{}`", cut(name)),
            Call::GetMemory { space, key } => of("getting", space, key),
            Call::ListMemory { space, prefix, .. } => of("listing", space, prefix),
            Call::PutMemory { space, key, .. } => of("putting", space, key),
            Call::DeleteMemory { space, key, .. } => of("deleting", space, key),
            Call::SendRequest(request) => http::in_words(request),
        }
    }

    /// Starts the span of a call, and says which power it is of.
    pub fn span(execution: &Execution, call: u64, asked: &Call) -> (Span, &'static str) {
        use telemetry::MemoryVerb;
        let (telemetry, parent) = (execution.lifecycle.telemetry(), &execution.context);
        let memory = |verb, space: &str| telemetry.memory(parent, verb, space);
        match asked {
            Call::ListTools => (telemetry.host_call(parent, "tools.list"), "tools"),
            Call::CallTool { name, .. } => {
                let tool = tools::find(execution, name).ok();
                let tool = tool.map(|(tool, _)| (tool.tool.component, tool.tool.effect.as_str()));
                let call = ToolCall { name, call: &execution.step.decision(call), tool };
                (telemetry.tool(parent, call), "tools")
            }
            Call::GetMemory { space, .. } => (memory(MemoryVerb::Get, space), "memory"),
            Call::ListMemory { space, .. } => (memory(MemoryVerb::List, space), "memory"),
            Call::PutMemory { space, if_version: None, .. } => (memory(MemoryVerb::Put, space), "memory"),
            Call::PutMemory { space, .. } => (memory(MemoryVerb::CompareAndSet, space), "memory"),
            Call::DeleteMemory { space, .. } => (memory(MemoryVerb::Delete, space), "memory"),
            Call::SendRequest(request) => (http::span(execution, request), "http"),
        }
    }

    /// Checks a call against the grant of its guest and against its own form. What its records say is added to `about`
    /// and `payloads`, also when it is refused.
    pub fn resolve(
        execution: &Execution,
        asked: Call,
        decision: &str,
        about: &mut Value,
        payloads: &mut Vec<Payload>,
    ) -> Result<Self, CallError> {
        match asked {
            Call::ListTools => {
                about["verb"] = json!("list");
                Ok(Self::ListTools)
            }
            Call::CallTool { name, arguments } => {
                about["verb"] = json!("call");
                about["tool"] = json!(cut(&name));
                let lack = |lack| CallError::Denied(tools::lacking(execution, &name, lack, decision));
                let (tool, grant) = tools::find(execution, &name).map_err(lack)?;
                about["tool"] = json!(tool.tool.reference());
                about["digest"] = json!(tool.tool.component.to_string());
                about["effect"] = json!(tool.tool.effect.as_str());
                let arguments = Canonical::parse(&arguments, FIXED.arguments_bytes as usize)
                    .map_err(|e| invalid("ARGUMENTS_INVALID", format!("the arguments of `{name}`: {e}")))?;
                about["arguments"] = json!(arguments.digest().to_string());
                payloads.push(Payload {
                    bytes: arguments.bytes().as_bytes().to_vec(),
                    media_type: "application/json".into(),
                });
                tool.check_arguments(&arguments)?;
                Ok(Self::CallTool { tool, grant: Box::new(grant), arguments })
            }
            Call::GetMemory { space, key } => memory_act(execution, space, key, Verb::Get, decision, about),
            Call::ListMemory { space, prefix, after, limit } => {
                memory_act(execution, space, prefix, Verb::List { after, limit }, decision, about)
            }
            Call::PutMemory { space, key, value, ttl_ms, if_version } => {
                let kept = Payload { bytes: value.clone(), media_type: "application/octet-stream".into() };
                // As texts: they are any 64 bits, and JSON's numbers are not.
                about["ttl_ms"] = json!(ttl_ms.map(|ttl| ttl.to_string()));
                about["if_version"] = json!(if_version.map(|version| version.to_string()));
                let verb = Verb::Put { value, ttl_ms, if_version };
                let act = memory_act(execution, space, key, verb, decision, about)?;
                payloads.push(kept);
                Ok(act)
            }
            Call::SendRequest(request) => {
                Ok(Self::SendRequest(Box::new(http::resolve(execution, *request, decision, about)?)))
            }
            Call::DeleteMemory { space, key, if_version } => {
                about["if_version"] = json!(if_version.map(|version| version.to_string()));
                memory_act(execution, space, key, Verb::Delete { if_version }, decision, about)
            }
        }
    }

    /// Returns what it can cost at most, beyond being a host call.
    pub fn cost(&self, execution: &Execution) -> Amounts {
        let left = execution.account.left();
        match self {
            Self::ListTools => Amounts::default(),
            Self::CallTool { tool, grant, arguments } => tools::cost(execution, tool, grant, arguments),
            Self::Memory { key, verb, .. } => {
                let limits = &execution.lifecycle.config().limits;
                let (out, back) = match verb {
                    Verb::Get => (0, limits.memory_value_bytes),
                    Verb::List { limit, .. } => (0, u64::from(*limit).min(memory::LIST_MAX) * memory::KEY_BYTES_MAX),
                    Verb::Put { value, .. } => (value.len() as u64, 0),
                    Verb::Delete { .. } => (0, 0),
                };
                let bytes_in = if back == 0 { 0 } else { back.min(left.bytes_in).max(1) };
                Amounts { bytes_out: key.len() as u64 + out, bytes_in, ..Amounts::default() }
            }
            // What the bodies cost is charged as they pass.
            Self::SendRequest(sending) => Amounts { bytes_out: sending.head_bytes(), ..Amounts::default() },
        }
    }

    /// Returns what it does to the world outside the sandbox.
    pub fn effect(&self) -> Effect {
        match self {
            Self::ListTools => Effect::Read,
            Self::CallTool { tool, .. } => tool.tool.effect,
            Self::Memory { verb: Verb::Get | Verb::List { .. }, .. } => Effect::Read,
            Self::Memory { verb: Verb::Put { .. }, .. } => Effect::Mutate,
            Self::Memory { verb: Verb::Delete { .. }, .. } => Effect::Destroy,
            Self::SendRequest(sending) => sending.effect(),
        }
    }

    /// Does it.
    pub async fn perform(self, permit: &Permit<'_>, worker_step: u64, bodies: Option<Bodies>) -> Done {
        match self {
            Self::ListTools => tools::list(permit),
            Self::CallTool { tool, grant, arguments } => {
                Box::pin(tools::call(permit, worker_step, tool, grant, arguments)).await
            }
            Self::Memory { space, key, verb, .. } => memory::perform(permit, space, key, verb).await,
            Self::SendRequest(sending) => Box::pin(http::perform(permit, *sending, bodies)).await,
        }
    }
}

fn memory_act(
    execution: &Execution,
    space: String,
    key: String,
    verb: Verb,
    decision: &str,
    about: &mut Value,
) -> Result<Act, CallError> {
    let word = match &verb {
        Verb::Get => "get",
        Verb::List { .. } => "list",
        Verb::Put { .. } => "put",
        Verb::Delete { .. } => "delete",
    };
    about["verb"] = json!(word);
    about["space"] = json!(cut(&space));
    about["key"] = json!(cut(&key));
    let writes = matches!(verb, Verb::Put { .. } | Verb::Delete { .. });
    let (space, lacking) = memory::find(execution, &space, writes, decision)?;
    memory::check(execution, &key, &verb)?;
    Ok(Act::Memory { space, key, verb, lacking })
}

/// Returns a denial that no policy made.
pub fn refused(code: &str, message: String, rule: &str, alternative: Option<String>, decision: &str) -> Denial {
    let other = alternative.as_ref().map(|other| format!("; {other}")).unwrap_or_default();
    Denial {
        code: code.into(),
        message: format!("{message}{other}; do not retry"),
        rule: Some(rule.into()),
        missing: Vec::new(),
        alternative,
        decision: decision.into(),
    }
}

/// Cuts a guest's text to what a record or a message can bear.
pub fn cut(text: &str) -> String {
    let mut cut: String = text.chars().take(200).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}
