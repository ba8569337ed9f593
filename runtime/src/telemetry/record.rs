//! What Palisade says in its spans: a call of a caller, the step in it, the host calls in the step.

use std::{borrow::Cow, fmt::Display};

use opentelemetry::{Array, KeyValue, StringValue, Value, trace::SpanKind};

use super::{
    Context, Span, Telemetry, names,
    span::{number, text},
};
use crate::step::{Digest, Failure, Outcome, Usage};

/// Bytes of a name of an agent or a tool in the name of a span.
const NAME_BYTES_MAX: usize = 128;

/// Policies of one decision that are named.
const POLICIES_MAX: usize = 32;

/// Names of gRPC's status codes, in their order.
const RPC_STATUS: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Methods of HTTP that have a name in the conventions.
const METHODS: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

/// The one of a call whose caller hung up.
const RPC_CANCELLED: &str = "CANCELLED";

/// Status codes that are the server's failure. The others are the caller's, and the server's span is well.
const RPC_FAILURES: [&str; 6] =
    ["UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"];

/// A step that starts.
#[derive(Debug, Clone, Copy)]
pub struct StepStart<'a> {
    /// The step's id in the journal.
    pub step: &'a str,
    /// The agent, unless a bare component runs.
    pub agent: Option<Agent<'a>>,
    pub component: Digest,
}

/// The agent of a step.
#[derive(Debug, Clone, Copy)]
pub struct Agent<'a> {
    /// `name@version`, as in the step's record.
    pub id: &'a str,
    pub name: &'a str,
    pub version: &'a str,
}

/// A call of a tool.
#[derive(Debug, Clone, Copy)]
pub struct ToolCall<'a> {
    /// As the guest gave it; it may name no tool.
    pub name: &'a str,
    /// The call's id in the journal.
    pub call: &'a str,
    /// The tool's digest and effect class, if there is such a tool.
    pub tool: Option<(Digest, &'static str)>,
}

/// What a guest does with a memory space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryVerb {
    List,
    Get,
    Put,
    Delete,
    CompareAndSet,
}

/// How policy answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Allow,
    Deny,
    /// Allowed because the tenant only observes.
    WouldDeny,
}

/// A decision of policy, and what it stands on.
#[derive(Clone, Copy)]
pub struct Verdict<'a, Id> {
    pub decision: Decision,
    /// The policies that decided.
    pub policies: &'a [Id],
    /// The revision of the tenant's policy set.
    pub revision: &'a dyn Display,
}

impl Telemetry {
    /// Starts the span of a caller's call of `method`, `palisade.v1.Steps/RunStep` for example. If nobody says how it
    /// ended, its caller hung up.
    pub fn rpc(&self, parent: &Context, method: &'static str) -> Span {
        let span = self.span(parent, SpanKind::Server, || {
            let attributes = vec![
                KeyValue::new(names::RPC_SYSTEM, names::RPC_SYSTEM_GRPC),
                KeyValue::new(names::RPC_METHOD, method),
            ];
            (method.into(), attributes)
        });
        span.otherwise(names::RPC_STATUS_CODE, RPC_CANCELLED)
    }

    /// Starts the span of a step.
    pub fn step(&self, parent: &Context, step: StepStart<'_>) -> Span {
        self.span(parent, SpanKind::Internal, || {
            let mut attributes = vec![
                KeyValue::new(names::OPERATION, names::INVOKE_AGENT),
                KeyValue::new(names::PROVIDER, names::PALISADE),
                KeyValue::new(names::STEP, text(step.step)),
                KeyValue::new(names::COMPONENT_DIGEST, step.component.to_string()),
            ];
            let Some(agent) = step.agent else { return (names::INVOKE_AGENT.into(), attributes) };
            attributes.extend([
                KeyValue::new(names::AGENT_ID, text(agent.id)),
                KeyValue::new(names::AGENT_NAME, text(agent.name)),
                KeyValue::new(names::AGENT_VERSION, text(agent.version)),
            ]);
            (titled(names::INVOKE_AGENT, agent.name), attributes)
        })
    }

    /// Starts the span of a tool call, before policy is asked.
    pub fn tool(&self, parent: &Context, call: ToolCall<'_>) -> Span {
        self.span(parent, SpanKind::Internal, || {
            let mut attributes = vec![
                KeyValue::new(names::OPERATION, names::EXECUTE_TOOL),
                KeyValue::new(names::TOOL_NAME, text(call.name)),
                KeyValue::new(names::TOOL_CALL, text(call.call)),
                KeyValue::new(names::TOOL_TYPE, names::TOOL_TYPE_FUNCTION),
            ];
            if let Some((digest, effect)) = call.tool {
                attributes.push(KeyValue::new(names::TOOL_DIGEST, digest.to_string()));
                attributes.push(KeyValue::new(names::TOOL_EFFECT, effect));
            }
            (titled(names::EXECUTE_TOOL, call.name), attributes)
        })
    }

    /// Starts the span of a call on a memory space. The key stays out: it may say more than a span should.
    pub fn memory(&self, parent: &Context, verb: MemoryVerb, space: &str) -> Span {
        self.span(parent, SpanKind::Internal, || {
            let operation = match verb {
                MemoryVerb::List | MemoryVerb::Get => names::SEARCH_MEMORY,
                MemoryVerb::Put => names::UPSERT_MEMORY,
                MemoryVerb::Delete => names::DELETE_MEMORY,
                MemoryVerb::CompareAndSet => names::UPDATE_MEMORY,
            };
            let attributes = vec![
                KeyValue::new(names::OPERATION, operation),
                KeyValue::new(names::MEMORY_STORE, text(space)),
                KeyValue::new(names::MEMORY_SPACE, text(space)),
            ];
            (operation.into(), attributes)
        })
    }

    /// Starts the span of a request over HTTP. Path and query stay out: they may say more than a span should.
    pub fn request(&self, parent: &Context, method: &str, host: &str, port: u16) -> Span {
        self.span(parent, SpanKind::Client, || {
            // The conventions have a closed set of methods.
            let known = METHODS.iter().find(|known| **known == method).copied().unwrap_or("_OTHER");
            let attributes = vec![
                KeyValue::new(names::HTTP_METHOD, known),
                KeyValue::new(names::SERVER_ADDRESS, text(host)),
                KeyValue::new(names::SERVER_PORT, i64::from(port)),
            ];
            (if known == "_OTHER" { "HTTP" } else { known }.into(), attributes)
        })
    }

    /// Starts the span of any other host call: `name` is its interface and function, `tools.list` for example.
    pub fn host_call(&self, parent: &Context, name: &'static str) -> Span {
        self.span(parent, SpanKind::Internal, || (name.into(), Vec::new()))
    }
}

impl Span {
    /// Says how a caller's call ended, by the number of gRPC's status code.
    pub fn rpc_ended(&mut self, status: i32, message: &str) {
        let code = usize::try_from(status).ok().and_then(|status| RPC_STATUS.get(status).copied()).unwrap_or("UNKNOWN");
        self.set(names::RPC_STATUS_CODE, || code.into());
        if RPC_FAILURES.contains(&code) {
            self.fail(code, message);
        }
    }

    /// Says how a step ended and what it used.
    pub fn step_ended(&mut self, outcome: &Outcome, usage: &Usage) {
        self.set(names::OUTCOME, || outcome.word().into());
        self.used(usage);
        if let Outcome::Exited { code: 1.. } = outcome {
            self.fail("EXITED", "the command did not exit with 0");
        }
        if let Some(failure) = outcome.failure() {
            self.failed(failure);
        }
    }

    /// Says how policy answered a host call.
    pub fn decided<Id: AsRef<str>>(&mut self, verdict: Verdict<'_, Id>) {
        self.set(names::DECISION, || verdict.decision.word().into());
        self.set(names::POLICY_IDS, || {
            let ids = verdict.policies.iter().take(POLICIES_MAX);
            Value::Array(Array::String(
                ids.map(|id| StringValue::from(text(id.as_ref()).as_str().into_owned())).collect(),
            ))
        });
        self.set(names::POLICY_REVISION, || text(&verdict.revision.to_string()));
    }

    /// Says what a request over HTTP was answered, and by whom.
    pub fn responded(&mut self, status: u16, protocol: &'static str, address: std::net::SocketAddr) {
        self.set(names::HTTP_STATUS, || i64::from(status).into());
        self.set(names::PROTOCOL_VERSION, || protocol.into());
        self.set(names::PEER_ADDRESS, || address.ip().to_string().into());
    }

    /// Names the egress rule that admits a request, and the credential that it carries.
    pub fn admitted(&mut self, rule: &str, credential: &str) {
        self.set(names::EGRESS_RULE, || text(rule));
        if !credential.is_empty() {
            self.set(names::CREDENTIAL, || text(credential));
        }
    }

    /// Names the record in the journal: of a host call's intent or denial, of a step's result.
    pub fn journaled(&mut self, sequence: u64) {
        self.set(names::JOURNAL_SEQUENCE, || number(sequence));
    }

    /// Names the canonical arguments of a host call. They themselves go in only if the operator asked for content.
    pub fn arguments(&mut self, digest: Digest, arguments: &[u8]) {
        self.set(names::ARGUMENTS_DIGEST, || digest.to_string().into());
        self.set_content(names::TOOL_ARGUMENTS, arguments);
    }

    /// Adds the result of a tool, if the operator asked for content.
    pub fn result(&mut self, result: &[u8]) {
        self.set_content(names::TOOL_RESULT, result);
    }

    /// Says what a step or a tool used.
    pub fn used(&mut self, usage: &Usage) {
        self.set(names::USAGE_FUEL, || number(usage.fuel));
        self.set(names::USAGE_MEMORY_PEAK, || number(usage.memory_peak_bytes));
        self.set(names::USAGE_WALL_TIME, || number(usage.wall_time_us));
        self.set(names::USAGE_CPU_TIME, || number(usage.cpu_time_us));
        self.set(names::USAGE_INPUT_BYTES, || number(usage.input_bytes));
        self.set(names::USAGE_OUTPUT_BYTES, || number(usage.output_bytes));
        self.set(names::USAGE_EVENTS, || number(usage.events));
        self.set(names::USAGE_DISK_BYTES, || usage.disk_bytes.into());
    }

    /// Marks a host call as denied: `code` and `message` are what the guest gets.
    pub fn denied(&mut self, denial: &Failure) {
        self.event(names::DENIAL, || {
            vec![
                KeyValue::new(names::DENIAL_CODE, text(&denial.code)),
                KeyValue::new(names::DENIAL_TEXT, text(&denial.message)),
            ]
        });
        self.failed(denial);
    }

    /// Marks what the span is about as failed.
    pub fn failed(&mut self, failure: &Failure) {
        self.fail(&failure.code, &failure.message);
    }
}

impl Decision {
    /// Returns the word for spans and labels.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::WouldDeny => "would-deny",
        }
    }
}

fn titled(operation: &str, name: &str) -> Cow<'static, str> {
    format!("{operation} {}", &name[..name.floor_char_boundary(NAME_BYTES_MAX)]).into()
}
