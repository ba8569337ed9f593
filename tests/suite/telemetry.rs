pub mod collector;
mod metrics;

use std::{
    fs,
    time::{Duration, Instant},
};

use collector::{Collector, SpanKind, StatusCode, Trace};
use palisade_proto::v1::{self, Effect, run_step_response::Message, step_result::Outcome};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tonic::Request;

use crate::harness::{Daemon, PATIENCE, asked, data_dir, palisade, write_policies};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";
const STATE: &str = "vendor=its-own";

/// In arguments, in a result, in a key and in a value: nowhere where a policy looks.
const CANARY: &str = "canary-4711";

const POLICIES: &str = "@id(\"all\") permit (principal, action in [Palisade::Action::\"CallTool\", Palisade::Action::\"UseMemory\"], resource);
@id(\"no-deleting\") forbid (principal, action == Palisade::Action::\"tool:desk.delete\", resource);";

const TOOLS: &str = "[[tool]]\nname = \"desk.read\"\n[[tool]]\nname = \"desk.append\"\n[[tool]]\nname = \"desk.delete\"
[[tool]]\nname = \"outer\"\ntools = [\"desk.append\"]\n[[memory]]\nspace = \"notes\"\nwritable = true\n";

/// A daemon with these variables, four tools, and an agent that has them and a memory space.
async fn desk(extra: &str, variables: &[(&str, &str)]) -> Daemon {
    let dir = data_dir();
    fs::create_dir(dir.path().join("policies")).unwrap();
    let mut command = palisade();
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("OTEL_") {
            command.env_remove(name);
        }
    }
    command.envs(variables.iter().copied());
    let config = format!("{extra}\n[policy]\ndir = {:?}\n", dir.path().join("policies"));
    write_policies(dir.path(), "");
    let daemon = Daemon::launch(dir, &config, command).await;
    for (name, effect) in [("desk.read", Effect::Read), ("desk.append", Effect::Append), ("outer", Effect::Append)] {
        daemon.tool(name, effect).await.unwrap();
    }
    daemon.tool("desk.delete", Effect::Destroy).await.unwrap();
    write_policies(daemon.dir.path(), POLICIES);
    daemon.policies().reload_policies(v1::ReloadPoliciesRequest {}).await.unwrap();
    daemon.agent(TOOLS).await.unwrap();
    daemon
}

fn call(name: &str, arguments: Value) -> Value {
    json!({ "call-tool": { "name": name, "arguments": arguments } })
}

/// An outer and an inner tool, another tool, one that is denied, and the memory.
fn acts() -> Value {
    json!([
        call("outer", json!({ "act": { "call": { "name": "desk.append", "arguments": { "queue": CANARY } } } })),
        call("desk.read", json!({ "queue": CANARY })),
        call("desk.delete", json!({ "queue": CANARY })),
        "list-tools",
        { "memory-put": { "space": "notes", "key": CANARY, "value": CANARY } },
    ])
}

/// Spans of these acts: five calls, the inner one, the step and the caller's call.
const SPANS: usize = 8;

/// Runs a step within a trace of its caller's, to its end.
async fn run_traced(daemon: &Daemon, request: v1::RunStepRequest) -> v1::StepResult {
    let mut request = Request::new(request);
    request.metadata_mut().insert("traceparent", format!("00-{TRACE}-{CALLER}-01").parse().unwrap());
    request.metadata_mut().insert("tracestate", STATE.parse().unwrap());
    let mut stream = daemon.steps().run_step(request).await.unwrap().into_inner();
    let mut result = None;
    while let Some(response) = tokio::time::timeout(PATIENCE, stream.message()).await.unwrap().unwrap() {
        if let Some(Message::Result(found)) = response.message {
            result = Some(found);
        }
    }
    result.expect("a result")
}

/// What a traced step left: in the journal, and at the collector.
struct Story {
    records: Vec<Value>,
    trace: Trace,
}

impl Story {
    /// Returns the story without any variable but the endpoint. The first test that asks tells it.
    async fn plain() -> &'static Self {
        static STORY: OnceCell<Story> = OnceCell::const_new();
        STORY.get_or_init(|| Self::told(&[])).await
    }

    /// Runs the acts, and stops the daemon, which sends what is left.
    async fn told(variables: &[(&str, &str)]) -> Self {
        let collector = Collector::start().await;
        let endpoint = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str())];
        let mut daemon = desk("", &[&endpoint, variables].concat()).await;
        let result = run_traced(&daemon, asked(acts())).await;
        assert_eq!(result.outcome(), Outcome::Succeeded, "{result:?}");
        let records = daemon.records(&["step", "intent", "outcome", "denial", "result"]).await;
        daemon.stop().await;
        Self { records, trace: collector.trace() }
    }

    /// Returns the only record of a kind whose body says this.
    fn record(&self, kind: &str, key: &str, value: &str) -> &Value {
        let mut found = self.records.iter().filter(|r| r["kind"] == kind && r["body"][key] == value);
        let record = found.next().unwrap_or_else(|| panic!("no {kind} with {key} {value}: {:#?}", self.records));
        assert!(found.next().is_none(), "more than one {kind} with {key} {value}");
        record
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_step_is_a_tree_of_spans_in_its_callers_trace() {
    let trace = &Story::plain().await.trace;
    assert_eq!(trace.0.len(), SPANS, "{:?}", trace.names());
    for span in &trace.0 {
        assert_eq!((span.trace.as_str(), span.state.as_str()), (TRACE, STATE), "{}", span.name);
        assert_eq!((&span.resource["service.name"], span.start_ns <= span.end_ns), (&json!("palisade"), true));
    }
    let rpc = trace.span("palisade.v1.Steps/RunStep");
    assert_eq!((rpc.kind, rpc.parent.as_str(), rpc.status), (SpanKind::Server, CALLER, StatusCode::Unset));
    assert_eq!(
        (&rpc.attributes["rpc.system.name"], &rpc.attributes["rpc.response.status_code"]),
        (&json!("grpc"), &json!("OK"))
    );
    assert_eq!(trace.children(rpc), ["invoke_agent tester"]);
    let step = trace.span("invoke_agent tester");
    let calls =
        ["execute_tool outer", "execute_tool desk.read", "execute_tool desk.delete", "tools.list", "upsert_memory"];
    assert_eq!(trace.children(step), calls);
    let outer = trace.span("execute_tool outer");
    assert_eq!(trace.children(outer), ["execute_tool desk.append"]);
    for leaf in ["execute_tool desk.append", "execute_tool desk.read", "execute_tool desk.delete", "upsert_memory"] {
        let span = trace.span(leaf);
        assert_eq!((span.kind, trace.children(span)), (SpanKind::Internal, vec![]), "{leaf}");
    }
    let inner = trace.span("execute_tool desk.append");
    assert!(outer.start_ns <= inner.start_ns && inner.end_ns <= outer.end_ns, "{outer:?} {inner:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_tools_span_says_what_ran_and_why_it_was_allowed() {
    let story = Story::plain().await;
    for (name, effect) in [("desk.read", "read"), ("desk.append", "append"), ("outer", "append")] {
        let said = &story.trace.span(&format!("execute_tool {name}")).attributes;
        let intent = story.record("intent", "tool", &format!("{name}@1"));
        let (body, decision) = (&intent["body"], &intent["body"]["decision"]);
        let step = intent["step"].as_str().unwrap().trim_start_matches("steps/");
        for (key, value) in [
            ("gen_ai.operation.name", json!("execute_tool")),
            ("gen_ai.tool.name", json!(name)),
            ("gen_ai.tool.call.id", json!(format!("decisions/{step}/{}", intent["call"]))),
            ("gen_ai.tool.type", json!("function")),
            ("palisade.tool.effect", json!(effect)),
            ("palisade.tool.digest", body["digest"].clone()),
            ("palisade.arguments.digest", body["arguments"].clone()),
            ("palisade.decision", json!("allow")),
            ("palisade.policy.ids", json!(["all"])),
            ("palisade.policy.revision", decision["revision"].clone()),
            ("palisade.journal.sequence", intent["sequence"].clone()),
        ] {
            assert!(!value.is_null(), "{key} is not in the record of {name}: {intent}");
            assert_eq!(said[key], value, "{key} of {name}: {said}");
        }
        let outcome = story.records.iter().find(|r| r["kind"] == "outcome" && r["call"] == intent["call"]).unwrap();
        assert_eq!(said["palisade.usage.fuel"], outcome["body"]["used"]["fuel"]);
        assert_eq!((said.get("error.type"), said["palisade.usage.fuel"].as_i64() > Some(0)), (None, true), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_steps_span_says_who_ran_and_how_it_ended() {
    let story = Story::plain().await;
    let said = &story.trace.span("invoke_agent tester").attributes;
    let (step, result) = (&story.records[0], story.records.last().unwrap());
    for (key, value) in [
        ("gen_ai.operation.name", json!("invoke_agent")),
        ("gen_ai.provider.name", json!("palisade")),
        ("gen_ai.agent.id", step["body"]["agent"].clone()),
        ("gen_ai.agent.name", json!("tester")),
        ("gen_ai.agent.version", json!("1")),
        ("palisade.step", step["step"].clone()),
        ("palisade.component.digest", step["body"]["component"].clone()),
        ("palisade.outcome", json!("succeeded")),
        ("palisade.journal.sequence", result["sequence"].clone()),
        ("palisade.usage.fuel", result["body"]["usage"]["fuel"].clone()),
    ] {
        assert!(!value.is_null(), "{key} is not in the records: {step} {result}");
        assert_eq!(said[key], value, "{key}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_denied_call_is_an_error_with_its_reason_and_no_child() {
    let story = Story::plain().await;
    let span = story.trace.span("execute_tool desk.delete");
    let denial = story.record("denial", "tool", "desk.delete@1");
    let error = &denial["body"]["error"];
    assert_eq!((&error["code"], &error["rule"]), (&json!("POLICY_FORBIDS"), &json!("no-deleting")));
    for (key, value) in [
        ("error.type", &error["code"]),
        ("gen_ai.tool.call.id", &error["decision"]),
        ("palisade.decision", &json!("deny")),
        ("palisade.policy.ids", &json!(["no-deleting"])),
        ("palisade.policy.revision", &denial["body"]["decision"]["revision"]),
        ("palisade.arguments.digest", &denial["body"]["arguments"]),
        ("palisade.journal.sequence", &denial["sequence"]),
    ] {
        assert_eq!(&span.attributes[key], value, "{key}: {}", span.attributes);
    }
    assert_eq!((span.status, json!(span.message)), (StatusCode::Error, error["message"].clone()));
    let told = json!({ "palisade.denial.code": error["code"], "palisade.denial.text": error["message"] });
    assert_eq!(span.events, [("palisade.denial".to_owned(), told)]);
    assert_eq!(story.trace.children(span), Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn records_and_spans_name_each_other() {
    let story = Story::plain().await;
    assert_eq!(story.records.len(), 2 + 2 * 5 + 1, "the step and its result, five intents with outcomes, a denial");
    let mut named = 0;
    for record in &story.records {
        assert_eq!(record["trace"], TRACE, "{record}");
        let span = story.trace.with_id(&record["span"]);
        let expected = match record["kind"].as_str().unwrap() {
            "step" | "result" => "invoke_agent tester".to_owned(),
            _ => match (record["body"]["tool"].as_str(), record["body"]["power"].as_str()) {
                (Some(tool), _) => format!("execute_tool {}", tool.trim_end_matches("@1")),
                _ => span.name.clone(),
            },
        };
        assert_eq!(span.name, expected, "{record}");
        // Of a call's two records the intent is the one that its span names; of a step's, the result.
        named += usize::from(span.attributes["palisade.journal.sequence"] == record["sequence"]);
    }
    assert_eq!(named, SPANS - 1, "all but the caller's call, which has no record");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn content_is_sent_only_if_the_operator_asks_for_it() {
    let story = Story::plain().await;
    assert!(!format!("{:?}", story.trace).contains(CANARY), "{:?}", story.trace);
    let asked_for = [("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true")];
    let story = Story::told(&asked_for).await;
    let said = |key| story.trace.span("execute_tool desk.read").attributes[key].as_str().unwrap_or_default();
    assert_eq!(said("gen_ai.tool.call.arguments"), format!("{{\"queue\":\"{CANARY}\"}}"));
    assert!(said("gen_ai.tool.call.result").contains(CANARY), "{}", said("gen_ai.tool.call.result"));
    let denied = &story.trace.span("execute_tool desk.delete").attributes;
    assert_eq!(denied["gen_ai.tool.call.arguments"], said("gen_ai.tool.call.arguments"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_step_whose_caller_hangs_up_is_told_to_its_end() {
    let collector = Collector::start().await;
    let mut daemon = desk("", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint)]).await;
    let running = daemon.steps().run_step(asked(json!([call("desk.append", json!({ "act": "spin" }))]))).await.unwrap();
    recorded(&daemon, "intent").await;
    drop(running);
    let result = recorded(&daemon, "result").await;
    daemon.stop().await;
    let trace = collector.trace();
    let (step, tool) = (trace.span("invoke_agent tester"), trace.span("execute_tool desk.append"));
    assert_eq!(step.attributes["palisade.outcome"], "cancelled");
    assert_eq!(step.attributes["error.type"], result["body"]["failure"]["code"]);
    assert_eq!((tool.status, tool.parent.as_str()), (StatusCode::Error, step.id.as_str()), "{tool:?}");
    let rpc = trace.span("palisade.v1.Steps/RunStep");
    assert_eq!(rpc.attributes["rpc.response.status_code"], "CANCELLED");
    assert_eq!(trace.children(rpc), ["invoke_agent tester"]);
}

/// Waits for a record of a kind, and returns it.
async fn recorded(daemon: &Daemon, kind: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(record) = daemon.records(&[kind]).await.pop() {
            return record;
        }
        assert!(Instant::now() < deadline, "no {kind} in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_call_that_is_not_accepted_has_a_span_too() {
    let collector = Collector::start().await;
    let mut daemon = desk("", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint)]).await;
    let unknown = v1::RunStepRequest { agent: "nobody".into(), ..asked(json!([])) };
    daemon.run(unknown).await.err().unwrap();
    daemon.stop().await;
    let trace = collector.trace();
    let rpc = trace.span("palisade.v1.Steps/RunStep");
    assert_eq!(rpc.attributes["rpc.response.status_code"], "NOT_FOUND");
    assert_eq!((trace.0.len(), rpc.parent.as_str(), rpc.status), (1, "", StatusCode::Unset), "it begins a trace");
}

/// Returns whether a daemon has threads for telemetry.
fn has_telemetry(daemon: &Daemon) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.child.id())).unwrap();
    let mut names = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.any(|name| name.starts_with("telemetry") || name.starts_with("OpenTelemetry"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn it_is_off_unless_asked_for_and_records_still_name_the_callers_trace() {
    let collector = Collector::start().await;
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str());
    assert!(has_telemetry(&desk("", &[endpoint]).await));
    for variables in [vec![], vec![endpoint, ("OTEL_SDK_DISABLED", "true")]] {
        let mut daemon = desk("", &variables).await;
        assert_eq!(run_traced(&daemon, asked(acts())).await.outcome(), Outcome::Succeeded);
        assert!(!has_telemetry(&daemon), "{variables:?}");
        let records = daemon.records(&["step", "intent", "outcome", "denial", "result"]).await;
        assert!(records.iter().all(|record| record["trace"] == TRACE && record["span"] == CALLER), "{records:?}");
        daemon.stop().await;
    }
    assert_eq!(collector.trace().names(), Vec::<&str>::new());
}
