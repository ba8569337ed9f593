//! What is asked, and what is known when it is asked: plain data.

use serde_json::Value;

use crate::step::{Digest, Effect};

/// A registered tool.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolFacts {
    pub name: String,
    pub version: String,
    pub digest: Digest,
    pub effect: Effect,
    pub labels: Vec<String>,
    /// The JSON Schema of its arguments.
    pub input_schema: Value,
}

/// An agent that runs a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentFacts {
    pub name: String,
    pub version: String,
    pub owner: String,
    pub labels: Vec<String>,
    pub component: Digest,
}

/// What holds around a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// Who started the step, such as `unix:1000` or `loopback`.
    pub caller: String,
    /// As configured, such as `production`.
    pub environment: String,
    /// Milliseconds since 1970.
    pub unix_ms: u64,
    pub budget_left: BudgetLeft,
    /// The tool inside which the call is made, empty if the step itself makes it.
    pub via: String,
    /// What the job has gathered.
    pub labels: Vec<String>,
}

/// What the asking step may still use. Policies see values above `i64::MAX` as `i64::MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetLeft {
    pub fuel: u64,
    pub wall_ms: u64,
    pub host_calls: u64,
    pub tool_calls: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// What is done to a memory space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryVerb {
    /// Get and list.
    Read,
    /// Put and compare-and-set.
    Write,
    Delete,
}

/// A request over HTTP, as it was parsed: what is judged here is what is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestFacts {
    /// In upper case, such as `GET`.
    pub method: String,
    /// `http` or `https`.
    pub scheme: String,
    /// A name in lower case, with A-labels, or an address.
    pub host: String,
    pub port: u16,
    pub path: String,
    /// Without the question mark; empty if there is none.
    pub query: String,
    /// In lower case and without parameters; empty if there is none.
    pub content_type: String,
    /// The egress rule that admits it.
    pub rule: String,
    pub effect: Effect,
    /// The credential that it will carry; empty if it carries none.
    pub credential: String,
    /// Of the rule.
    pub labels: Vec<String>,
}

/// A question to a policy set.
#[derive(Debug, Clone, Copy)]
pub enum Question<'a> {
    /// May the caller run a step of this agent?
    RunAgent { agent: &'a AgentFacts },
    /// May the caller run this component as a step without an agent?
    RunComponent { component: Digest },
    /// May the agent call this tool with these arguments? They are valid by the tool's schema and at most 256 KiB.
    CallTool { agent: &'a AgentFacts, tool: &'a ToolFacts, arguments: &'a Value },
    /// May the agent use this key of a memory space? To list, the key is the prefix.
    Memory { agent: &'a AgentFacts, verb: MemoryVerb, space: &'a str, key: &'a str },
    /// May the agent send this request?
    SendRequest { agent: &'a AgentFacts, request: &'a RequestFacts },
}
