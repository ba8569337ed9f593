//! What a hold does to what runs: it is stopped from outside, in time, and nothing leaves any more.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use palisade_proto::v1::{self, hold::Action, run_step_response::Message, step_result::Outcome};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::{Instant, sleep, timeout},
};
use tonic::Streaming;

use super::{
    imposed, lift, listed, order,
    times::{BOUND, STOPS, Times, answer, in_time, took},
};
use crate::harness::{
    Daemon, PATIENCE, asked, eventually, limited, probe, seconds,
    upstream::{Piece, Reply, Upstream},
};

/// Of these so many run at once.
const AT_ONCE: usize = 10;

pub const ALL: &str = "permit (principal, action, resource);";

/// A step that runs, and what it says.
pub struct Step {
    pub name: String,
    stream: Streaming<v1::RunStepResponse>,
}

pub async fn start(daemon: &Daemon, request: v1::RunStepRequest) -> Step {
    let request =
        limited(request, v1::StepLimits { timeout: seconds(300), fuel: Some(1_000_000_000_000), ..Default::default() });
    let mut stream = daemon.steps().run_step(request).await.unwrap().into_inner();
    let Some(Message::Accepted(accepted)) = stream.message().await.unwrap().unwrap().message else { panic!() };
    Step { name: accepted.step, stream }
}

impl Step {
    /// Waits until the guest says something.
    async fn speaks(&mut self) {
        while !matches!(self.stream.message().await.unwrap().unwrap().message, Some(Message::Event(_))) {}
    }

    pub async fn result(mut self) -> v1::StepResult {
        loop {
            if let Some(Message::Result(result)) = self.stream.message().await.unwrap().unwrap().message {
                return result;
            }
        }
    }
}

/// Kills 200 steps that do `acts`, each as soon as it `runs`: all in their time, but for one in a hundred. The machine may
/// be busy with other tests: then it is measured again.
async fn are_killed_in_time(daemon: &Daemon, acts: Value, runs: impl AsyncFn(usize)) {
    let mut late = Vec::new();
    for attempt in 0..10 {
        match in_time(kills(daemon, &acts, attempt * STOPS, &runs).await) {
            Ok(()) => return,
            Err(times) => late.push(times),
        }
    }
    panic!("99 of 100 were never stopped within {BOUND:?} and what an answer takes: {late:?}");
}

async fn kills(daemon: &Daemon, acts: &Value, before: usize, runs: &impl AsyncFn(usize)) -> Times {
    let mut times = Times::default();
    for round in 0..STOPS / AT_ONCE {
        let said = json!({ "log": { "message": "running", "count": 1 } });
        let acts: Vec<_> = std::iter::once(said).chain(acts.as_array().unwrap().iter().cloned()).collect();
        let mut steps = Vec::new();
        for _ in 0..AT_ONCE {
            steps.push(start(daemon, asked(json!(acts))).await);
        }
        for step in &mut steps {
            step.speaks().await;
        }
        runs(before + (round + 1) * AT_ONCE).await;
        for step in steps {
            times.answers.push(answer(daemon).await);
            let killed = imposed(daemon, order(Action::Kill, &step.name)).await.unwrap();
            let evidence = killed.evidence.unwrap();
            assert_eq!(evidence.steps.iter().map(|stopped| &stopped.step).collect::<Vec<_>>(), [&step.name]);
            times.stops.push(took(evidence.steps[0].took.as_ref()));
            let result = step.result().await;
            assert_eq!(result.outcome(), Outcome::Cancelled);
            let failure = result.failure.unwrap();
            assert_eq!(failure.code, "HELD");
            assert!(failure.message.contains("it sends mail"), "{}", failure.message);
        }
    }
    times
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_stops_guests_that_compute_and_guests_that_sleep() {
    let daemon = Daemon::start().await;
    daemon.agent("").await.unwrap();
    are_killed_in_time(&daemon, json!(["spin"]), async |_| {}).await;
    are_killed_in_time(&daemon, json!([{ "sleep": { "milliseconds": 280_000 } }]), async |_| {}).await;
}

async fn agent_for(address: SocketAddr) -> Daemon {
    let (ip, port) = (address.ip(), address.port());
    let rule = format!(
        "[[egress]]\nname = \"api\"\nscheme = \"http\"\nhost = \"{ip}\"\nport = {port}\ncidrs = [\"{ip}/32\"]\nmethods = [\"GET\", \"POST\"]\nrequest_bytes = 67_108_864\nresponse_bytes = 67_108_864\n"
    );
    let daemon = Daemon::governed(ALL, &rule).await;
    daemon.agent("[[egress]]\nrule = \"api\"\n").await.unwrap();
    daemon
}

fn request(address: SocketAddr, more: Value) -> Value {
    let mut asked = json!({ "scheme": "http", "authority": address.to_string(), "path": "/x" });
    asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_ends_a_request_that_hangs() {
    let upstream = Upstream::plain(([127, 0, 0, 1], 0).into()).await;
    upstream.on("/x", |_| Reply::Raw(vec![Piece::Hang]));
    let daemon = agent_for(upstream.address).await;
    let act = json!([{ "http": request(upstream.address, json!({})) }]);
    let seen = upstream.clone();
    are_killed_in_time(&daemon, act, async |count| seen.until("asked", |up| up.seen().len() == count).await).await;
    upstream.until("closed", |upstream| upstream.connections().iter().all(|connection| connection.closed)).await;
    let outcomes = daemon.records(&["outcome"]).await;
    assert!(outcomes.iter().all(|outcome| outcome["body"]["why"].as_str().unwrap().contains("it sends mail")));
}

/// Bytes of a stream that nobody waits for the end of.
const STREAM_BYTES: usize = 30_000_000;

/// Echoes what comes, slowly; counts it.
async fn slow_echo() -> (SocketAddr, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, bytes, open) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default(), Arc::default());
    let (counted, opened): (_, Arc<AtomicUsize>) = (bytes.clone(), Arc::clone(&open));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (counted, opened) = (counted.clone(), opened.clone());
            tokio::spawn(async move {
                opened.fetch_add(1, Relaxed);
                let (mut buffer, mut head) = (vec![0; 16 << 10], Vec::new());
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let head = format!("HTTP/1.1 200 -\r\ncontent-length: {STREAM_BYTES}\r\n\r\n");
                let mut said = stream.write_all(head.as_bytes()).await.is_ok();
                while said {
                    match stream.read(&mut buffer).await {
                        Ok(count @ 1..) => {
                            counted.fetch_add(count, Relaxed);
                            sleep(Duration::from_millis(2)).await; // it is slow
                            said = stream.write_all(&buffer[..count]).await.is_ok();
                        }
                        _ => break,
                    }
                }
                opened.fetch_sub(1, Relaxed);
            });
        }
    });
    (address, bytes, open)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_ends_a_slow_stream_and_no_byte_leaves_after_it() {
    let (address, bytes, open) = slow_echo().await;
    let daemon = agent_for(address).await;
    let (length, body) = (STREAM_BYTES.to_string(), vec![json!({ "fill": 1000 }); STREAM_BYTES / 1000]);
    let asked_for = json!({ "method": "POST", "headers": [["content-length", length]], "body": body });
    let act = json!([{ "http-stream": request(address, asked_for) }]);
    let (streams, counted) = (open.clone(), bytes.clone());
    are_killed_in_time(&daemon, act.clone(), async |_| {
        let before = counted.load(Relaxed);
        eventually("the streams flow", || streams.load(Relaxed) == AT_ONCE && counted.load(Relaxed) > before + 20_000)
            .await;
    })
    .await;
    eventually("every connection is closed", || open.load(Relaxed) == 0).await;
    // One after the other, so that whatever still comes is of the one that was killed.
    for _ in 0..20 {
        let before = bytes.load(Relaxed);
        let step = start(&daemon, asked(act.clone())).await;
        eventually("the stream flows", || bytes.load(Relaxed) > before + 5_000).await;
        imposed(&daemon, order(Action::Kill, &step.name)).await.unwrap();
        sleep(Duration::from_millis(5)).await; // what had left before is read meanwhile
        let after = bytes.load(Relaxed);
        eventually("the connection is closed", || open.load(Relaxed) == 0).await;
        assert_eq!(bytes.load(Relaxed), after, "a byte left after the kill was acknowledged");
        step.result().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wide_kill_stops_all_that_it_covers_and_nothing_else() {
    let daemon = Daemon::start().await;
    daemon.agent("").await.unwrap();
    let mut agents = Vec::new();
    for _ in 0..5 {
        let mut step = start(&daemon, asked(json!([{ "log": { "message": "running", "count": 1 } }, "spin"]))).await;
        step.speaks().await;
        agents.push(step);
    }
    let other = start(&daemon, probe(json!([{ "sleep": { "milliseconds": 2_000 } }]))).await;
    let killed = imposed(&daemon, order(Action::Kill, "agents/tester")).await.unwrap();
    let mut stopped: Vec<_> = killed.evidence.unwrap().steps.into_iter().map(|stopped| stopped.step).collect();
    let mut expected: Vec<_> = agents.iter().map(|step| step.name.clone()).collect();
    stopped.sort();
    expected.sort();
    assert_eq!(stopped, expected);
    for step in agents {
        assert_eq!(step.result().await.failure.unwrap().code, "HELD");
    }
    assert_eq!(other.result().await.outcome(), Outcome::Succeeded);
    let record = daemon.records(&["control"]).await.pop().unwrap();
    assert_eq!(record["body"]["evidence"]["steps"].as_array().unwrap().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_rule_host_or_credential_cuts_calls_off_and_their_step_goes_on() {
    let upstream = Upstream::plain(([127, 0, 0, 1], 0).into()).await;
    upstream.on("/x", |_| Reply::Raw(vec![Piece::Hang]));
    let daemon = agent_for(upstream.address).await;
    let host = format!("hosts/{}", upstream.address.ip());
    for scope in ["rules/api", &host] {
        let before = upstream.seen().len();
        let acts =
            json!([{ "http": request(upstream.address, json!({})) }, { "http": request(upstream.address, json!({})) }]);
        let step = start(&daemon, asked(acts)).await;
        upstream.until("asked", |upstream| upstream.seen().len() == before + 1).await;
        let killed = imposed(&daemon, order(Action::Kill, scope)).await.unwrap();
        let evidence = killed.evidence.unwrap();
        assert_eq!((evidence.steps.len(), evidence.calls.len()), (0, 1), "{scope}");
        assert_eq!(evidence.calls[0].step, step.name);
        let result = step.result().await;
        assert_eq!(result.outcome(), Outcome::Succeeded);
        let said = String::from_utf8(result.output).unwrap();
        assert_eq!(said.matches("HELD").count(), 2, "the call under way, and the next: {said}");
        assert_eq!(upstream.seen().len(), before + 1);
        lift(&daemon, &killed.hold.unwrap().name).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_call_waits_until_the_hold_is_lifted() {
    let upstream = Upstream::plain(([127, 0, 0, 1], 0).into()).await;
    let daemon = agent_for(upstream.address).await;
    let acts = json!([
        { "log": { "message": "running", "count": 1 } },
        { "sleep": { "milliseconds": 300 } },
        { "http": request(upstream.address, json!({})) },
    ]);
    let mut step = start(&daemon, asked(acts)).await;
    step.speaks().await;
    let frozen = imposed(&daemon, order(Action::Freeze, "agents/tester")).await.unwrap().hold.unwrap();
    sleep(Duration::from_millis(800)).await; // it would have asked by now
    assert_eq!(upstream.seen().len(), 0);
    lift(&daemon, &frozen.name).await.unwrap();
    assert_eq!(step.result().await.outcome(), Outcome::Succeeded);
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_what_runs_end_and_stops_what_does_not() {
    let daemon = Daemon::start().await;
    let brief = start(&daemon, probe(json!([{ "sleep": { "milliseconds": 500 } }]))).await;
    let endless = start(&daemon, probe(json!(["spin"]))).await;
    let started = Instant::now();
    let drained = v1::ImposeHoldRequest {
        drain_timeout: Some(prost_types::Duration { seconds: 2, nanos: 0 }),
        ..order(Action::Drain, "node")
    };
    let evidence = imposed(&daemon, drained).await.unwrap().evidence.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(2) && started.elapsed() < PATIENCE);
    assert_eq!(evidence.steps.iter().map(|stopped| &stopped.step).collect::<Vec<_>>(), [&endless.name]);
    assert_eq!(brief.result().await.outcome(), Outcome::Succeeded);
    assert_eq!(endless.result().await.failure.unwrap().code, "HELD");
}

fn drain(scope: &str, seconds: i64) -> v1::ImposeHoldRequest {
    let drain_timeout = Some(prost_types::Duration { seconds, nanos: 0 });
    v1::ImposeHoldRequest { drain_timeout, ..order(Action::Drain, scope) }
}

/// What a step does that runs until it is stopped, and takes nothing from others.
pub fn asleep() -> Value {
    json!([{ "sleep": { "milliseconds": 280_000 } }])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_is_lifted_or_ends_before_its_grace_stops_nothing() {
    let daemon = Daemon::start().await;
    let endless = start(&daemon, probe(asleep())).await;
    let lifting = async {
        let lifted = loop {
            if let Some(held) = listed(&daemon).await.pop() {
                break held;
            }
        };
        eventually_async("it is recorded before its grace is over", async || {
            daemon.records(&["control"]).await.iter().any(|record| record["body"]["change"] == "imposed")
        })
        .await;
        lift(&daemon, &lifted.name).await.unwrap();
    };
    let started = Instant::now();
    let (lifted, ()) = tokio::join!(imposed(&daemon, drain("node", 600)), lifting);
    assert!(lifted.unwrap().evidence.unwrap().steps.is_empty());
    let ends = v1::ImposeHoldRequest { expire: seconds(1), ..drain("node", 600) };
    assert!(imposed(&daemon, ends).await.unwrap().evidence.unwrap().steps.is_empty());
    assert!(started.elapsed() < PATIENCE);
    let killed = imposed(&daemon, order(Action::Kill, "node")).await.unwrap();
    assert_eq!(killed.evidence.unwrap().steps[0].step, endless.name, "it ran on");
    endless.result().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_rule_lets_its_calls_end_and_cuts_off_those_that_do_not() {
    let upstream = Upstream::plain(([127, 0, 0, 1], 0).into()).await;
    upstream.on("/x", |_| Reply::Raw(vec![Piece::Hang]));
    let daemon = agent_for(upstream.address).await;
    let step = start(&daemon, asked(json!([{ "http": request(upstream.address, json!({})) }]))).await;
    upstream.until("asked", |upstream| upstream.seen().len() == 1).await;
    let started = Instant::now();
    let evidence = imposed(&daemon, drain("rules/api", 1)).await.unwrap().evidence.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!((evidence.steps.len(), evidence.calls.len()), (0, 1));
    assert_eq!(step.result().await.outcome(), Outcome::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_tool_has_ended_when_the_kill_is_answered() {
    let daemon = Daemon::governed(ALL, "").await;
    daemon.tool("desk.read", v1::Effect::Read).await.unwrap();
    daemon.agent("[[tool]]\nname = \"desk.read\"\n").await.unwrap();
    for scope in ["tools/desk.read", "agents/tester"] {
        let spins = json!({ "call-tool": { "name": "desk.read", "arguments": { "act": { "sleep": { "milliseconds": 280_000 } } } } });
        let step = start(&daemon, asked(json!([spins]))).await;
        eventually_async("the tool is called", async || {
            let intents = daemon.records(&["intent"]).await;
            intents.iter().any(|record| record["step"] == step.name.as_str())
        })
        .await;
        let killed = imposed(&daemon, order(Action::Kill, scope)).await.unwrap();
        let evidence = killed.evidence.unwrap();
        assert!(evidence.still_running.is_empty() && evidence.calls.len() == 1, "{scope}: {evidence:?}");
        assert!(evidence.calls[0].what.contains("desk.read"), "{evidence:?}");
        // A worker is killed for a tool that does not end: not more than its bound was waited for.
        assert!(took(evidence.calls[0].took.as_ref()) < Duration::from_millis(1_500), "{evidence:?}");
        let result = step.result().await;
        let succeeded = scope == "tools/desk.read" && result.outcome() == Outcome::Succeeded;
        assert!(succeeded || result.failure.unwrap().code == "HELD", "{scope}");
        lift(&daemon, &killed.hold.unwrap().name).await.unwrap();
    }
}

/// Asks until something is so.
pub async fn eventually_async(what: &str, condition: impl AsyncFn() -> bool) {
    let until = async {
        while !condition().await {
            sleep(Duration::from_millis(5)).await; // between two questions
        }
    };
    timeout(PATIENCE, until).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_evidence_names_the_last_effect() {
    let upstream = Upstream::plain(([127, 0, 0, 1], 0).into()).await;
    let daemon = agent_for(upstream.address).await;
    let post = json!({ "http": request(upstream.address, json!({ "method": "POST", "body": ["word"] })) });
    let read = json!({ "http": request(upstream.address, json!({})) });
    let step = start(&daemon, asked(json!([post, read, "spin"]))).await;
    upstream.until("asked", |upstream| upstream.seen().len() == 2).await;
    let killed = imposed(&daemon, order(Action::Kill, &step.name)).await.unwrap();
    let last = killed.evidence.unwrap().steps[0].last_effect.clone().unwrap();
    assert!(last.what.starts_with("POST http://"), "{last:?}");
    let intent = daemon.records(&["intent"]).await.into_iter().find(|record| record["call"] == last.call).unwrap();
    assert_eq!(intent["sequence"], last.record);
}
