//! A thousand steps, one after another: what the daemon and its workers hold is what they held before.

use std::fs;

use palisade_proto::v1;
use serde_json::{Value, json};

use super::{
    super::{
        holdings::Holdings,
        siege::{self, Siege},
    },
    milliseconds,
};
use crate::harness::{limited, probe};

const STEPS: usize = 1_000;

/// Bytes by which a process may be larger after all of them.
const GROWTH_BYTES_MAX: u64 = 24 << 20;

/// What steps leave behind if anybody lets them.
fn acts(n: usize) -> Value {
    match n % 10 {
        0 => json!([{ "write": { "path": "/workspace/file", "bytes": 200_000 } }]),
        1 => json!([{ "files": { "directory": "/workspace", "count": 20 } }, { "list": "/workspace" }]),
        2 => json!([{ "hoard": { "directory": "/workspace", "count": 100 } }, "panic"]),
        3 => json!([{ "hold-deleted": { "path": "/workspace/f", "bytes": 1_000, "count": 10 } }, { "exit": 3 }]),
        4 => json!(["grow"]),
        5 => json!(["recurse"]),
        6 => json!([{ "log": { "message": "m", "count": 20 } }, { "output": 100_000 }]),
        7 => json!([{ "mkdir": "/workspace/d" }, { "print": { "text": "x".repeat(1_000), "count": 20 } }]),
        8 => json!([{ "hoard-listings": { "directory": "/workspace", "count": 60 } }]),
        _ => json!(["env"]),
    }
}

#[tokio::test]
async fn residue_of_a_thousand_steps_is_none() {
    let mut siege = Siege::lay("").await;
    let limits = v1::StepLimits { memory_bytes: Some(16 << 20), timeout: milliseconds(10_000), ..Default::default() };
    let channel = siege.daemon.channel.clone();
    let mut before = None;
    for n in 0..STEPS {
        if n == STEPS / 5 {
            before = Some((Holdings::of(&siege.daemon), environments(&siege)));
        }
        let mut request = limited(probe(acts(n)), limits);
        request.env = [(format!("RESIDUE_{n}"), "left".to_owned())].into();
        let end = siege::end(channel.clone(), request).await;
        let expected = match n % 10 {
            2 => "TRAPPED",
            3 => "EXITED",
            4 => "MEMORY_EXHAUSTED",
            5 => "STACK_EXHAUSTED",
            _ => "SUCCEEDED",
        };
        siege.judge(&format!("step {n}"), (end == expected).then_some(()).ok_or(end));
    }
    let (before, environment) = before.unwrap();
    let now = Holdings::of(&siege.daemon);
    let (daemon, workers) = now.growth_since(&before);
    let small = daemon <= GROWTH_BYTES_MAX && workers <= GROWTH_BYTES_MAX;
    siege.judge("memory", small.then_some(()).ok_or(format!("the daemon grew by {daemon}, the workers by {workers}")));
    siege.judge("descriptors and files", now.is_no_more_than(&before));
    let same = environments(&siege) == environment && !environment.contains("RESIDUE");
    siege.judge("environment", same.then_some(()).ok_or_else(|| environments(&siege)));
    siege.lift(16 << 20).await;
}

/// Returns the variables of the daemon and of its workers, each kind once: a worker can be replaced.
fn environments(siege: &Siege) -> String {
    let of =
        |pid: i64| String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/environ")).unwrap_or_default()).into_owned();
    let mut workers: Vec<_> = siege.daemon.children().into_iter().map(|pid| of(pid.into())).collect();
    workers.sort();
    workers.dedup();
    format!("{} {workers:?}", of(siege.daemon.child.id().into()))
}
