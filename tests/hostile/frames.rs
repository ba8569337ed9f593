//! Workers that break the rules of the conversation: the daemon ends them, their steps end with a name, and the next
//! worker serves.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use futures::stream::{self, StreamExt as _};
use palisade_proto::v1::{self, run_step_response::Message};
use serde_json::json;

use super::{
    settings::Setting,
    siege::{SLOTS, Siege, end},
};
use crate::harness::{Daemon, PATIENCE, for_tenant, limited, probe, seconds};

/// A worker that does not read, and its tenant.
const DEAF: &str = "deaf";

/// Tenants that break the rules at once.
const AT_ONCE: usize = 4;

/// It was ended for what it did, or for what it did not do.
const LOST: &[&str] = &["WORKER_LOST", "WORKER_HUNG"];
const GOOD: &[&str] = &["SUCCEEDED"];

/// What a worker does, and how its step ends.
const WRONGS: &[(&str, &[&str])] = &[
    ("nothing-wrong", GOOD),
    ("byte-by-byte", GOOD),
    ("false-usage", GOOD),
    ("bodies-of-nobody", GOOD),
    // The first end is one.
    ("done-twice", GOOD),
    ("event-after-done", GOOD),
    ("garbage", LOST),
    ("an-empty-frame", LOST),
    ("no-such-message", LOST),
    ("more-after-the-value", LOST),
    ("half-a-value", LOST),
    ("a-length-of-4-gib", LOST),
    ("a-length-of-one-more", LOST),
    ("a-list-of-2-to-the-64", LOST),
    ("text-that-is-none", LOST),
    ("half-a-frame", LOST),
    ("ready-twice", LOST),
    ("done-of-nobody", LOST),
    ("event-of-nobody", LOST),
    ("call-of-nobody", LOST),
    ("events-beyond-the-window", LOST),
    ("large-events-beyond-the-window", LOST),
    ("output-beyond-the-limit", LOST),
    ("output-in-a-piece-too-large", LOST),
    ("event-too-large", LOST),
    ("event-of-many-fields", LOST),
    ("calls-beyond-the-window", LOST),
    ("calls-at-once", LOST),
    ("the-same-call-again", LOST),
    ("a-call-too-large", LOST),
    ("a-value-too-large", LOST),
    ("a-request-of-empty-headers", LOST),
    ("bodies-of-nobody-without-end", LOST),
    ("a-result-too-large", LOST),
    ("a-type-too-large", LOST),
    ("a-failure-too-large", LOST),
    ("a-limit-too-large", LOST),
    ("a-failure-too-large-for-its-record", LOST),
    // What only the daemon can know.
    ("says-it-is-lost", LOST),
    ("says-it-is-unrecorded", LOST),
    ("says-it-was-held", LOST),
    ("says-it-was-cancelled", LOST),
    ("says-it-was-not-started-after-an-event", LOST),
    ("says-it-was-not-started-after-a-call", LOST),
    ("exits", LOST),
    ("aborts", LOST),
    ("faults", &["WORKER_LOST"]),
    ("last-words-without-end", LOST),
    ("silent", LOST),
    ("goes-on-when-cancelled", LOST),
];

/// Returns a request of the tenant that is named so: its worker does this.
fn wrong(how: &str) -> tonic::Request<v1::RunStepRequest> {
    let input = json!({ "frames": how }).to_string().into_bytes();
    let limits = v1::StepLimits { timeout: seconds(1), ..Default::default() };
    for_tenant(how, limited(v1::RunStepRequest { component: "probe".into(), input, ..Default::default() }, limits))
}

/// A daemon in which everybody who breaks the rules is a tenant: who does so again and again waits longer each time.
async fn besieged() -> Siege {
    let own = nix::unistd::getuid();
    let named = |name: &str| format!("[[tenant]]\nname = \"{name}\"\ncallers = [\"unix:{own}\"]\n");
    let tenants: String = WRONGS.iter().map(|(how, _)| *how).chain([DEAF, "neighbour"]).map(named).collect();
    let limits = format!("[limits]\nconcurrent_steps = {SLOTS}\n{tenants}");
    // The neighbour's worker is another, and nothing happens to it.
    Siege::beside(Setting::Frames.daemon(&limits).await, DEAF, "neighbour").await
}

/// Waits until a step of somebody who behaves succeeds.
async fn somebody_is_served(daemon: &Daemon, tenant: &str) -> Result<(), String> {
    let began = Instant::now();
    loop {
        let ended = end(daemon.channel.clone(), for_tenant(tenant, probe(json!([{ "output": 1 }])))).await;
        match ended.as_str() {
            "SUCCEEDED" => return Ok(()),
            // The worker was ended under it, or the next one is not there yet.
            "WORKER_LOST" | "WORKER_UNAVAILABLE" if began.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            _ => return Err(ended),
        }
    }
}

#[tokio::test]
async fn workers_that_break_the_rules_are_ended() {
    let mut siege = besieged().await;
    let daemon = &siege.daemon;
    let judged = stream::iter(WRONGS).map(|&(how, ends)| async move {
        let began = Instant::now();
        let ended = end(daemon.channel.clone(), wrong(how)).await;
        let late = began.elapsed() > Duration::from_secs(15);
        let held = ends.contains(&ended.as_str()) && !late;
        let held = held.then_some(()).ok_or_else(|| format!("{ended} after {:?}", began.elapsed()));
        // What the journal says is what its caller was told.
        let recorded = recorded(daemon, how, ends.contains(&"WORKER_LOST")).await;
        (how, [held, somebody_is_served(daemon, how).await, recorded])
    });
    let judged: Vec<_> = judged.buffer_unordered(AT_ONCE).collect().await;
    for (how, [held, served, recorded]) in judged {
        siege.judge(how, held);
        siege.judge(&format!("after {how}"), served);
        siege.judge(&format!("record of {how}"), recorded);
    }
    siege.lift(0).await;
}

/// Says whether the one result of a tenant is recorded, as lost if it is, and with a usage that is possible.
async fn recorded(daemon: &Daemon, tenant: &str, lost: bool) -> Result<(), String> {
    let filter = Some(v1::RecordFilter { kinds: vec!["result".into()], ..Default::default() });
    let list = v1::ListRecordsRequest { filter, ..Default::default() };
    let listed = daemon.audit().list_records(for_tenant(tenant, list)).await.map_err(|status| status.to_string())?;
    let records = listed.into_inner().records;
    let [record] = &records[..] else { return Err(format!("{} records", records.len())) };
    let body = &serde_json::from_str::<serde_json::Value>(&record.canonical).unwrap()["body"];
    let possible = body["usage"]["fuel"].as_u64().is_none_or(|fuel| fuel < 1 << 50)
        && (lost || body["usage"]["wall_time_us"].as_u64().is_some_and(|time| (1..1 << 30).contains(&time)));
    let held = possible && (!lost || body["outcome"] == "worker-lost");
    held.then_some(()).ok_or_else(|| body.to_string())
}

#[tokio::test]
async fn a_step_that_is_killed_with_its_worker_has_used_what_was_set_aside_for_it() {
    let daemon = Setting::Frames.daemon("").await;
    let input = json!({ "frames": "silent" }).to_string().into_bytes();
    let limits = v1::StepLimits { timeout: seconds(60), fuel: Some(1_234_567), ..Default::default() };
    let request = limited(v1::RunStepRequest { component: "probe".into(), input, ..Default::default() }, limits);
    let mut step = daemon.steps().run_step(request).await.unwrap().into_inner();
    let Some(Message::Accepted(accepted)) = step.message().await.unwrap().unwrap().message else { panic!() };
    let kill = v1::ImposeHoldRequest {
        action: v1::hold::Action::Kill.into(),
        scope: accepted.step,
        reason: "it is silent".into(),
        ..Default::default()
    };
    daemon.control().impose_hold(kill).await.unwrap();
    let Some(Message::Result(result)) = step.message().await.unwrap().unwrap().message else { panic!() };
    assert_eq!(result.failure.unwrap().code, "HELD");
    let body = &daemon.records(&["result"]).await[0]["body"];
    assert_eq!(body["spent"]["fuel"], 1_234_567, "{body}");
    assert_eq!(body["spent"]["wall_ms"], 60_000, "{body}");
}

#[tokio::test]
async fn workers_that_do_not_read_hold_up_only_what_they_were_given() {
    let mut siege = besieged().await;
    let deaf = tokio::spawn(end(siege.daemon.channel.clone(), wrong(DEAF)));
    let steps = (0..SLOTS - 2).map(|_| {
        let input = json!({ "acts": [], "padding": "x".repeat(1 << 20) }).to_string().into_bytes();
        let request = v1::RunStepRequest { input, ..wrong(DEAF).into_inner() };
        end(siege.daemon.channel.clone(), for_tenant(DEAF, request))
    });
    let ended = futures::future::join_all(steps).await;
    for (n, ended) in ended.into_iter().chain([deaf.await.unwrap()]).enumerate() {
        let held = ["WORKER_LOST", "WORKER_HUNG", "SUCCEEDED", "WORKER_UNAVAILABLE"].contains(&ended.as_str());
        siege.judge(&format!("step {n}"), held.then_some(()).ok_or(ended));
    }
    let served = somebody_is_served(&siege.daemon, DEAF).await;
    siege.judge("afterwards", served);
    siege.lift(0).await;
}

#[test]
fn workers_that_begin_with_something_else_are_not_used() {
    let began = Instant::now();
    use Setting::*;
    let settings = [FramesGarbage, FramesNothing, FramesEvent, FramesHuge, FramesNoWalls];
    for setting in settings {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("palisade.toml");
        std::fs::write(&config, format!("data_dir = {:?}\n", dir.path().join("data"))).unwrap();
        let mut serve: Command = setting.palisade();
        serve.arg("serve").args([
            "--config".as_ref(),
            config.as_os_str(),
            "--socket".as_ref(),
            dir.path().join("s").as_os_str(),
        ]);
        let ended = serve.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
        assert!(!ended.status.success() && ended.stdout.is_empty(), "{setting:?}: {ended:?}");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(!said.contains("panicked") && said.len() < 20_000, "{setting:?}: {said:.2000}");
    }
    super::report::held(settings.len(), settings.len(), began.elapsed());
}
