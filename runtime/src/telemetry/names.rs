//! Every name that spans and metrics use.
//!
//! `gen_ai.*` is from the conventions for generative AI (open-telemetry/semantic-conventions-genai, main of October
//! 2026). All of it has the status "Development" and may still change; nothing deprecated is emitted. `rpc.*`,
//! `error.*` and `service.*` are from the general conventions, 1.41. `palisade.*` is ours.

/// The instrumentation scope, and the service's name unless the operator gives one.
pub const PALISADE: &str = "palisade";

// General conventions.
pub const ERROR_TYPE: &str = "error.type";
pub const HTTP_METHOD: &str = "http.request.method";
pub const HTTP_STATUS: &str = "http.response.status_code";
pub const PEER_ADDRESS: &str = "network.peer.address";
pub const PROTOCOL_VERSION: &str = "network.protocol.version";
pub const RPC_METHOD: &str = "rpc.method";
pub const RPC_STATUS_CODE: &str = "rpc.response.status_code";
pub const RPC_SYSTEM: &str = "rpc.system.name";
pub const RPC_SYSTEM_GRPC: &str = "grpc";
pub const SERVER_ADDRESS: &str = "server.address";
pub const SERVER_PORT: &str = "server.port";
pub const SERVICE_NAME: &str = "service.name";
pub const SERVICE_VERSION: &str = "service.version";

// Conventions for generative AI: attributes.
pub const AGENT_ID: &str = "gen_ai.agent.id";
pub const AGENT_NAME: &str = "gen_ai.agent.name";
pub const AGENT_VERSION: &str = "gen_ai.agent.version";
pub const MEMORY_STORE: &str = "gen_ai.memory.store.id";
pub const OPERATION: &str = "gen_ai.operation.name";
/// Required of an agent's span: whose flavour of the conventions this is.
pub const PROVIDER: &str = "gen_ai.provider.name";
pub const TOOL_ARGUMENTS: &str = "gen_ai.tool.call.arguments";
pub const TOOL_CALL: &str = "gen_ai.tool.call.id";
pub const TOOL_NAME: &str = "gen_ai.tool.name";
pub const TOOL_RESULT: &str = "gen_ai.tool.call.result";
pub const TOOL_TYPE: &str = "gen_ai.tool.type";
pub const TOOL_TYPE_FUNCTION: &str = "function";

// Conventions for generative AI: operations, which also begin the names of spans.
pub const DELETE_MEMORY: &str = "delete_memory";
pub const EXECUTE_TOOL: &str = "execute_tool";
pub const INVOKE_AGENT: &str = "invoke_agent";
pub const SEARCH_MEMORY: &str = "search_memory";
pub const UPDATE_MEMORY: &str = "update_memory";
pub const UPSERT_MEMORY: &str = "upsert_memory";

// Ours: attributes of spans.
pub const ARGUMENTS_DIGEST: &str = "palisade.arguments.digest";
pub const COMPONENT_DIGEST: &str = "palisade.component.digest";
pub const CREDENTIAL: &str = "palisade.credential";
pub const DECISION: &str = "palisade.decision";
pub const EGRESS_RULE: &str = "palisade.egress.rule";
pub const JOURNAL_SEQUENCE: &str = "palisade.journal.sequence";
pub const MEMORY_SPACE: &str = "palisade.memory.space";
pub const OUTCOME: &str = "palisade.outcome";
pub const POLICY_IDS: &str = "palisade.policy.ids";
pub const POLICY_REVISION: &str = "palisade.policy.revision";
pub const STEP: &str = "palisade.step";
pub const TOOL_DIGEST: &str = "palisade.tool.digest";
pub const TOOL_EFFECT: &str = "palisade.tool.effect";
pub const USAGE_CPU_TIME: &str = "palisade.usage.cpu_time_us";
pub const USAGE_DISK_BYTES: &str = "palisade.usage.disk_bytes";
pub const USAGE_EVENTS: &str = "palisade.usage.events";
pub const USAGE_FUEL: &str = "palisade.usage.fuel";
pub const USAGE_INPUT_BYTES: &str = "palisade.usage.input_bytes";
pub const USAGE_MEMORY_PEAK: &str = "palisade.usage.memory_peak_bytes";
pub const USAGE_OUTPUT_BYTES: &str = "palisade.usage.output_bytes";
pub const USAGE_WALL_TIME: &str = "palisade.usage.wall_time_us";

// Ours: the event of a denied call, and its attributes.
pub const DENIAL: &str = "palisade.denial";
pub const DENIAL_CODE: &str = "palisade.denial.code";
pub const DENIAL_TEXT: &str = "palisade.denial.text";

// Ours: metrics. Prometheus shows `.` as `_`, a unit as a suffix, and counters with `_total`.
pub const ARTIFACT_LOOKUPS: &str = "palisade.artifact.lookups";
pub const BUDGET_EXHAUSTED: &str = "palisade.budget.exhausted";
pub const HOST_CALLS: &str = "palisade.host_calls";
pub const HOST_CALL_DURATION: &str = "palisade.host_call.duration";
pub const JOURNAL_ACCEPTING: &str = "palisade.journal.accepting";
pub const JOURNAL_BATCH: &str = "palisade.journal.batch";
pub const JOURNAL_COMMIT_DURATION: &str = "palisade.journal.commit.duration";
pub const JOURNAL_QUEUE: &str = "palisade.journal.queue";
pub const LIMIT_HITS: &str = "palisade.limit.hits";
pub const MEMORY_RESERVED: &str = "palisade.memory.reserved";
pub const QUEUE_LENGTH: &str = "palisade.queue.length";
pub const STEPS: &str = "palisade.steps";
pub const STEP_DURATION: &str = "palisade.step.duration";
pub const STEP_QUEUE_DURATION: &str = "palisade.step.queue.duration";
pub const TELEMETRY_DROPPED: &str = "palisade.telemetry.dropped";
pub const WORKERS: &str = "palisade.workers";
pub const WORKERS_LOST: &str = "palisade.workers.lost";
pub const WORKERS_RECYCLED: &str = "palisade.workers.recycled";
pub const WORKERS_STARTED: &str = "palisade.workers.started";
pub const WALL_VERIFIED: &str = "palisade.wall.verified";

// Ours: labels of metrics. Their values are from closed sets, never from a caller or a guest.
pub const LABEL_ACCOUNT: &str = "account";
pub const LABEL_DECISION: &str = "decision";
pub const LABEL_DIMENSION: &str = "dimension";
pub const LABEL_LIMIT: &str = "limit";
pub const LABEL_OUTCOME: &str = "outcome";
pub const LABEL_POWER: &str = "power";
pub const LABEL_REASON: &str = "reason";
pub const LABEL_RESULT: &str = "result";
pub const LABEL_STATE: &str = "state";
pub const LABEL_WALL: &str = "wall";

/// Units, as UCUM writes them. Braces are an annotation, which Prometheus leaves out.
pub const UNIT_SECONDS: &str = "s";
pub const UNIT_BYTES: &str = "By";
pub const UNIT_CALLS: &str = "{call}";
pub const UNIT_LOOKUPS: &str = "{lookup}";
pub const UNIT_RECORDS: &str = "{record}";
pub const UNIT_SPANS: &str = "{span}";
pub const UNIT_STEPS: &str = "{step}";
pub const UNIT_WORKERS: &str = "{worker}";
