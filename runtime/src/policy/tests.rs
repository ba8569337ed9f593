//! What the tests of this module ask about: two tools, an agent, and a day in production.

use serde_json::{Value, json};

use super::{AgentFacts, BudgetLeft, PolicySet, Question, Source, Surroundings, ToolFacts};
use crate::step::{Digest, Effect};

pub const NO_LIMIT: BudgetLeft = BudgetLeft {
    fuel: u64::MAX,
    wall_ms: u64::MAX,
    host_calls: u64::MAX,
    tool_calls: u64::MAX,
    bytes_in: u64::MAX,
    bytes_out: u64::MAX,
};

pub fn tool(name: &str, effect: Effect, input_schema: Value) -> ToolFacts {
    let labels = vec!["desk".into()];
    ToolFacts {
        name: name.into(),
        version: "1".into(),
        digest: Digest::of(name.as_bytes()),
        effect,
        labels,
        input_schema,
    }
}

pub fn tools() -> Vec<ToolFacts> {
    let read = json!({
        "type": "object",
        "properties": {
            "queue": { "type": "string" },
            "count": { "type": "integer" },
            "author": { "type": ["string", "null"] },
            "tags": { "type": "array", "items": { "type": "string" } },
            "page": { "type": "object", "properties": { "size": { "type": "integer" } } },
        },
        "required": ["queue", "author"],
    });
    let delete = json!({ "type": "object", "properties": { "queue": { "type": "string" } } });
    vec![tool("ticket.read", Effect::Read, read), tool("customer.delete", Effect::Destroy, delete)]
}

pub fn agent(name: &str) -> AgentFacts {
    AgentFacts {
        name: name.into(),
        version: "3".into(),
        owner: "billing".into(),
        labels: vec!["desk".into()],
        component: Digest::of(b"agent"),
    }
}

/// Thursday, 9 October 2025, at 08:53 UTC.
pub fn surroundings() -> Surroundings {
    Surroundings {
        caller: "unix:1000".into(),
        environment: "production".into(),
        unix_ms: 1_760_000_000_000,
        budget_left: NO_LIMIT,
        via: String::new(),
        labels: vec!["internal".into()],
    }
}

pub fn source(text: impl Into<String>) -> Source {
    Source { file: "a.cedar".into(), text: text.into() }
}

pub fn load(text: &str) -> PolicySet {
    PolicySet::load(vec![source(text)], &tools()).unwrap_or_else(|error| panic!("{error}"))
}

/// Returns whether `text` lets the agent `support-desk` call `ticket.read` with these arguments.
pub fn reads(text: &str, arguments: Value) -> bool {
    let (agent, tool) = (agent("support-desk"), &tools()[0]);
    load(text).decide(&Question::CallTool { agent: &agent, tool, arguments: &arguments }, &surroundings()).allowed
}
