//! How far a step can go beyond its limits, however it tries.

use std::{fs, time::Duration};

use palisade_proto::v1::{self, step_result::Outcome};
use serde_json::json;

use crate::harness::{Daemon, limited, probe};

/// A command of two components, of which one hands a string of so many MiB to the other, again and again. The engine
/// copies and converts it, outside of either's code.
fn talking(encoding: &str, mib: u32) -> Vec<u8> {
    let (pages, units) = (mib * 16, if encoding == "utf8" { mib << 20 } else { mib << 19 });
    let libc = format!(
        r#"(memory (export "memory") {pages})
           (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 0)"#
    );
    let text = format!(
        r#"(component
          (component $listener
            (core module $m {libc} (func (export "take") (param i32 i32)))
            (core instance $i (instantiate $m))
            (func (export "take") (param "s" string)
              (canon lift (core func $i "take") (memory $i "memory") (realloc (func $i "realloc")))))
          (component $talker
            (import "take" (func $take (param "s" string)))
            (core module $libc {libc})
            (core instance $libc (instantiate $libc))
            (core func $lowered (canon lower (func $take)
              (memory $libc "memory") (realloc (func $libc "realloc")) string-encoding={encoding}))
            (core module $m
              (import "" "take" (func $take (param i32 i32)))
              (func (export "run") (result i32)
                (loop (call $take (i32.const 0) (i32.const {units})) (br 0))
                i32.const 0))
            (core instance $i (instantiate $m (with "" (instance (export "take" (func $lowered))))))
            (func (export "run") (result (result)) (canon lift (core func $i "run"))))
          (instance $a (instantiate $listener))
          (instance $b (instantiate $talker (with "take" (func $a "take"))))
          (instance $r (export "run" (func $b "run")))
          (export "wasi:cli/run@0.2.0" (instance $r)))"#
    );
    wat::parse_str(text).unwrap()
}

/// Returns a request with this timeout, and more fuel than it can burn.
fn timed(request: v1::RunStepRequest, milliseconds: i32) -> v1::RunStepRequest {
    let timeout = Some(prost_types::Duration { seconds: 0, nanos: milliseconds * 1_000_000 });
    limited(request, v1::StepLimits { timeout, fuel: Some(1_000_000_000_000), ..Default::default() })
}

/// Returns by how much a step outlived its timeout.
async fn lateness(daemon: &Daemon, request: v1::RunStepRequest, milliseconds: i32) -> Duration {
    let ran = daemon.run(timed(request, milliseconds)).await.unwrap();
    assert_eq!((ran.outcome(), ran.failure().code.as_str()), (Outcome::LimitExceeded, "TIMEOUT"), "{:?}", ran.result);
    let wall = ran.usage().wall_time.unwrap();
    Duration::new(wall.seconds as u64, wall.nanos as u32).saturating_sub(Duration::from_millis(milliseconds as u64))
}

#[tokio::test]
async fn strings_between_components_in_one_are_stopped_in_time_and_take_nobody_along() {
    let daemon = Daemon::start().await;
    let worker = daemon.children();
    for encoding in ["utf8", "utf16", "latin1+utf16"] {
        let component = daemon.push(&talking(encoding, 64)).await.unwrap().name;
        let request = v1::RunStepRequest { component, ..Default::default() };
        let late = lateness(&daemon, request, 200).await;
        assert!(late < Duration::from_millis(1_500), "{encoding}: {late:?} late");
    }
    assert_eq!(daemon.children(), worker, "the worker lives");
}

#[tokio::test]
async fn memory_is_never_above_the_limit() {
    let daemon = Daemon::start().await;
    daemon.probe(json!([])).await;
    let worker = daemon.children()[0];
    let most = |what: &str| -> i64 {
        let status = fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with(what)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<i64>().unwrap() << 10
    };
    for mib in [8, 33, 64, 100] {
        let before = most("VmRSS");
        // Not of whole pages: what is above the last one is not to be had.
        let limit = (mib << 20) + 12_345;
        let limits = v1::StepLimits { memory_bytes: Some(limit), ..Default::default() };
        let ran = daemon.run(limited(probe(json!(["grow"])), limits)).await.unwrap();
        assert_eq!(ran.failure().code, "MEMORY_EXHAUSTED");
        let peak = ran.usage().memory_peak_bytes;
        assert!(peak <= limit && peak > limit - (3 << 20), "{peak} of {limit}");
        let grown = most("VmHWM") - before;
        assert!(grown <= limit + (16 << 20), "the worker grew by {grown} for {limit}");
    }
}
