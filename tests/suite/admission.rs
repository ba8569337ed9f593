use std::time::{Duration, Instant};

use futures::future::join_all;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use palisade_proto::v1::{self, run_step_response::Message};
use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{Daemon, field, for_tenant, limited, probe, reason};

/// A step that says that it runs, and goes on for so long.
fn sleep(milliseconds: u64) -> v1::RunStepRequest {
    probe(json!([{ "log": { "message": "runs", "count": 1 } }, { "sleep": { "milliseconds": milliseconds } }]))
}

fn with_memory(request: v1::RunStepRequest, mebibytes: i64) -> v1::RunStepRequest {
    limited(request, v1::StepLimits { memory_bytes: Some(mebibytes << 20), ..Default::default() })
}

/// Starts a step; returns once it runs.
async fn running(daemon: &Daemon, request: v1::RunStepRequest) -> tonic::Streaming<v1::RunStepResponse> {
    let mut running = daemon.steps().run_step(request).await.unwrap().into_inner();
    while !matches!(running.message().await.unwrap().unwrap().message, Some(Message::Event(_))) {}
    running
}

#[tokio::test]
async fn a_tenant_with_many_waiting_steps_does_not_delay_another() {
    let own = nix::unistd::getuid();
    let tenant = |name: &str| format!("[[tenant]]\nname = \"{name}\"\ncallers = [\"unix:{own}\"]\n");
    let extra = format!("{}{}[limits]\nconcurrent_steps = 1\n", tenant("greedy"), tenant("modest"));
    let daemon = Daemon::with(&extra).await;
    // The modest tenant's worker is there.
    daemon.run(for_tenant("modest", probe(json!([])))).await.unwrap();
    let begun = Instant::now();
    let greedy = join_all((0..40).map(|_| async {
        daemon.run(for_tenant("greedy", sleep(100))).await.unwrap();
        begun.elapsed()
    }));
    let modest = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        daemon.run(for_tenant("modest", probe(json!([])))).await.unwrap();
        begun.elapsed()
    };
    let (greedy, modest) = tokio::join!(greedy, modest);
    let before = greedy.iter().filter(|ended| **ended < modest).count();
    assert!(before < 20, "{before} of 40 ended before: {modest:?}");
}

#[tokio::test]
async fn steps_share_the_nodes_memory_and_wait_for_it() {
    let daemon = Daemon::with("[limits]\nnode_memory_bytes = 536_870_912\nqueue_timeout_ms = 300\n").await;
    let first = running(&daemon, with_memory(sleep(30_000), 256)).await;
    let _second = running(&daemon, with_memory(sleep(30_000), 256)).await;
    let refused = daemon.run(with_memory(probe(json!([])), 64)).await.err().unwrap();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "QUEUE_TIMEOUT"));
    assert!(refused.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
    drop(first);
    // As soon as the first one is really gone.
    loop {
        match daemon.run(with_memory(probe(json!([{ "output": 1 }])), 256)).await {
            Ok(ran) => break assert_eq!(ran.outcomes(), ["ok: x"]),
            Err(refused) => assert_eq!(reason(&refused), "QUEUE_TIMEOUT"),
        }
    }
}

#[tokio::test]
async fn a_step_that_would_never_fit_is_refused_at_once_by_name() {
    let daemon = Daemon::with("[limits]\nnode_memory_bytes = 536_870_912\n").await;
    let refused = daemon.run(with_memory(probe(json!([])), 600)).await.err().unwrap();
    assert_eq!((reason(&refused).as_str(), field(&refused).as_str()), ("LIMIT_INVALID", "limits.memory_bytes"));
    assert!(refused.message().contains("node_memory_bytes"), "{}", refused.message());
}

#[tokio::test]
async fn an_agent_sets_aside_what_its_tools_can_need() {
    let everything = "permit (principal, action, resource);";
    let daemon = Daemon::governed(everything, "[limits]\nnode_memory_bytes = 536_870_912\n").await;
    daemon.tool("desk.read", v1::Effect::Read).await.unwrap();
    let manifest = "[[tool]]\nname = \"desk.read\"\n[tool.limits]\nmemory_bytes = 268_435_456\n";
    daemon.agent(manifest).await.unwrap();
    let said = daemon.ask(json!([{ "call-tool": { "name": "desk.read", "arguments": {} } }])).await;
    assert!(said[0].starts_with("ok"), "both fit: {said:?}");
    let larger = with_memory(crate::harness::asked(json!([])), 257);
    let refused = daemon.run(larger).await.err().unwrap();
    assert_eq!((reason(&refused).as_str(), field(&refused).as_str()), ("LIMIT_INVALID", "limits.memory_bytes"));
}

#[tokio::test]
async fn a_job_has_as_many_slots_as_it_may_and_others_go_on() {
    let daemon = Daemon::with("[limits]\njob_concurrent_steps = 1\nqueue_timeout_ms = 200\n").await;
    let of = |job: &str, request| v1::RunStepRequest { job: job.into(), ..request };
    let _running = running(&daemon, of("one", sleep(30_000))).await;
    let refused = daemon.run(of("one", probe(json!([])))).await.err().unwrap();
    assert_eq!(reason(&refused), "QUEUE_TIMEOUT");
    daemon.run(of("other", probe(json!([])))).await.unwrap();
    daemon.run(probe(json!([]))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_twice_a_daemon_ends_at_once_and_takes_its_workers_along() {
    let mut daemon = Daemon::with("[limits]\ndrain_seconds = 3600\n").await;
    let _running = running(&daemon, sleep(50_000)).await;
    let workers = daemon.children();
    let pid = Pid::from_raw(daemon.child.id() as i32);
    kill(pid, Signal::SIGTERM).unwrap();
    let refused = loop {
        match daemon.steps().run_step(probe(json!([]))).await {
            Err(status) => break status,
            Ok(_) => tokio::task::yield_now().await, // the signal is still on its way
        }
    };
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(daemon.child.try_wait().unwrap().is_none(), "it waits for the step");
    let begun = Instant::now();
    kill(pid, Signal::SIGTERM).unwrap();
    tokio::task::block_in_place(|| daemon.child.wait()).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    for worker in workers {
        let alive = || {
            let status = std::fs::read_to_string(format!("/proc/{worker}/status")).unwrap_or_default();
            !status.is_empty() && !status.contains("State:\tZ")
        };
        crate::harness::eventually("its worker is gone", || !alive()).await;
    }
}
