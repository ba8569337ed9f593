use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use palisade_proto::v1::{self, run_step_response::Message, step_result::Outcome};
use serde_json::json;

use crate::harness::{Daemon, eventually, limited, probe, seconds};

fn endless() -> v1::RunStepRequest {
    let limits = v1::StepLimits { timeout: seconds(60), fuel: Some(1_000_000_000_000), ..Default::default() };
    limited(probe(json!([{ "log": { "message": "running", "count": 1 } }, "spin"])), limits)
}

async fn result(stream: &mut tonic::Streaming<v1::RunStepResponse>) -> v1::StepResult {
    loop {
        if let Some(Message::Result(result)) = stream.message().await.unwrap().unwrap().message {
            return result;
        }
    }
}

#[tokio::test]
async fn a_worker_that_dies_fails_its_own_steps_and_is_replaced() {
    let daemon = Daemon::start().await;
    let mut running = daemon.steps().run_step(endless()).await.unwrap().into_inner();
    let worker = daemon.children();
    assert_eq!(worker.len(), 1);
    kill(Pid::from_raw(worker[0]), Signal::SIGKILL).unwrap();
    let lost = result(&mut running).await;
    assert_eq!(lost.outcome(), Outcome::WorkerLost);
    assert_eq!(lost.failure.unwrap().code, "WORKER_LOST");
    assert_eq!(daemon.probe(json!([{ "output": 1 }])).await, ["ok: x"], "the daemon lives");
    assert_ne!(daemon.children(), worker);
}

#[tokio::test]
async fn a_worker_that_hangs_is_killed_and_its_steps_end() {
    let daemon = Daemon::start().await;
    let request =
        limited(endless(), v1::StepLimits { timeout: seconds(1), fuel: Some(1_000_000_000_000), ..Default::default() });
    let mut running = daemon.steps().run_step(request).await.unwrap().into_inner();
    // Stopped, it keeps neither deadlines nor promises.
    kill(Pid::from_raw(daemon.children()[0]), Signal::SIGSTOP).unwrap();
    let lost = result(&mut running).await;
    assert_eq!((lost.outcome(), lost.failure.unwrap().code.as_str()), (Outcome::WorkerLost, "WORKER_HUNG"));
    assert_eq!(daemon.probe(json!([])).await.len(), 0);
}

#[tokio::test]
async fn a_worker_dies_with_its_daemon() {
    let mut daemon = Daemon::start().await;
    daemon.probe(json!([])).await;
    let worker = daemon.children()[0];
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    let alive = || {
        let status = std::fs::read_to_string(format!("/proc/{worker}/status")).unwrap_or_default();
        !status.is_empty() && !status.contains("State:\tZ")
    };
    eventually("the worker is gone", || !alive()).await;
}

#[tokio::test]
async fn a_caller_that_hangs_up_cancels_its_step_and_frees_its_slot() {
    let daemon = Daemon::with("[limits]\nconcurrent_steps = 1\n").await;
    for _ in 0..5 {
        let acts = json!([{ "write": { "path": "/workspace/left", "bytes": 1 } }, { "log": { "message": "m", "count": 1 } }, "spin"]);
        let endless = v1::RunStepRequest { input: probe(acts).input, ..endless() };
        let mut running = daemon.steps().run_step(endless).await.unwrap().into_inner();
        while !matches!(running.message().await.unwrap().unwrap().message, Some(Message::Event(_))) {}
        drop(running);
    }
    let after = tokio::time::timeout(std::time::Duration::from_secs(20), daemon.probe(json!([{ "output": 1 }])));
    assert_eq!(after.await.expect("the slot came back"), ["ok: x"]);
    let folder = daemon.dir.path().join("data/tenants/default/workspaces");
    let left =
        || std::fs::read_dir(&folder).unwrap().map(|dir| std::fs::read_dir(dir.unwrap().path()).unwrap().count());
    eventually("every temporary workspace is gone or empty", || left().sum::<usize>() == 0).await;
}

#[tokio::test]
async fn callers_that_hang_up_while_their_input_waits_for_the_worker_leak_no_slot() {
    let daemon = Daemon::with("[limits]\nconcurrent_steps = 4\n").await;
    let worker = daemon.children();
    let heavy = || v1::RunStepRequest { input: vec![b' '; 3 << 20], ..probe(json!([])) };
    for round in 0..20 {
        // Connections of their own: one that resets too many streams is closed.
        let channel = tonic::transport::Endpoint::from_shared(daemon.endpoint()).unwrap().connect().await.unwrap();
        let calls = (0..8).map(|n| {
            let mut steps = v1::steps_client::StepsClient::new(channel.clone());
            async move {
                let patience = std::time::Duration::from_millis((round * 3 + n * 5) % 60);
                let _ = tokio::time::timeout(patience, steps.run_step(heavy())).await;
            }
        });
        futures::future::join_all(calls).await;
    }
    // As many at once as there are slots, each of which needs all of its time.
    let acts = json!([{ "sleep": { "milliseconds": 300 } }]);
    for _ in 0..2 {
        let all = futures::future::join_all((0..4).map(|_| daemon.probe(acts.clone())));
        tokio::time::timeout(std::time::Duration::from_secs(10), all).await.expect("every slot came back");
    }
    assert_eq!(daemon.children(), worker, "nobody was killed for it");
}

#[tokio::test]
async fn a_step_that_traps_leaves_its_worker_alone() {
    let daemon = Daemon::start().await;
    let worker = daemon.children();
    for act in ["panic", "recurse", "grow"] {
        daemon.run(probe(json!([act]))).await.unwrap();
    }
    assert_eq!(daemon.children(), worker);
}
