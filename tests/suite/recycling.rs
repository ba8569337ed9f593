use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use palisade_proto::v1::{self, run_step_response::Message, step_result::Outcome};
use serde_json::{Value, json};
use tonic_types::StatusExt as _;

use crate::harness::{Daemon, PATIENCE, Ran, data_dir, eventually, guest, palisade_at, probe, reason};

/// Returns the reasons for which workers took no new steps, in order.
fn recycled(daemon: &Daemon) -> Vec<String> {
    let log = daemon.log();
    let lines = log.lines().filter(|line| line.contains("\"worker takes no new steps\""));
    let reason = |line: &str| serde_json::from_str::<Value>(line).unwrap()["fields"]["reason"].as_str().unwrap().into();
    lines.map(reason).collect()
}

/// Runs steps, eight at a time; each must succeed.
async fn all_succeed(daemon: &Daemon, count: usize) {
    let one = |_| async { daemon.run(probe(json!([{ "output": 1 }]))).await.unwrap() };
    let ran: Vec<Ran> = stream::iter(0..count).map(one).buffer_unordered(8).collect().await;
    assert!(ran.iter().all(|ran| ran.outcome() == Outcome::Succeeded));
}

/// Starts a step that says something and then sleeps; returns once it runs.
async fn sleeping(daemon: &Daemon, job: &str, milliseconds: u64) -> tonic::Streaming<v1::RunStepResponse> {
    let acts = json!([{ "log": { "message": "running", "count": 1 } }, { "sleep": { "milliseconds": milliseconds } }]);
    let request = v1::RunStepRequest { job: job.into(), ..probe(acts) };
    let mut running = daemon.steps().run_step(request).await.unwrap().into_inner();
    while !matches!(running.message().await.unwrap().unwrap().message, Some(Message::Event(_))) {}
    running
}

async fn outcome(mut running: tonic::Streaming<v1::RunStepResponse>) -> Outcome {
    loop {
        if let Some(Message::Result(result)) = running.message().await.unwrap().unwrap().message {
            return result.outcome();
        }
    }
}

#[tokio::test]
async fn a_thousand_steps_see_nothing_of_the_workers_that_come_and_go_under_them() {
    let daemon = Daemon::with("[workers]\nsteps_max = 60\n").await;
    all_succeed(&daemon, 1_000).await;
    let workers: BTreeSet<_> = daemon.workers().into_iter().collect();
    assert!(workers.len() >= 1_000 / 60, "{workers:?}");
    let reasons = recycled(&daemon);
    assert!(reasons.len() >= 16 && reasons.iter().all(|reason| reason == "steps"), "{reasons:?}");
    eventually("the spare and its successor are all that is left", || daemon.children().len() <= 2).await;
}

#[tokio::test]
async fn an_old_worker_ends_its_steps_while_its_successor_takes_the_new_ones() {
    let daemon = Daemon::with("[workers]\nage_seconds = 1\n").await;
    let long = sleeping(&daemon, "", 4_000).await;
    let first = daemon.workers()[0];
    eventually("it has aged", || recycled(&daemon).contains(&"age".into())).await;
    all_succeed(&daemon, 20).await;
    assert!(daemon.children().contains(&first), "it still has a step to end");
    assert_eq!(outcome(long).await, Outcome::Succeeded);
    eventually("then it goes", || !daemon.children().contains(&first)).await;
    assert!(!daemon.log().contains("worker lost"));
}

#[tokio::test]
async fn a_worker_that_has_grown_is_replaced_once_nothing_runs_in_it() {
    let daemon = Daemon::with("[workers]\nspares = 0\ngrowth_bytes = 4096\n").await;
    all_succeed(&daemon, 8).await;
    eventually("it has grown", || recycled(&daemon) == ["growth"]).await;
    all_succeed(&daemon, 1).await;
    assert_eq!(daemon.workers().len(), 2);
}

#[tokio::test]
async fn a_spare_that_is_being_started_takes_no_place_of_an_admitted_step() {
    let extra = "[limits]\nconcurrent_steps = 2\n[workers]\ntotal = 2\n[jail]\nisolation = \"step\"\n";
    let daemon = Daemon::with(extra).await;
    all_succeed(&daemon, 40).await;
    eventually("no more are left than may be", || daemon.children().len() <= 2).await;
}

#[tokio::test]
async fn workers_without_anything_to_do_go_and_come_back() {
    let daemon = Daemon::with("[workers]\nidle_seconds = 1\n").await;
    eventually("nobody is left", || daemon.children().is_empty()).await;
    all_succeed(&daemon, 1).await;
}

#[tokio::test]
async fn a_spare_takes_the_place_of_a_worker_that_dies() {
    let daemon = Daemon::with("[workers]\nspares = 1\n").await;
    all_succeed(&daemon, 1).await;
    eventually("there is a spare", || daemon.workers().len() == 2).await;
    let [serving, spare] = daemon.workers()[..] else { panic!() };
    kill(Pid::from_raw(serving), Signal::SIGKILL).unwrap();
    eventually("its death is known", || daemon.log().contains("worker lost")).await;
    let running = sleeping(&daemon, "", 300).await;
    eventually("the spare has one, too", || daemon.children().len() == 2).await;
    assert!(daemon.children().contains(&spare), "it serves now");
    assert_eq!(outcome(running).await, Outcome::Succeeded);
    assert_eq!(daemon.workers().len(), 3);
}

#[tokio::test]
async fn a_guest_that_breaks_the_canonical_abi_has_its_worker_replaced_and_one_that_traps_does_not() {
    let daemon = Daemon::start().await;
    let command = |result: u32, body: &str| {
        let text = format!(
            r#"(component
                (core module $m (func (export "run") (result i32) {body} i32.const {result}))
                (core instance $i (instantiate $m))
                (func $run (result (result)) (canon lift (core func $i "run")))
                (instance $e (export "run" (func $run)))
                (export "wasi:cli/run@0.2.0" (instance $e)))"#
        );
        wat::parse_str(text).unwrap()
    };
    let daemon = &daemon;
    let run = async |bytes: Vec<u8>| {
        let component = daemon.push(&bytes).await.unwrap().name;
        daemon.run(v1::RunStepRequest { component, ..Default::default() }).await.unwrap()
    };
    let before = daemon.children();
    assert_eq!(run(command(0, "")).await.outcome(), Outcome::Succeeded);
    assert_eq!(run(command(0, "unreachable")).await.failure().code, "TRAPPED");
    assert_eq!(daemon.children(), before);
    let broken = run(command(7, "")).await;
    assert_eq!((broken.outcome(), broken.failure().code.as_str()), (Outcome::Trapped, "GUEST_STOPPED"));
    eventually("its worker is gone", || !daemon.children().contains(&before[0])).await;
    assert_eq!(recycled(daemon), ["suspicion"]);
    all_succeed(daemon, 1).await;
}

#[tokio::test]
async fn workers_that_keep_dying_are_started_less_and_less_often_and_callers_are_told_why() {
    let daemon = Daemon::start().await;
    let refused = loop {
        let mut steps = daemon.steps();
        let running = steps.run_step(probe(json!([{ "sleep": { "milliseconds": 30_000 } }])));
        match tokio::time::timeout(PATIENCE, running).await.unwrap() {
            Ok(mut running) => {
                for worker in daemon.children() {
                    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
                }
                while running.get_mut().message().await.unwrap().is_some() {}
            }
            Err(refused) => break refused,
        }
    };
    assert_eq!((refused.code(), reason(&refused).as_str()), (tonic::Code::Unavailable, "WORKER_UNAVAILABLE"));
    assert!(refused.message().contains("SIGKILL"), "it says why: {}", refused.message());
    let retry = refused.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!(retry > Duration::ZERO && retry <= Duration::from_secs(30), "{retry:?}");
    // Whoever does as told finds a worker.
    tokio::time::sleep(retry).await;
    all_succeed(&daemon, 1).await;
}

#[tokio::test]
async fn with_isolation_by_job_no_worker_runs_steps_of_two() {
    let daemon = Daemon::with("[workers]\nspares = 0\n[jail]\nisolation = \"job\"\n").await;
    let (a, b) = (sleeping(&daemon, "a", 700).await, sleeping(&daemon, "b", 700).await);
    assert_eq!(daemon.children().len(), 2, "a job has its own");
    let again = sleeping(&daemon, "a", 100).await;
    assert_eq!(daemon.children().len(), 2, "and one is enough for it");
    let alone = sleeping(&daemon, "", 100).await;
    assert_eq!(daemon.children().len(), 3, "a step without a job is alone");
    for running in [a, b, again, alone] {
        assert_eq!(outcome(running).await, Outcome::Succeeded);
    }
}

#[tokio::test]
async fn with_isolation_by_step_each_has_a_worker_and_its_tools_run_there() {
    let everything = "permit (principal, action, resource);";
    let daemon = Daemon::governed(everything, "[workers]\nspares = 0\n[jail]\nisolation = \"step\"\n").await;
    let (one, other) = (sleeping(&daemon, "a", 500).await, sleeping(&daemon, "a", 500).await);
    assert_eq!(daemon.children().len(), 2);
    for running in [one, other] {
        assert_eq!(outcome(running).await, Outcome::Succeeded);
    }
    eventually("they go with their steps", || daemon.children().is_empty()).await;
    daemon.tool("desk.read", v1::Effect::Read).await.unwrap();
    daemon.agent("[[tool]]\nname = \"desk.read\"\n").await.unwrap();
    let before = daemon.workers().len();
    let said = daemon.ask(json!([{ "call-tool": { "name": "desk.read", "arguments": {} } }])).await;
    assert!(said[0].starts_with("ok"), "{said:?}");
    assert_eq!(daemon.workers().len(), before + 1, "one for the step and its tool");
}

#[tokio::test]
async fn with_no_more_places_an_idle_worker_makes_room() {
    let extra = "[workers]\nspares = 0\ntotal = 2\n[limits]\nconcurrent_steps = 2\n[jail]\nisolation = \"job\"\n";
    let daemon = Daemon::with(extra).await;
    for job in ["a", "b", "c", "d"] {
        assert_eq!(outcome(sleeping(&daemon, job, 1).await).await, Outcome::Succeeded);
        eventually("there are no more than two", || daemon.children().len() <= 2).await;
    }
    assert_eq!(recycled(&daemon), ["place", "place"]);
}

#[tokio::test]
async fn workers_and_compilers_are_of_the_daemons_program_also_while_another_lies_in_its_place() {
    let ours = Path::new(env!("CARGO_BIN_EXE_palisade"));
    let folder = tempfile::tempdir_in(ours.parent().unwrap()).unwrap();
    let (program, other, canary) =
        (folder.path().join("palisade"), folder.path().join("other"), folder.path().join("canary"));
    fs::hard_link(ours, &program).unwrap();
    let extra = "[workers]\nspares = 0\n[jail]\nisolation = \"step\"\n";
    let daemon = Daemon::launch(data_dir(), extra, palisade_at(&program)).await;
    fs::write(&other, format!("#!/bin/sh\ntouch {}\n", canary.display())).unwrap();
    fs::set_permissions(&other, Permissions::from_mode(0o755)).unwrap();
    fs::rename(&other, &program).unwrap();
    all_succeed(&daemon, 10).await;
    assert!(daemon.workers().len() >= 10, "each step had a worker of its own");
    daemon.push(&fs::read(guest("liar")).unwrap()).await.unwrap();
    assert!(!canary.exists(), "the other program was started");
    assert!(Command::new(&program).status().unwrap().success() && canary.exists(), "it says so if it is");
}
