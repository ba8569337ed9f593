//! Floods of what a step says: each is cut at its limit, a caller that does not read holds up its own step only, and
//! the journal is as complete as without them.

use palisade_proto::v1::{self, run_step_response::Message};
use serde_json::{Value, json};

use super::{
    super::siege::{Attack, SLOTS, Siege},
    MEMORY_AT_ONCE, little, milliseconds, timed,
};
use crate::harness::{Daemon, asked, limited, probe};

const STDIO: &[&str] = &["STDIO_BYTES_EXCEEDED"];

#[tokio::test]
async fn res_10_floods_end_at_their_limits() {
    let mut siege = Siege::lay("").await;
    let print = |bytes: usize, count: u64| json!([{ "print": { "text": "x".repeat(bytes), "count": count } }]);
    let log = |bytes: usize, count: u64| json!([{ "log": { "message": "x".repeat(bytes), "count": count } }]);
    let few = v1::StepLimits { stdio_bytes: Some(50_000), ..little() };
    let large = v1::StepLimits { stdio_bytes: Some(8 << 20), ..timed(30_000) };
    let rows: Vec<(&str, Value, v1::StepLimits, &'static [&'static str])> = vec![
        ("a byte at a time", print(1, 10_000_000), few, STDIO),
        ("a mebibyte at a time", print(1 << 20, 10_000), little(), STDIO),
        ("lines", json!([{ "print": { "text": "line\n", "count": 10_000_000 } }]), few, STDIO),
        ("as much as it asked for", print(1 << 20, 10_000), large, STDIO),
        ("log events", log(10, 1_000_000), little(), &["EVENTS_EXCEEDED"]),
        (
            "large log events",
            log(60_000, 1_000_000),
            v1::StepLimits { events: Some(300), ..little() },
            &["EVENTS_EXCEEDED"],
        ),
        ("log events that are too large", log(70_000, 1_000_000), little(), &["EVENT_BYTES_EXCEEDED"]),
        ("an output that is too large", json!([{ "output": 2_000_000 }]), little(), &["OUTPUT_BYTES_EXCEEDED"]),
        ("an output that no call moves", json!([{ "output": 5_000_000 }]), little(), &["HOSTCALL_BYTES_EXCEEDED"]),
        (
            "an error that is too long",
            json!([{ "fail": { "code": "x".repeat(100_000), "message": "y".repeat(1_000_000) } }]),
            little(),
            &[CUT],
        ),
    ];
    let attacks =
        rows.into_iter().map(|(name, acts, limits, ends)| Attack::new(name, limited(probe(acts), limits), ends));
    siege.steps(attacks.collect()).await;
    siege.lift(MEMORY_AT_ONCE).await;
}

/// A code of which 128 bytes are left.
const CUT: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…";

#[tokio::test]
async fn res_10_callers_that_do_not_read_hold_up_only_their_own_steps() {
    let mut siege = Siege::lay("").await;
    let flood = json!([{ "print": { "text": "x".repeat(60_000), "count": 1_000_000 } }]);
    let limits = v1::StepLimits { stdio_bytes: Some(64 << 20), ..timed(700) };
    let mut deaf = Vec::new();
    for _ in 0..6 {
        let channel =
            tonic::transport::Endpoint::from_shared(siege.daemon.endpoint()).unwrap().connect().await.unwrap();
        let mut steps = v1::steps_client::StepsClient::new(channel);
        deaf.push(steps.run_step(limited(probe(flood.clone()), limits)).await.unwrap().into_inner());
    }
    // Beyond their time: a step that waits for its caller still ends.
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    for (n, mut stream) in deaf.into_iter().enumerate() {
        let mut last = None;
        while let Some(response) = stream.message().await.unwrap() {
            last = response.message;
        }
        let held = match last {
            Some(Message::Result(result)) if result.failure.as_ref().is_some_and(|f| f.code == "TIMEOUT") => Ok(()),
            other => Err(format!("{other:?}")),
        };
        siege.judge(&format!("caller {n}"), held);
    }
    siege.lift(MEMORY_AT_ONCE).await;
}

#[tokio::test]
async fn res_10_no_volume_of_a_guest_makes_the_journal_shorter() {
    let permit = "permit (principal, action in [Palisade::Action::\"UseMemory\"], resource);";
    let daemon = Daemon::governed(permit, &format!("[limits]\nconcurrent_steps = {SLOTS}\n")).await;
    daemon.agent("[[memory]]\nspace = \"s\"\nwritable = true\n").await.unwrap();
    let mut siege = Siege::around(daemon).await;
    let mut acts = Vec::new();
    for n in 0..40 {
        acts.push(json!({ "memory-put": { "space": "s", "key": format!("k{n}"), "value": "v" } }));
        acts.push(json!({ "log": { "message": "x".repeat(20_000), "count": 20 } }));
    }
    acts.push(json!({ "print": { "text": "x".repeat(100_000), "count": 1_000 } }));
    let limits = v1::StepLimits { timeout: milliseconds(50_000), ..Default::default() };
    let ran = siege.daemon.run(limited(asked(acts.into()), limits)).await.unwrap();
    siege.judge(
        "the flood",
        (ran.failure().code == "STDIO_BYTES_EXCEEDED").then_some(()).ok_or(format!("{:?}", ran.result)),
    );
    let of_step = async |kind: &str| {
        let records = siege.daemon.records(&[kind]).await;
        records.into_iter().filter(|record| record["step"] == json!(ran.accepted.step)).collect::<Vec<_>>()
    };
    let mut judged = Vec::new();
    for (kind, expected) in [("step", 1), ("intent", 40), ("outcome", 40), ("result", 1)] {
        let found = of_step(kind).await;
        judged.push((kind, (found.len() == expected).then_some(()).ok_or(format!("{} records", found.len()))));
        if kind == "result" {
            let said = found[0]["body"]["usage"]["stdio_bytes"].as_i64();
            let true_ = said == Some(ran.usage().stdio_bytes) && said > Some(0);
            judged.push(("how much was said", true_.then_some(()).ok_or(format!("{found:?}"))));
        }
    }
    for (kind, held) in judged {
        siege.judge(kind, held);
    }
    siege.lift(256 << 20).await;
}
