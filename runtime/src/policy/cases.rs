//! Cases that a policy set must decide as expected: a file for continuous integration.
//!
//! ```toml
//! [[case]]
//! name = "the desk reads tickets of its own queue"
//! agent = { name = "support-desk" }
//! action = "call-tool"
//! tool = "ticket.read"
//! arguments = { queue = "billing", id = 7 }
//! expect = "allow"
//! policy = "desk.read"
//! ```

#[cfg(test)]
mod tests;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    explain::Explanation,
    facts::{AgentFacts, BudgetLeft, MemoryVerb, Question, RequestFacts, Surroundings, ToolFacts},
    problems::cut,
    set::{Decision, PolicySet},
};
use crate::step::{Digest, Effect};

/// Bytes of a file of cases.
pub const BYTES_MAX: usize = 1 << 20;

/// How one case went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseResult {
    pub name: String,
    pub passed: bool,
    pub decision: Decision,
    /// Of a case that was denied and did not pass.
    pub explanation: Option<Explanation>,
}

/// A file of cases that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum BadCases {
    #[error("the file has {0} bytes: at most {BYTES_MAX} are possible")]
    TooLong(usize),
    #[error("{0}")]
    Toml(String),
    #[error("the case `{case}` {problem}")]
    Case { case: String, problem: String },
}

/// Runs the cases of a TOML file, in their order. All of them must be well formed before any is run.
///
/// A `[[case]]` has a `name`, `expect = "allow"` or `"deny"`, maybe `policy`, the id of a policy that must be among
/// those that decide, and an `action` with what it needs:
///
/// - `run-step`: `agent` or `component`;
/// - `call-tool`: `agent`, `tool`, maybe `arguments`;
/// - `read-memory`, `write-memory`, `delete-memory`: `agent`, `space`, `key`;
/// - `send-request`: `agent`, and `request` with a `host` and maybe what else policies see of it. It is a GET over HTTPS
///   unless it says otherwise.
///
/// An agent has a `name`, and maybe `version`, `owner`, `labels` and `component`. Surroundings can be given as
/// `caller` (else `loopback`), `environment`, `unix_ms`, `via` and `labels`; the budget is unlimited.
pub fn run(set: &PolicySet, tools: &[ToolFacts], cases_toml: &str) -> Result<Vec<CaseResult>, BadCases> {
    if cases_toml.len() > BYTES_MAX {
        return Err(BadCases::TooLong(cases_toml.len()));
    }
    let file: File = toml::from_str(cases_toml).map_err(|error| BadCases::Toml(cut(error.to_string(), 1024)))?;
    let prepared = file.case.into_iter().map(|case| {
        let shown = cut(case.name.clone(), 80);
        Prepared::of(case, tools).map_err(|problem| BadCases::Case { case: shown, problem })
    });
    Ok(prepared.collect::<Result<Vec<_>, _>>()?.iter().map(|prepared| prepared.run(set)).collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    action: Action,
    expect: Expect,
    policy: Option<String>,
    agent: Option<Agent>,
    component: Option<String>,
    tool: Option<String>,
    arguments: Option<Map<String, Value>>,
    space: Option<String>,
    key: Option<String>,
    request: Option<Request>,
    #[serde(default = "loopback")]
    caller: String,
    #[serde(default)]
    environment: String,
    #[serde(default)]
    unix_ms: u64,
    #[serde(default)]
    via: String,
    #[serde(default)]
    labels: Vec<String>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Action {
    RunStep,
    CallTool,
    ReadMemory,
    WriteMemory,
    DeleteMemory,
    SendRequest,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Expect {
    Allow,
    Deny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Agent {
    name: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    owner: String,
    #[serde(default)]
    labels: Vec<String>,
    component: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Request {
    method: String,
    scheme: String,
    host: String,
    port: u16,
    path: String,
    query: String,
    content_type: String,
    rule: String,
    effect: Effect,
    credential: String,
    labels: Vec<String>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            method: "GET".into(),
            scheme: "https".into(),
            host: String::new(),
            port: 443,
            path: "/".into(),
            query: String::new(),
            content_type: String::new(),
            rule: String::new(),
            effect: Effect::Read,
            credential: String::new(),
            labels: Vec::new(),
        }
    }
}

struct Prepared<'t> {
    name: String,
    expect: Expect,
    policy: Option<String>,
    asked: Asked<'t>,
    surroundings: Surroundings,
}

enum Asked<'t> {
    RunAgent(AgentFacts),
    RunComponent(Digest),
    CallTool(AgentFacts, &'t ToolFacts, Value),
    Memory(AgentFacts, MemoryVerb, String, String),
    SendRequest(AgentFacts, RequestFacts),
}

impl<'t> Prepared<'t> {
    fn of(mut case: Case, tools: &'t [ToolFacts]) -> Result<Self, String> {
        let memory = |case: &mut Case, verb| {
            Ok::<_, String>(Asked::Memory(
                agent(case)?,
                verb,
                given(&mut case.space, "space")?,
                given(&mut case.key, "key")?,
            ))
        };
        let asked = match case.action {
            Action::RunStep => match case.component.take() {
                Some(component) => Asked::RunComponent(digest(&component)?),
                None => Asked::RunAgent(agent(&mut case)?),
            },
            Action::CallTool => {
                let name = given(&mut case.tool, "tool")?;
                let tool = tools.iter().rfind(|tool| tool.name == name);
                let tool =
                    tool.ok_or_else(|| format!("calls the tool `{}`, which is not registered", cut(name, 80)))?;
                let arguments = Value::Object(case.arguments.take().unwrap_or_default());
                Asked::CallTool(agent(&mut case)?, tool, arguments)
            }
            Action::ReadMemory => memory(&mut case, MemoryVerb::Read)?,
            Action::WriteMemory => memory(&mut case, MemoryVerb::Write)?,
            Action::DeleteMemory => memory(&mut case, MemoryVerb::Delete)?,
            Action::SendRequest => {
                let request = facts(given(&mut case.request, "request")?)?;
                Asked::SendRequest(agent(&mut case)?, request)
            }
        };
        // What is needed was taken: what is left was meant for another action.
        let left = [
            ("agent", case.agent.is_some()),
            ("component", case.component.is_some()),
            ("tool", case.tool.is_some()),
            ("arguments", case.arguments.is_some()),
            ("space", case.space.is_some()),
            ("key", case.key.is_some()),
            ("request", case.request.is_some()),
        ];
        if let Some((key, _)) = left.into_iter().find(|(_, left)| *left) {
            return Err(format!("has `{key}`, which its action does not use"));
        }
        let Case { name, expect, policy, caller, environment, unix_ms, via, labels, .. } = case;
        let budget_left = BudgetLeft {
            fuel: u64::MAX,
            wall_ms: u64::MAX,
            host_calls: u64::MAX,
            tool_calls: u64::MAX,
            bytes_in: u64::MAX,
            bytes_out: u64::MAX,
        };
        let surroundings = Surroundings { caller, environment, unix_ms, budget_left, via, labels };
        Ok(Self { name, expect, policy, asked, surroundings })
    }

    fn run(&self, set: &PolicySet) -> CaseResult {
        let question = match &self.asked {
            Asked::RunAgent(agent) => Question::RunAgent { agent },
            Asked::RunComponent(component) => Question::RunComponent { component: *component },
            Asked::CallTool(agent, tool, arguments) => Question::CallTool { agent, tool, arguments },
            Asked::Memory(agent, verb, space, key) => Question::Memory { agent, verb: *verb, space, key },
            Asked::SendRequest(agent, request) => Question::SendRequest { agent, request },
        };
        let decision = set.decide(&question, &self.surroundings);
        let as_expected = decision.allowed == (self.expect == Expect::Allow);
        let by_policy = self.policy.as_ref().is_none_or(|id| decision.policies.contains(id));
        let passed = as_expected && by_policy;
        let explanation = if passed { None } else { set.explain(&question, &self.surroundings, &decision, &[]) };
        CaseResult { name: self.name.clone(), passed, decision, explanation }
    }
}

fn agent(case: &mut Case) -> Result<AgentFacts, String> {
    let Agent { name, version, owner, labels, component } = given(&mut case.agent, "agent")?;
    let component = component.map_or(Ok(Digest::of(b"")), |component| digest(&component))?;
    Ok(AgentFacts { name, version, owner, labels, component })
}

fn facts(request: Request) -> Result<RequestFacts, String> {
    let Request { method, scheme, host, port, path, query, content_type, rule, effect, credential, labels } = request;
    if host.is_empty() {
        return Err("has a request without `host`".into());
    }
    Ok(RequestFacts { method, scheme, host, port, path, query, content_type, rule, effect, credential, labels })
}

fn digest(text: &str) -> Result<Digest, String> {
    text.parse().map_err(|error| format!("has a component that is none: {error}"))
}

fn given<T>(value: &mut Option<T>, key: &str) -> Result<T, String> {
    value.take().ok_or_else(|| format!("lacks `{key}`, which its action needs"))
}

fn loopback() -> String {
    "loopback".into()
}
