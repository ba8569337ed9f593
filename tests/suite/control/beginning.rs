//! What waits to begin does not, once it is held.

use std::time::Duration;

use futures::future::select;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use palisade_proto::v1::{self, hold::Action};
use serde_json::json;
use tokio::time::timeout;

use super::{
    imposed, lift, order,
    stopping::{ALL, asleep, start},
};
use crate::harness::{Daemon, probe, reason};

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_waits_to_begin_is_refused_and_no_evidence() {
    let one = "concurrent_steps = 1\nqueued_steps = 1\ntenant_queued_steps = 1";
    let daemon = Daemon::with(&format!("[limits]\n{one}\n")).await;
    let runs = start(&daemon, probe(asleep())).await;
    let asks = || {
        let mut steps = daemon.steps();
        tokio::spawn(async move { steps.run_step(probe(json!([]))).await })
    };
    // There is room for one to wait: when one is refused, the other does.
    let (full, waiting) = select(asks(), asks()).await.factor_first();
    assert_eq!(reason(&full.unwrap().unwrap_err()), "QUEUE_FULL");
    let evidence = imposed(&daemon, order(Action::Kill, "node")).await.unwrap().evidence.unwrap();
    assert_eq!(evidence.steps.iter().map(|stopped| &stopped.step).collect::<Vec<_>>(), [&runs.name]);
    assert_eq!(reason(&waiting.await.unwrap().unwrap_err()), "HELD");
    runs.result().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_worker_does_not_begin_once_it_is_held() {
    let daemon = Daemon::with("[workers]\nspares = 0\n[jail]\nisolation = \"job\"\n").await;
    let of_job = |job: &str| v1::RunStepRequest { job: job.into(), ..probe(json!([])) };
    daemon.run(of_job("first")).await.unwrap();
    for (action, job) in [(Action::Kill, "second"), (Action::Freeze, "third"), (Action::Cordon, "fourth")] {
        let before = daemon.children();
        let (mut steps, request) = (daemon.steps(), of_job(job));
        let begins = tokio::spawn(async move { steps.run_step(request).await });
        // Its worker is held up before it is ready.
        let worker = loop {
            if let Some(new) = daemon.children().into_iter().find(|child| !before.contains(child)) {
                break Pid::from_raw(new);
            }
        };
        kill(worker, Signal::SIGSTOP).unwrap();
        let held = timeout(Duration::from_secs(10), imposed(&daemon, order(action, "node"))).await.unwrap().unwrap();
        assert!(held.evidence.unwrap().steps.is_empty(), "{action:?}: it never began");
        let refused = timeout(Duration::from_secs(10), begins).await.unwrap().unwrap().unwrap_err();
        assert_eq!(reason(&refused), "HELD", "{action:?}");
        let _ = kill(worker, Signal::SIGCONT); // it may be gone with its step
        lift(&daemon, &held.hold.unwrap().name).await.unwrap();
    }
}

#[tokio::test]
async fn a_tool_whose_bytes_are_held_is_not_run_to_describe_itself() {
    let daemon = Daemon::governed(ALL, "").await;
    let component = daemon.tool("desk.read", v1::Effect::Read).await.unwrap().component;
    for scope in ["node", &component] {
        let held = imposed(&daemon, order(Action::Kill, scope)).await.unwrap().hold.unwrap();
        let status = daemon.tool("desk.append", v1::Effect::Append).await.unwrap_err();
        assert_eq!(reason(&status), "HELD", "{scope}");
        lift(&daemon, &held.name).await.unwrap();
    }
    daemon.tool("desk.append", v1::Effect::Append).await.unwrap();
}
