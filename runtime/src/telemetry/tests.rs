//! What spans say, and whose children they are.

mod collector;
mod delivery;

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use opentelemetry::{
    SpanId, Value,
    trace::{SpanKind, Status},
};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{SpanData, SpanExporter},
};

use super::{
    export::{self, Losses},
    start::Inner,
    *,
};
use crate::step::{Digest, Failure, Outcome, Usage};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// Longer than anything here takes, shorter than a person's patience.
const AGES: Duration = Duration::from_secs(30);

/// Keeps what it is given, in place of a collector. Fails or waits if told to.
#[derive(Debug, Clone, Default)]
struct Kept {
    spans: Arc<Mutex<Vec<SpanData>>>,
    fails: bool,
    /// Each export waits for a message, or for the end of the channel.
    gate: Option<Arc<Mutex<mpsc::Receiver<()>>>>,
}

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        if let Some(gate) = &self.gate {
            let _ = gate.lock().unwrap().recv();
        }
        if self.fails {
            return Err(OTelSdkError::InternalFailure("no".into()));
        }
        self.spans.lock().unwrap().extend(batch);
        Ok(())
    }
}

impl Kept {
    fn telemetry(&self, queue: usize, content: bool) -> (Telemetry, Arc<Losses>) {
        let losses = Arc::<Losses>::default();
        let mut inner = Inner { content, ..Inner::default() };
        inner.trace(export::provider(self.clone(), queue, Resource::builder_empty().build(), losses.clone()));
        (Telemetry(Arc::new(inner)), losses)
    }

    fn span(&self, name: &str) -> SpanData {
        let spans = self.spans.lock().unwrap();
        spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no span `{name}` in {spans:?}")).clone()
    }

    fn count(&self) -> usize {
        self.spans.lock().unwrap().len()
    }
}

/// Runs `work` with telemetry that keeps its spans, and returns them.
fn kept(content: bool, work: impl FnOnce(&Telemetry)) -> Kept {
    let kept = Kept::default();
    let (telemetry, losses) = kept.telemetry(1_000, content);
    work(&telemetry);
    telemetry.end(AGES);
    assert_eq!(lost(&losses), [0, 0, 0]);
    kept
}

fn lost(losses: &Losses) -> [u64; 3] {
    use std::sync::atomic::Ordering::Relaxed;
    [losses.queue_full.load(Relaxed), losses.export_failed.load(Relaxed), losses.shut_down.load(Relaxed)]
}

fn attribute(span: &SpanData, key: &str) -> Option<Value> {
    span.attributes.iter().find(|attribute| attribute.key.as_str() == key).map(|attribute| attribute.value.clone())
}

fn said(span: &SpanData, key: &str) -> String {
    attribute(span, key).map(|value| value.as_str().into_owned()).unwrap_or_default()
}

fn caller(flags: &str) -> Context {
    Context::from_headers(Some(&format!("00-{TRACE}-{CALLER}-{flags}")), None)
}

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn step_start(agent: bool) -> StepStart<'static> {
    let agent = agent.then_some(Agent { id: "support@3", name: "support", version: "3" });
    StepStart { step: "steps/1", agent, component: digest("component") }
}

const VERDICT: Verdict<'static, &'static str> =
    Verdict { decision: Decision::Allow, policies: &["reads", "appends"], revision: &"r7" };

/// A caller's call, a step in it, an allowed tool call with a memory call inside, and a denied one.
fn a_step(telemetry: &Telemetry, parent: &Context) {
    let usage = Usage { fuel: u64::MAX, wall_time_us: 12, disk_bytes: -5, ..Usage::default() };
    let mut rpc = telemetry.rpc(parent, "palisade.v1.Steps/RunStep");
    let mut step = telemetry.step(rpc.context(), step_start(true));

    let read = ToolCall { name: "crm.read", call: "c1", tool: Some((digest("tool"), "read")) };
    let mut tool = telemetry.tool(step.context(), read);
    tool.arguments(digest("{}"), b"{\"ticket\":7}");
    tool.decided(VERDICT);
    tool.journaled(41);
    let mut memory = telemetry.memory(tool.context(), MemoryVerb::Put, "notes");
    memory.decided(Verdict { decision: Decision::WouldDeny, ..VERDICT });
    drop(memory);
    tool.used(&usage);
    tool.result(b"a ticket");
    drop(tool);

    let mut denied = telemetry.tool(step.context(), ToolCall { name: "crm.delete", call: "c2", tool: None });
    denied.decided(Verdict { decision: Decision::Deny, policies: &["never"], revision: &"r7" });
    denied.journaled(42);
    denied.denied(&Failure::new("POLICY_DENIED", "policy `never` forbids it"));
    drop(denied);
    drop(telemetry.host_call(step.context(), "tools.list"));

    step.step_ended(&Outcome::Failed(Failure::new("NO_TICKET", "there is none")), &usage);
    step.journaled(43);
    drop(step);
    rpc.rpc_ended(0, "");
}

#[test]
fn a_step_is_a_tree_of_spans() {
    let kept = kept(false, |telemetry| a_step(telemetry, &caller("01")));
    assert_eq!(kept.count(), 6);
    let id = |name| kept.span(name).span_context.span_id();
    for (child, parent, kind) in [
        ("palisade.v1.Steps/RunStep", SpanId::from_hex(CALLER).unwrap(), SpanKind::Server),
        ("invoke_agent support", id("palisade.v1.Steps/RunStep"), SpanKind::Internal),
        ("execute_tool crm.read", id("invoke_agent support"), SpanKind::Internal),
        ("upsert_memory", id("execute_tool crm.read"), SpanKind::Internal),
        ("execute_tool crm.delete", id("invoke_agent support"), SpanKind::Internal),
        ("tools.list", id("invoke_agent support"), SpanKind::Internal),
    ] {
        let span = kept.span(child);
        assert_eq!(span.span_context.trace_id().to_string(), TRACE, "{child}");
        assert_eq!((span.parent_span_id, span.span_kind), (parent, kind), "{child}");
        assert!(span.start_time <= span.end_time, "{child}");
    }
    let denied = id("execute_tool crm.delete");
    assert!(kept.spans.lock().unwrap().iter().all(|span| span.parent_span_id != denied), "a denied call has no child");
}

#[test]
fn spans_say_what_was_called_and_why_it_was_allowed() {
    let kept = kept(false, |telemetry| a_step(telemetry, &Context::default()));
    let rpc = kept.span("palisade.v1.Steps/RunStep");
    assert_eq!(said(&rpc, "rpc.system.name"), "grpc");
    assert_eq!(said(&rpc, "rpc.method"), "palisade.v1.Steps/RunStep");
    assert_eq!(said(&rpc, "rpc.response.status_code"), "OK");
    assert_eq!(rpc.status, Status::Unset);

    let step = kept.span("invoke_agent support");
    for (key, value) in [
        ("gen_ai.operation.name", "invoke_agent"),
        ("gen_ai.provider.name", "palisade"),
        ("gen_ai.agent.id", "support@3"),
        ("gen_ai.agent.name", "support"),
        ("gen_ai.agent.version", "3"),
        ("palisade.step", "steps/1"),
        ("palisade.component.digest", &digest("component").to_string()),
        ("palisade.outcome", "failed"),
        ("palisade.journal.sequence", "43"),
        ("palisade.usage.fuel", "9223372036854775807"),
        ("palisade.usage.wall_time_us", "12"),
        ("palisade.usage.disk_bytes", "-5"),
        ("error.type", "NO_TICKET"),
    ] {
        assert_eq!(said(&step, key), value, "{key}");
    }
    assert_eq!(step.status, Status::error("there is none"));

    let tool = kept.span("execute_tool crm.read");
    for (key, value) in [
        ("gen_ai.operation.name", "execute_tool"),
        ("gen_ai.tool.name", "crm.read"),
        ("gen_ai.tool.call.id", "c1"),
        ("gen_ai.tool.type", "function"),
        ("palisade.tool.digest", &digest("tool").to_string()),
        ("palisade.tool.effect", "read"),
        ("palisade.arguments.digest", &digest("{}").to_string()),
        ("palisade.decision", "allow"),
        ("palisade.policy.ids", r#"["reads","appends"]"#),
        ("palisade.policy.revision", "r7"),
        ("palisade.journal.sequence", "41"),
    ] {
        assert_eq!(said(&tool, key), value, "{key}");
    }
    assert_eq!(tool.status, Status::Unset);

    let memory = kept.span("upsert_memory");
    assert_eq!(said(&memory, "gen_ai.operation.name"), "upsert_memory");
    assert_eq!(said(&memory, "palisade.memory.space"), "notes");
    assert_eq!(said(&memory, "palisade.decision"), "would-deny");
}

#[test]
fn a_denied_call_says_why() {
    let kept = kept(false, |telemetry| a_step(telemetry, &Context::default()));
    let denied = kept.span("execute_tool crm.delete");
    assert_eq!(said(&denied, "palisade.decision"), "deny");
    assert_eq!(said(&denied, "error.type"), "POLICY_DENIED");
    assert_eq!(denied.status, Status::error("policy `never` forbids it"));
    assert_eq!(attribute(&denied, "palisade.tool.digest"), None);
    let event = denied.events.iter().find(|event| event.name == "palisade.denial").unwrap();
    assert!(event.attributes.iter().any(|a| a.value.as_str() == "policy `never` forbids it"), "{event:?}");
}

#[test]
fn a_bare_component_has_no_agent() {
    let kept = kept(false, |telemetry| {
        let mut step = telemetry.step(&Context::default(), step_start(false));
        step.step_ended(&Outcome::Exited { code: 2 }, &Usage::default());
    });
    let step = kept.span("invoke_agent");
    assert_eq!(attribute(&step, "gen_ai.agent.name"), None);
    assert_eq!(said(&step, "error.type"), "EXITED");
}

#[test]
fn content_is_in_spans_only_if_it_was_asked_for() {
    let parts = ["gen_ai.tool.call.arguments", "gen_ai.tool.call.result"];
    for (content, expected) in [(false, ["", ""]), (true, [r#"{"ticket":7}"#, "a ticket"])] {
        let kept = kept(content, |telemetry| a_step(telemetry, &Context::default()));
        let tool = kept.span("execute_tool crm.read");
        assert_eq!(parts.map(|part| said(&tool, part)), expected);
    }
}

#[test]
fn no_text_makes_a_span_large() {
    let long = "é".repeat(100_000);
    let kept = kept(true, |telemetry| {
        let mut tool = telemetry.tool(&Context::default(), ToolCall { name: &long, call: &long, tool: None });
        let many = vec![&long; 1_000];
        tool.decided(Verdict { decision: Decision::Deny, policies: &many, revision: &long });
        tool.denied(&Failure::new(long.as_str(), long.as_str()));
        tool.arguments(digest(""), long.as_bytes());
        tool.result(&[0xff; 1_000_000]);
    });
    let spans = kept.spans.lock().unwrap();
    let texts = spans[0].attributes.iter().map(|attribute| attribute.value.as_str().len()).sum::<usize>();
    assert!(texts < 300_000 && spans[0].name.len() < 200, "{texts}");
}

#[test]
fn status_codes_of_the_caller_are_not_failures_of_the_server() {
    let ended = |code| {
        let kept = kept(false, |telemetry| telemetry.rpc(&Context::default(), "x/Y").rpc_ended(code, "why"));
        let span = kept.span("x/Y");
        (said(&span, "rpc.response.status_code"), said(&span, "error.type"), span.status)
    };
    assert_eq!(ended(7), ("PERMISSION_DENIED".into(), String::new(), Status::Unset));
    assert_eq!(ended(14), ("UNAVAILABLE".into(), "UNAVAILABLE".into(), Status::error("why")));
    for strange in [-1, 17, i32::MAX, i32::MIN] {
        assert_eq!(ended(strange).0, "UNKNOWN");
    }
}

#[test]
fn a_call_that_nobody_ended_was_cancelled() {
    let kept = kept(false, |telemetry| drop(telemetry.rpc(&Context::default(), "x/Y")));
    assert_eq!(said(&kept.span("x/Y"), "rpc.response.status_code"), "CANCELLED");
}

#[test]
fn a_caller_that_does_not_sample_gets_no_spans_but_keeps_its_trace() {
    let kept = kept(false, |telemetry| {
        let span = telemetry.rpc(&caller("00"), "x/Y");
        assert!(!span.is_recording());
        assert_eq!(span.context().trace_id().as_deref(), Some(TRACE));
    });
    assert_eq!(kept.count(), 0);
}

#[test]
fn without_telemetry_a_span_is_its_parents_context() {
    let telemetry = Telemetry::start(Settings { service_version: "0", metrics: false }, &|_| None).unwrap();
    let span = telemetry.span(&caller("01"), SpanKind::Internal, || panic!("nobody wants to know"));
    assert!(!span.is_recording());
    assert_eq!(span.context().trace_id().as_deref(), Some(TRACE));
    assert_eq!(span.context().span_id().as_deref(), Some(CALLER));
    a_step(&telemetry, &Context::default());
    telemetry.shutdown();
}
