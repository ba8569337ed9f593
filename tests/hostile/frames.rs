//! Workers that break the rules of the conversation: the daemon ends them, their steps end with a name, and the next
//! worker serves.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use palisade_proto::v1;
use serde_json::json;

use super::{
    settings::Setting,
    siege::{SLOTS, Siege, end},
};
use crate::harness::{Daemon, PATIENCE, for_tenant, limited, probe, seconds};

/// Whose workers are evil.
const TENANT: &str = "evil";

const LOST: &[&str] = &["WORKER_LOST"];
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
    ("the-same-call-again", LOST),
    ("a-call-too-large", LOST),
    ("a-value-too-large", LOST),
    ("a-result-too-large", LOST),
    ("a-type-too-large", LOST),
    ("a-failure-too-large", LOST),
    ("a-limit-too-large", LOST),
    ("says-it-is-lost", LOST),
    // It can lie about its own steps, and gains nothing.
    ("says-it-is-unrecorded", &["WORKER_LOST", "JOURNAL_UNAVAILABLE"]),
    ("exits", LOST),
    ("aborts", LOST),
    ("last-words-without-end", LOST),
    ("silent", LOST),
    ("goes-on-when-cancelled", LOST),
];

fn wrong(how: &str) -> tonic::Request<v1::RunStepRequest> {
    let input = json!({ "frames": how }).to_string().into_bytes();
    let limits = v1::StepLimits { timeout: seconds(1), ..Default::default() };
    for_tenant(TENANT, limited(v1::RunStepRequest { component: "probe".into(), input, ..Default::default() }, limits))
}

async fn besieged() -> Siege {
    let own = nix::unistd::getuid();
    let tenants =
        [TENANT, "neighbour"].map(|name| format!("[[tenant]]\nname = \"{name}\"\ncallers = [\"unix:{own}\"]\n"));
    let limits = format!("[limits]\nconcurrent_steps = {SLOTS}\n{}", tenants.concat());
    let mut siege = Siege::beside(Setting::Frames.daemon(&limits).await, TENANT, "neighbour").await;
    // One worker is for all tenants: it is ended under the neighbour as well.
    siege.forgive_the_neighbour();
    siege
}

/// Waits until a step of somebody who behaves succeeds.
async fn somebody_is_served(daemon: &Daemon) -> Result<(), String> {
    let began = Instant::now();
    loop {
        let ended = end(daemon.channel.clone(), for_tenant(TENANT, probe(json!([{ "output": 1 }])))).await;
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
    let mut asked = 0;
    for (how, ends) in WRONGS {
        let began = Instant::now();
        let ended = end(siege.daemon.channel.clone(), wrong(how)).await;
        asked += 1;
        let late = began.elapsed() > Duration::from_secs(15);
        let held = if ends.contains(&ended.as_str()) && !late {
            Ok(())
        } else {
            Err(format!("{ended} after {:?}", began.elapsed()))
        };
        siege.judge(how, held);
        let served = somebody_is_served(&siege.daemon).await;
        siege.judge(&format!("after {how}"), served);
    }
    // What the journal says of each is what its caller was told.
    let lost = WRONGS.iter().filter(|(_, ends)| *ends == LOST).count();
    let filter = Some(v1::RecordFilter { kinds: vec!["result".into()], ..Default::default() });
    let list = v1::ListRecordsRequest { filter, page_size: 1_000, ..Default::default() };
    let listed = siege.daemon.audit().list_records(for_tenant(TENANT, list)).await.unwrap().into_inner();
    let results: Vec<serde_json::Value> =
        listed.records.iter().map(|record| serde_json::from_str(&record.canonical).unwrap()).collect();
    let of_wrong = results.iter().filter(|record| record["body"]["outcome"] == "worker-lost").count();
    siege.judge(
        "records of lost steps",
        (of_wrong >= lost).then_some(()).ok_or(format!("{of_wrong} of {lost}, {asked} asked")),
    );
    let large =
        |record: &&serde_json::Value| record["body"]["usage"]["fuel"].as_u64().is_some_and(|fuel| fuel > 1 << 53);
    siege.judge(
        "records of usage",
        (!results.iter().any(|record| large(&record))).then_some(()).ok_or("a false one".into()),
    );
    siege.lift(0).await;
}

#[tokio::test]
async fn workers_that_do_not_read_hold_up_only_what_they_were_given() {
    let mut siege = besieged().await;
    let deaf = tokio::spawn(end(siege.daemon.channel.clone(), wrong("deaf")));
    let steps = (0..SLOTS - 2).map(|_| {
        let input = json!({ "acts": [], "padding": "x".repeat(1 << 20) }).to_string().into_bytes();
        let request = v1::RunStepRequest { input, ..wrong("deaf").into_inner() };
        end(siege.daemon.channel.clone(), for_tenant(TENANT, request))
    });
    let ended = futures::future::join_all(steps).await;
    for (n, ended) in ended.into_iter().chain([deaf.await.unwrap()]).enumerate() {
        let held = ["WORKER_LOST", "SUCCEEDED", "WORKER_UNAVAILABLE"].contains(&ended.as_str());
        siege.judge(&format!("step {n}"), held.then_some(()).ok_or(ended));
    }
    let served = somebody_is_served(&siege.daemon).await;
    siege.judge("afterwards", served);
    siege.lift(0).await;
}

#[test]
fn workers_that_begin_with_something_else_are_not_used() {
    let began = Instant::now();
    for setting in [Setting::FramesGarbage, Setting::FramesNothing, Setting::FramesEvent, Setting::FramesHuge] {
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
    super::report::held(4, 4, began.elapsed());
}
