//! The same step, with the same inputs, does the same: on another day, in another worker, on another disk.

mod guests;

use std::{collections::HashMap, path::Path};

use futures::{StreamExt as _, stream};
use palisade_proto::v1::{self, step_event::Kind};
use prost_types::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::harness::{Daemon, Ran, asked, field, probe, reason, seconds};

const EVERYTHING: &str = "permit (principal, action, resource);";

/// A day long gone.
const START: Timestamp = Timestamp { seconds: 1_000_000_000, nanos: 123_000_000 };

/// A daemon with a mount whose files were made in one order or in the other.
async fn daemon(files: &Path, backwards: bool) -> Daemon {
    guests::plant(files, backwards);
    Daemon::with(&format!("[[mount]]\nname = \"files\"\npath = {files:?}\n")).await
}

fn seeded(seed: u64, request: v1::RunStepRequest) -> v1::RunStepRequest {
    let seed = Sha256::digest(seed.to_be_bytes()).to_vec();
    v1::RunStepRequest { seed: Some(seed), start_time: Some(START), ..request }
}

/// What must be the same of a step that ended: all but how long it took and what it is called.
fn summary(ran: &Ran) -> String {
    let usage = ran.usage();
    let used = v1::StepUsage { wall_time: None, cpu_time: None, ..*usage };
    let mut events = Sha256::new();
    for event in &ran.events {
        let kind = match &event.kind {
            Some(Kind::Log(log)) => format!("{log:?}"),
            Some(Kind::Progress(progress)) => format!("{progress:?}"),
            Some(Kind::Output(chunk)) => format!("{chunk:?}"),
            None => panic!("an event of no kind"),
        };
        events.update(format!("{} {} {kind}\n", event.sequence, event.tool));
    }
    let (outcome, output) = (ran.outcome(), String::from_utf8_lossy(&ran.result.output));
    format!("{outcome:?} {:?} {used:?} events {:x} {output}", ran.result.failure, events.finalize())
}

#[tokio::test]
async fn two_hundred_guests_do_the_same_on_another_day_in_another_worker_on_another_disk() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, second) = tokio::join!(daemon(here.path(), false), daemon(there.path(), true));
    let run = async |daemon: &Daemon, number: usize, request: v1::RunStepRequest| {
        (number, summary(&daemon.run(seeded(number as u64, request)).await.unwrap()))
    };
    let forwards = stream::iter(guests::varied().into_iter().enumerate())
        .map(|(number, request)| run(&first, number, request))
        .buffer_unordered(2);
    // The other way round, and with more beside each.
    let backwards = stream::iter(guests::varied().into_iter().enumerate().rev())
        .map(|(number, request)| run(&second, number, request))
        .buffer_unordered(7);
    let (once, twice): (HashMap<_, _>, HashMap<_, _>) = tokio::join!(forwards.collect(), backwards.collect());
    assert_eq!((once.len(), twice.len()), (200, 200));
    let mut different = Vec::new();
    for (number, summary) in &once {
        if &twice[number] != summary {
            different.push(format!("guest {number}:\n  {summary}\n  {}", twice[number]));
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
    let outcomes: Vec<_> = once.values().filter_map(|summary| summary.split(' ').next()).collect();
    for outcome in ["Succeeded", "Failed", "Trapped", "LimitExceeded"] {
        assert!(outcomes.contains(&outcome), "none of the guests is {outcome}: they are not varied");
    }
}

#[tokio::test]
async fn another_seed_gives_other_bytes_and_another_start_another_time() {
    let daemon = Daemon::start().await;
    let acts = || {
        probe(
            json!([{ "random": 40 }, "clocks", { "hashed": 40 }, { "identity": { "a": "/workspace", "b": "/workspace" } }]),
        )
    };
    let outcomes = async |request| daemon.run(request).await.unwrap().outcomes();
    let first = outcomes(seeded(1, acts())).await;
    let again = outcomes(seeded(1, acts())).await;
    let other = outcomes(seeded(2, acts())).await;
    assert_eq!(first, again);
    for act in [0, 2, 3] {
        assert_ne!(first[act], other[act], "the seed is in it");
    }
    assert!(other[1].starts_with("wall 1000000000.123"), "and not in the time: {}", other[1]);
    let later =
        v1::RunStepRequest { start_time: Some(Timestamp { seconds: 2_000_000_000, nanos: 0 }), ..seeded(1, acts()) };
    let later = outcomes(later).await;
    assert!(first[1].contains("wall 1000000000.123"), "{}", first[1]);
    assert!(later[1].contains("wall 2000000000.000"), "{}", later[1]);
    assert_eq!(first[0], later[0]);
    // Each interface has a stream of its own.
    let bytes: Vec<_> = first[0].split([' ', ':']).filter(|word| word.len() == 80).collect();
    assert_eq!(bytes.len(), 2, "{}", first[0]);
    assert_ne!(bytes[0], bytes[1]);
}

#[tokio::test]
async fn a_step_that_is_not_told_its_origin_draws_one_that_runs_it_again() {
    let daemon = Daemon::start().await;
    let acts = || probe(json!([{ "random": 20 }, "clocks", { "sleep": { "milliseconds": 3 } }, "clocks"]));
    let first = daemon.run(acts()).await.unwrap();
    let unlike = daemon.run(acts()).await.unwrap();
    assert_ne!(first.outcomes()[0], unlike.outcomes()[0]);
    let (seed, start_time) = (first.accepted.seed.clone(), first.accepted.start_time);
    assert_eq!(seed.len(), 32);
    let record = &daemon.records(&["step"]).await[0]["body"];
    assert_eq!(record["seed"], json!(seed.iter().map(|byte| format!("{byte:02x}")).collect::<String>()));
    let start_ms = start_time.as_ref().map(|time| time.seconds * 1000 + i64::from(time.nanos) / 1_000_000);
    assert_eq!(record["start_ms"], json!(start_ms));
    let again = v1::RunStepRequest { seed: Some(seed), start_time, ..acts() };
    assert_eq!(daemon.run(again).await.unwrap().outcomes(), first.outcomes());
}

#[tokio::test]
async fn an_origin_that_cannot_be_is_refused_by_its_name() {
    let daemon = Daemon::start().await;
    let with = |seed: Option<Vec<u8>>, start_time| v1::RunStepRequest { seed, start_time, ..probe(json!([])) };
    let at = |seconds, nanos| Some(Timestamp { seconds, nanos });
    let cases = [
        ("seed", with(Some(Vec::new()), None)),
        ("seed", with(Some(vec![0; 31]), None)),
        ("seed", with(Some(vec![0; 33]), None)),
        ("start_time", with(None, at(-1, 0))),
        ("start_time", with(None, at(0, -1))),
        ("start_time", with(None, at(0, 1_000_000_000))),
        ("start_time", with(None, at(253_402_300_800, 0))),
        ("start_time", with(None, at(i64::MAX, 999_999_999))),
        ("start_time", with(None, at(i64::MIN, 0))),
    ];
    for (name, request) in cases {
        let refused = daemon.run(request).await.err().unwrap();
        assert_eq!((reason(&refused).as_str(), field(&refused).as_str()), ("FIELD_INVALID", name));
    }
    for edge in [at(0, 0), at(253_402_300_799, 999_999_999)] {
        let ran = daemon.run(v1::RunStepRequest { start_time: edge, ..probe(json!(["clocks"])) }).await.unwrap();
        assert!(ran.outcomes()[0].starts_with("wall"));
    }
}

#[tokio::test]
async fn a_sleep_takes_its_time_and_the_clock_is_exactly_at_its_end() {
    let daemon = Daemon::start().await;
    let acts =
        json!([{ "timers": [30, 10, 20, 10, u64::MAX, 0] }, { "ask-timer": { "milliseconds": 100, "times": 50 } }]);
    let begin = std::time::Instant::now();
    let outcomes = daemon.run(seeded(3, probe(acts))).await.unwrap().outcomes();
    assert!(begin.elapsed() >= std::time::Duration::from_millis(30), "it slept");
    // Timers are over by their deadlines, those of one moment together, and none before its turn.
    let rounds: Vec<_> = outcomes[0].split(", [").map(|round| round.trim_start_matches('[')).collect();
    let order: Vec<_> = rounds.iter().map(|round| round.split(']').next().unwrap()).collect();
    assert_eq!(order.concat(), "010102030", "{}", outcomes[0]);
    let times: Vec<u64> = rounds.iter().map(|round| round.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    let last = times.last().unwrap();
    assert!((30_000_000..31_000_000).contains(last), "the end of a sleep and a little fuel: {last}");
    assert!(outcomes[1].starts_with("0 times over"), "nothing passes while nobody waits: {}", outcomes[1]);
}

#[tokio::test]
async fn arithmetic_has_one_nan_and_one_way_to_round() {
    let daemon = Daemon::start().await;
    let outcomes = daemon.probe(json!(["nans", "relaxed"])).await;
    let nans: Vec<_> = outcomes[0].split(' ').collect();
    assert_eq!(nans.len(), 10);
    for nan in nans {
        assert!(["7ff8000000000000", "7fc00000"].contains(&nan), "not the one NaN: {}", outcomes[0]);
    }
    // As the deterministic profile of WebAssembly has it: out of range is zero, multiply-add rounds once, truncation
    // saturates, a NaN wins, and each bit is chosen by itself.
    let relaxed: Vec<_> = outcomes[1].split(' ').collect();
    assert_eq!(relaxed[0], "00000000030201000000000000000000");
    assert_eq!(relaxed[2], "0000000100000000800000007fffffff");
    assert_eq!(relaxed[3], "7fc0000080000000800000007fc00000");
}

#[tokio::test]
async fn a_guest_sees_of_a_file_what_no_disk_and_no_day_decides() {
    let files = tempfile::tempdir().unwrap();
    let daemon = daemon(files.path(), false).await;
    let with = |acts: Value| guests::mounted(seeded(5, probe(acts)));
    let acts = json!([
        { "entries": "/files/many" },
        { "stat": "/files/many" },
        { "stat": "/files/old" },
        { "identity": { "a": "/files/old", "b": "/files/linked" } },
        { "identity": { "a": "/files/old", "b": "/files/many/1" } },
        { "reuse": { "directory": "/workspace", "count": 50 } },
        { "deleted": { "path": "/workspace/x" } },
        { "read-now": "/files/large" },
    ]);
    let outcomes = daemon.run(with(acts)).await.unwrap().outcomes();
    let names: Vec<_> = outcomes[0].split(' ').map(|entry| entry.split(':').next().unwrap()).collect();
    assert!(names.is_sorted() && names.len() == 120, "{names:?}");
    let time = "Datetime { seconds: 1000000000, nanoseconds: 123000000 }";
    for stat in &outcomes[1..3] {
        assert_eq!(stat.matches(time).count(), 3, "{stat}");
    }
    assert!(outcomes[1].contains("link-count: 1, size: 0"), "{}", outcomes[1]);
    assert!(outcomes[2].contains("link-count: 2, size: 3"), "{}", outcomes[2]);
    let hashes = |outcome: &str| outcome.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let (same, other) = (hashes(&outcomes[3]), hashes(&outcomes[4]));
    assert_eq!((&same[0], same[2].as_str()), (&same[1], "true"));
    assert_eq!((&same[0], other[2].as_str()), (&other[0], "false"));
    assert_ne!(other[0], other[1]);
    // A file that the host calls the same as a deleted one is another file.
    assert!(outcomes[5].starts_with("50 "), "{}", outcomes[5]);
    let deleted = hashes(&outcomes[6]);
    assert!(deleted[0] != deleted[1] && deleted[1] != deleted[2] && deleted[0] != deleted[2], "{deleted:?}");
    assert_eq!(outcomes[7], vec!["1000"; 100].join(" "));
}

#[tokio::test]
async fn no_time_that_a_guest_gives_a_file_breaks_anything() {
    let daemon = Daemon::start().await;
    let mut acts = vec![json!({ "write": { "path": "/workspace/f", "bytes": 1 } })];
    for seconds in [0, 1, 1 << 31, 1 << 33, 1 << 62, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
        for nanoseconds in [0, 999_999_999, 1_000_000_000, u32::MAX] {
            acts.push(
                json!({ "set-times": { "path": "/workspace/f", "seconds": seconds, "nanoseconds": nanoseconds } }),
            );
            acts.push(json!({ "stat": "/workspace/f" }));
        }
    }
    let outcomes = daemon.run(seeded(6, probe(json!(acts)))).await.unwrap().outcomes();
    assert!(outcomes[1].starts_with("Ok(()) Ok(())"), "{}", outcomes[1]);
    assert!(outcomes[2..].iter().step_by(2).all(|stat| stat.contains("seconds: 1000000000")));
}

#[tokio::test]
async fn the_clock_goes_on_to_the_moment_of_each_answer_of_the_gate() {
    let daemon = Daemon::governed(EVERYTHING, "").await;
    daemon.agent("[[memory]]\nspace = \"notes\"\nwritable = true\n").await.unwrap();
    let put = json!({ "memory-put": { "space": "notes", "key": "k", "value": "v" } });
    let acts = json!(["clocks", put, "clocks", put, "clocks"]);
    let outcomes = daemon.run(seeded(7, asked(acts))).await.unwrap().outcomes();
    let monotonic = |act: usize| -> u64 {
        outcomes[act].split("monotonic ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
    };
    let records = daemon.records(&["outcome"]).await;
    let at: Vec<u64> = records.iter().map(|record| record["body"]["at_ms"].as_u64().unwrap()).collect();
    assert_eq!(at.len(), 2, "{records:?}");
    for (answer, reading) in at.iter().zip([2, 4]) {
        assert!(monotonic(reading) >= answer * 1_000_000, "{answer} ms, then {} ns", monotonic(reading));
    }
    assert!(monotonic(0) < monotonic(2) && monotonic(2) < monotonic(4));
}

#[tokio::test]
async fn a_tool_has_an_origin_of_its_own_that_follows_from_its_step() {
    let daemon = Daemon::governed(EVERYTHING, "").await;
    daemon.tool("look-up", v1::Effect::Read).await.unwrap();
    daemon.agent("[[tool]]\nname = \"look-up\"\n").await.unwrap();
    let call = json!({ "call-tool": { "name": "look-up", "arguments": { "act": "origin" } } });
    let run = async |seed| daemon.run(seeded(seed, asked(json!([call, call])))).await.unwrap().outcomes();
    let (first, again, other) = (run(1).await, run(1).await, run(2).await);
    let said = |outcome: &str, word: &str| {
        outcome.split(word).nth(1).unwrap().split([' ', '"', '\\']).next().unwrap().to_owned()
    };
    let chance = |outcome: &str| said(outcome, "chance ");
    assert_eq!(chance(&first[0]), chance(&again[0]));
    assert_ne!(chance(&first[0]), chance(&first[1]), "each call is another");
    assert_ne!(chance(&first[0]), chance(&other[0]), "and each step");
    let time: u64 = said(&first[0], " at ").parse().unwrap();
    let intent = &daemon.records(&["intent"]).await[0]["body"];
    let began = 1_000_000_000_123 + intent["at_ms"].as_u64().unwrap();
    assert!((began..began + 10).contains(&time), "{} and {began}", first[0]);
}

#[tokio::test]
async fn the_same_guest_stops_at_the_same_fuel() {
    let daemon = Daemon::start().await;
    for fuel in [700_000, 5_000_000, 5_000_001, 77_777_777] {
        let limits = v1::StepLimits { fuel: Some(fuel), timeout: seconds(60), ..Default::default() };
        let request = || v1::RunStepRequest { limits: Some(limits), ..probe(json!([{ "compute": 1_000_000_000 }])) };
        let (first, again) = tokio::join!(daemon.run(request()), daemon.run(request()));
        let (first, again) = (first.unwrap(), again.unwrap());
        assert_eq!(first.failure().code, "FUEL_EXHAUSTED");
        assert_eq!((first.usage().fuel, again.usage().fuel), (fuel, fuel));
    }
}
