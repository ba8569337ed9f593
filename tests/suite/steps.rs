use palisade_proto::v1::{self, step_result::Outcome};
use serde_json::json;

use crate::harness::{Daemon, eventually, probe};

#[tokio::test]
async fn a_step_returns_its_output_and_what_it_used() {
    let daemon = Daemon::start().await;
    let ran = daemon.run(probe(json!([{ "output": 1000 }]))).await.unwrap();
    assert_eq!(ran.outcomes(), [format!("ok: {}", "x".repeat(1000))]);
    assert_eq!(ran.result.content_type, "application/json");
    assert_eq!(ran.result.step, ran.accepted.step);
    assert!(ran.accepted.step.starts_with("steps/") && ran.accepted.step.len() == "steps/".len() + 32);
    assert!(ran.accepted.component.starts_with("components/sha256:"));
    let usage = ran.usage();
    assert!(usage.fuel > 1_000 && usage.memory_peak_bytes >= 1 << 16, "{usage:?}");
    assert!(usage.wall_time.unwrap().nanos > 0 && usage.cpu_time.unwrap().nanos > 0, "{usage:?}");
    assert_eq!(usage.output_bytes, ran.result.output.len() as i64);
    assert_eq!(usage.input_bytes, json!({"acts": [{"output": 1000}]}).to_string().len() as i64);
}

#[tokio::test]
async fn the_limits_in_force_are_said_before_the_step_runs() {
    let daemon = Daemon::start().await;
    let limits = daemon.run(probe(json!([]))).await.unwrap().accepted.limits.unwrap();
    assert_eq!(limits.fuel, Some(10_000_000_000));
    assert_eq!(limits.memory_bytes, Some(256 << 20));
    assert_eq!(limits.timeout.unwrap().seconds, 60);
    assert!(limits.output_bytes.is_some() && limits.stdio_bytes.is_some() && limits.events.is_some());
}

#[tokio::test]
async fn a_step_that_returns_an_error_has_failed_with_its_own_code() {
    let daemon = Daemon::start().await;
    let ran = daemon.run(probe(json!([{ "fail": { "code": "NO_LUCK", "message": "try again" } }]))).await.unwrap();
    assert_eq!(ran.outcome(), Outcome::Failed);
    assert_eq!((ran.failure().code.as_str(), ran.failure().message.as_str()), ("NO_LUCK", "try again"));
}

#[tokio::test]
async fn a_step_that_panics_has_trapped_and_its_words_arrive() {
    let daemon = Daemon::start().await;
    let ran = daemon.run(probe(json!(["panic"]))).await.unwrap();
    assert_eq!(ran.outcome(), Outcome::Trapped);
    assert_eq!(ran.failure().code, "TRAPPED");
    assert!(ran.output(v1::output_chunk::Stream::Stderr).contains("told to panic"));
}

#[tokio::test]
async fn a_step_that_exits_instead_of_returning_has_trapped() {
    let daemon = Daemon::start().await;
    let ran = daemon.run(probe(json!([{ "exit": 0 }]))).await.unwrap();
    assert_eq!(ran.outcome(), Outcome::Trapped);
    assert_eq!(ran.failure().code, "EXITED");
}

#[tokio::test]
async fn input_that_the_step_does_not_understand_is_its_failure_not_ours() {
    let daemon = Daemon::start().await;
    let request = v1::RunStepRequest { component: "probe".into(), input: b"{".as_slice().into(), ..Default::default() };
    let ran = daemon.run(request).await.unwrap();
    assert_eq!(ran.outcome(), Outcome::Failed);
    assert_eq!(ran.failure().code, "INPUT_INVALID");
}

/// Returns a step whose output is what `fill` stores at address 0.
fn step(fill: &str) -> Vec<u8> {
    let text = r#"(component
        (import "palisade:agent/types@0.1.0" (instance $types
            (type $input' (record (field "payload" (list u8)) (field "content-type" string)))
            (export "input" (type (eq $input')))
            (type $output' (record (field "payload" (list u8)) (field "content-type" string)))
            (export "output" (type (eq $output')))
            (type $error' (record (field "code" string) (field "message" string)))
            (export "error" (type (eq $error')))))
        (alias export $types "input" (type $input))
        (alias export $types "output" (type $output))
        (alias export $types "error" (type $error))
        (core module $m
            (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
            (func (export "run") (param i32 i32 i32 i32) (result i32) FILL i32.const 0))
        (core instance $i (instantiate $m))
        (func $run (param "input" $input) (result (result $output (error $error)))
            (canon lift (core func $i "run") (memory $i "memory") (realloc (func $i "realloc"))))
        (instance $out
            (export "run" (func $run)))
        (export "palisade:agent/run@0.1.0" (instance $out)))"#;
    wat::parse_str(text.replace("FILL", fill)).unwrap()
}

#[tokio::test]
async fn a_step_that_returns_what_is_no_output_has_trapped() {
    let daemon = Daemon::start().await;
    let cases = [
        (
            "a list beyond its memory",
            "(i32.store (i32.const 4) (i32.const 65000)) (i32.store (i32.const 8) (i32.const 9999))",
        ),
        ("an unknown variant", "(i32.store8 (i32.const 0) (i32.const 7))"),
        (
            "a text that is no UTF-8",
            "(i32.store8 (i32.const 99) (i32.const 255)) (i32.store (i32.const 12) (i32.const 99)) (i32.store (i32.const 16) (i32.const 1))",
        ),
    ];
    for (what, fill) in cases {
        let component = daemon.push(&step(fill)).await.unwrap();
        let ran = daemon.run(v1::RunStepRequest { component: component.name, ..Default::default() }).await.unwrap();
        assert_eq!(ran.outcome(), Outcome::Trapped, "{what}: {:?}", ran.result);
        assert!(!ran.failure().message.is_empty());
    }
    let component = daemon.push(&step("")).await.unwrap();
    let ran = daemon.run(v1::RunStepRequest { component: component.name, ..Default::default() }).await.unwrap();
    assert_eq!(ran.outcome(), Outcome::Succeeded, "an empty output is one: {:?}", ran.result);
}

#[tokio::test]
async fn nothing_of_one_step_is_left_for_the_next() {
    let daemon = Daemon::start().await;
    let first = daemon.probe(json!([{ "write": { "path": "/workspace/left", "bytes": 3 } }])).await;
    assert_eq!(first, ["ok: done"]);
    let second = daemon.probe(json!([{ "list": "/workspace" }, { "list": "/" }])).await;
    assert_eq!(second[0], "ok: ");
}

#[tokio::test]
async fn a_steps_own_workspace_is_new_whatever_the_last_one_did_to_its_own() {
    let daemon = Daemon::start().await;
    let folder = daemon.dir.path().join("data/tenants/default/workspaces");
    let one = || std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    assert_eq!(daemon.probe(json!([{ "list": "/workspace" }])).await, ["ok: "]);
    let kept = one();
    assert_eq!(daemon.probe(json!([{ "list": "/workspace" }])).await, ["ok: "]);
    assert_eq!(one(), kept, "untouched, it serves again");
    // A file made and removed again leaves it empty, and yet it is not as it was.
    let acts = json!([{ "write": { "path": "/workspace/f", "bytes": 1 } }, { "remove": "/workspace/f" }]);
    assert_eq!(daemon.probe(acts).await, ["ok: done", "ok: done"]);
    eventually("touched, it is gone", || !kept.exists()).await;
}

#[tokio::test]
async fn many_steps_run_at_once() {
    let daemon = Daemon::start().await;
    let runs = (0..100).map(|n| {
        let request = probe(json!([{ "write": { "path": "/workspace/own", "bytes": n } }, { "output": n }]));
        daemon.run(request)
    });
    for (n, ran) in futures::future::join_all(runs).await.into_iter().enumerate() {
        assert_eq!(ran.unwrap().outcomes()[1], format!("ok: {}", "x".repeat(n)));
    }
}
