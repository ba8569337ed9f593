use palisade_proto::v1;
use tonic::Code;

use crate::harness::{Daemon, SEEDED, guest, reason};

/// Pushes what must be refused, and checks that nothing of it is left.
async fn refused(daemon: &Daemon, bytes: &[u8]) -> (String, String) {
    let status = daemon.push(bytes).await.expect_err("it must be refused");
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let listed = daemon.components().list_components(v1::ListComponentsRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().components.len(), SEEDED, "only what the test was seeded with is kept");
    let spooled = std::fs::read_dir(daemon.dir.path().join("data/spool")).unwrap().count();
    assert_eq!(spooled, 0, "nothing half-done is left");
    (reason(&status), status.message().to_owned())
}

#[tokio::test]
async fn what_is_not_webassembly_is_refused() {
    let daemon = Daemon::start().await;
    for bytes in [&b""[..], b"\0as", b"#!/bin/sh", b"\x7fELF\x02\x01\x01", &[0xff; 100_000]] {
        assert_eq!(refused(&daemon, bytes).await.0, "NOT_WASM");
    }
}

#[tokio::test]
async fn truncated_or_damaged_webassembly_is_refused() {
    let daemon = Daemon::start().await;
    let whole = std::fs::read(guest("probe")).unwrap();
    for length in [5, 7, 9, 100, whole.len() / 2, whole.len() - 1] {
        assert_eq!(refused(&daemon, &whole[..length]).await.0, "WASM_INVALID", "cut at {length}");
    }
    let mut trailing = whole.clone();
    trailing.extend(b"trailing garbage");
    assert_eq!(refused(&daemon, &trailing).await.0, "WASM_INVALID");
}

#[tokio::test]
async fn an_import_that_nothing_provides_is_refused_by_name() {
    let daemon = Daemon::start().await;
    for import in [
        "wasi:http/incoming-handler@0.2.0",
        "wasi:http/outgoing-handler@0.3.0",
        "wasi:filesystem/types@0.3.0",
        "wasi:filesystem/types@0.2.0-rc",
        "wasi:filesystem/types",
        "evil:host/exec@1.0.0",
        "palisade:agent/secrets@0.1.0",
        "palisade:agent/events@0.2.0",
    ] {
        let component = wat::parse_str(format!(r#"(component (import "{import}" (instance)))"#)).unwrap();
        let (reason, message) = refused(&daemon, &component).await;
        assert_eq!(reason, "IMPORT_UNKNOWN", "{import}");
        assert!(message.contains(import), "{message}");
    }
    let module = wat::parse_str(r#"(module (import "env" "system" (func)) (func (export "_start")))"#).unwrap();
    let (reason, message) = refused(&daemon, &module).await;
    assert!(reason == "IMPORT_UNKNOWN" && message.contains("env.system"), "{message}");
}

#[tokio::test]
async fn a_thousand_unknown_imports_still_give_a_readable_reason() {
    let daemon = Daemon::start().await;
    let imports: String =
        (0..1_000).map(|n| format!(r#"(import "evil:host/{}{n}@1.0.0" (instance))"#, "x".repeat(200))).collect();
    let (reason, message) = refused(&daemon, &wat::parse_str(format!("(component {imports})")).unwrap()).await;
    assert!(reason == "IMPORT_UNKNOWN" && message.contains("evil:host/x") && message.len() < 2_000, "{message}");
}

#[tokio::test]
async fn a_known_import_of_a_wrong_shape_is_refused_when_it_is_pushed() {
    let daemon = Daemon::start().await;
    let component = r#"(component
        (import "wasi:random/random@0.2.0" (instance (export "get-random-u64" (func (param "a" string) (result u64)))))
        (core module $m (func (export "run") (result i32) i32.const 0))
        (core instance $i (instantiate $m))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $out (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $out)))"#;
    let (reason, message) = refused(&daemon, &wat::parse_str(component).unwrap()).await;
    assert!(reason == "WASM_INVALID" && message.contains("get-random-u64"), "{message}");
}

#[tokio::test]
async fn a_component_that_exports_nothing_to_run_is_refused() {
    let daemon = Daemon::start().await;
    let (reason, message) = refused(&daemon, &wat::parse_str("(component)").unwrap()).await;
    assert_eq!(reason, "EXPORT_MISSING");
    assert!(
        message.contains("palisade:agent/run") && message.contains("wasi:cli/run"),
        "it says what is expected: {message}"
    );
    assert_eq!(refused(&daemon, &wat::parse_str("(module)").unwrap()).await.0, "EXPORT_MISSING");
}

#[tokio::test]
async fn language_features_that_are_off_are_refused() {
    let daemon = Daemon::start().await;
    for (feature, named) in [
        ("(memory 1 1 shared)", "threads"),
        ("(memory i64 1)", "memory64"),
        ("(tag (param i32))", "exceptions"),
        ("(type (struct (field i32)))", "gc"),
        ("(memory 1 (pagesize 1))", "page"),
    ] {
        let module = format!(r#"(module (memory (export "memory") 1) {feature} (func (export "_start")))"#);
        let (reason, message) = refused(&daemon, &wat::parse_str(module).unwrap()).await;
        assert!(reason == "WASM_INVALID" && message.contains(named), "{feature}: {message}");
    }
}

#[tokio::test]
async fn what_no_step_may_ever_have_is_refused_when_it_is_pushed() {
    let daemon = Daemon::start().await;
    for (excess, named) in [
        ("(memory 20000)".to_owned(), "memory"),
        ("(table 300000 funcref)".to_owned(), "table"),
        ("(memory 1)".repeat(4), "memor"),
        ("(table 1 funcref)".repeat(33), "table"),
    ] {
        let module = format!(r#"(module (memory (export "memory") 1) {excess} (func (export "_start")))"#);
        let module = wat::parse_str(module).unwrap();
        let (reason, message) = refused(&daemon, &module).await;
        assert!(reason == "WASM_INVALID" && message.contains(named), "{excess:.60}: {message}");
    }
}

#[tokio::test]
async fn a_stream_above_the_limit_is_stopped_there() {
    let daemon = Daemon::with("[limits]\ncomponent_bytes = 3_000_000\n").await;
    let mut bytes = b"\0asm".to_vec();
    bytes.resize(64 << 20, 0);
    let (reason, message) = refused(&daemon, &bytes).await;
    assert_eq!(reason, "COMPONENT_TOO_LARGE");
    assert!(message.contains("3000000") && message.contains("component_bytes"), "{message}");
}

#[tokio::test]
async fn a_compile_bomb_is_stopped_by_the_clock_and_the_daemon_lives() {
    let daemon = Daemon::with("[limits]\ncompile_timeout_ms = 300\n").await;
    // One function that is slow to compile: the register allocator sees it as a whole.
    let body = "(local.set 0 (i32.add (local.get 0) (i32.mul (local.get 1) (i32.load (local.get 0)))))".repeat(150_000);
    let bomb = format!(r#"(module (memory (export "memory") 1) (func (export "_start") (local i32 i32) {body}))"#);
    let (reason, message) = refused(&daemon, &wat::parse_str(bomb).unwrap()).await;
    assert_eq!(reason, "COMPILE_LIMIT", "{message}");
    assert_eq!(daemon.probe(serde_json::json!([])).await.len(), 0);
    assert_eq!(daemon.children().len(), 1, "only the worker is left");
}

#[tokio::test]
async fn a_digest_that_does_not_match_is_refused_with_both() {
    let daemon = Daemon::start().await;
    let bytes = wat::parse_str("(component)").unwrap();
    let header = v1::PushHeader { digest: format!("sha256:{}", "0".repeat(64)), ..Default::default() };
    let status = daemon.push_as(&bytes, header).await.err().unwrap();
    assert_eq!(reason(&status), "DIGEST_MISMATCH");
    assert_eq!(status.message().matches("sha256:").count(), 2);
}

#[tokio::test]
async fn a_precompiled_artifact_is_never_accepted() {
    let daemon = Daemon::start().await;
    let artifacts = daemon.dir.path().join("data/artifacts");
    let engine = std::fs::read_dir(artifacts).unwrap().next().unwrap().unwrap().path();
    let artifact = std::fs::read(std::fs::read_dir(engine).unwrap().next().unwrap().unwrap().path()).unwrap();
    assert_eq!(refused(&daemon, &artifact).await.0, "NOT_WASM");
}
