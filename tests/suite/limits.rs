use std::time::{Duration, Instant};

use palisade_proto::v1::{self, step_result::Outcome};
use serde_json::{Value, json};

use crate::harness::{Daemon, Ran, field, limited, probe, reason, seconds};

async fn stopped(daemon: &Daemon, acts: Value, limits: v1::StepLimits) -> Ran {
    let ran = daemon.run(limited(probe(acts), limits)).await.unwrap();
    assert_eq!(ran.outcome(), Outcome::LimitExceeded, "{:?}", ran.result);
    ran
}

#[tokio::test]
async fn an_endless_loop_is_stopped_by_fuel_and_says_so() {
    let daemon = Daemon::start().await;
    let limits = v1::StepLimits { fuel: Some(5_000_000), ..Default::default() };
    let first = stopped(&daemon, json!(["spin"]), limits).await;
    assert_eq!(first.failure().code, "FUEL_EXHAUSTED");
    assert_eq!((first.failure().limit.as_str(), first.failure().limit_value), ("fuel", 5_000_000));
    assert_eq!(first.usage().fuel, 5_000_000);
}

#[tokio::test]
async fn an_endless_loop_is_stopped_by_the_clock_also_in_host_calls_and_in_sleep() {
    let daemon = Daemon::start().await;
    for act in [json!("spin"), json!("spin-in-host"), json!({ "sleep": { "milliseconds": 60_000 } })] {
        let limits = v1::StepLimits { timeout: seconds(1), fuel: Some(1_000_000_000_000), ..Default::default() };
        let start = Instant::now();
        let ran = stopped(&daemon, json!([act]), limits).await;
        assert_eq!(ran.failure().code, "TIMEOUT", "{act}");
        assert!(start.elapsed() < Duration::from_secs(3), "{act} took {:?}", start.elapsed());
    }
}

#[tokio::test]
async fn a_memory_bomb_is_stopped_at_its_limit() {
    let daemon = Daemon::start().await;
    let limits = v1::StepLimits { memory_bytes: Some(32 << 20), ..Default::default() };
    let ran = stopped(&daemon, json!(["grow"]), limits).await;
    assert_eq!(ran.failure().code, "MEMORY_EXHAUSTED");
    assert!(ran.usage().memory_peak_bytes > 30 << 20 && ran.usage().memory_peak_bytes <= 32 << 20);
}

#[tokio::test]
async fn endless_recursion_is_stopped_by_the_stack() {
    let daemon = Daemon::start().await;
    let ran = stopped(&daemon, json!(["recurse"]), v1::StepLimits::default()).await;
    assert_eq!(ran.failure().limit, "stack_bytes");
}

#[tokio::test]
async fn an_output_above_its_limit_is_not_returned() {
    let daemon = Daemon::start().await;
    let limits = v1::StepLimits { output_bytes: Some(100), ..Default::default() };
    let ran = stopped(&daemon, json!([{ "output": 200 }]), limits).await;
    assert_eq!(ran.failure().limit, "output_bytes");
    assert!(ran.result.output.is_empty());
}

#[tokio::test]
async fn a_result_above_what_one_host_call_moves_is_stopped_too() {
    let daemon = Daemon::start().await;
    let ran = stopped(&daemon, json!([{ "output": 6_000_000 }]), v1::StepLimits::default()).await;
    assert_eq!(ran.failure().limit, "hostcall_bytes");
}

#[tokio::test]
async fn a_step_that_lives_in_host_calls_is_stopped_in_time_and_takes_nobody_along() {
    let daemon = Daemon::start().await;
    let worker = daemon.children();
    let limits = v1::StepLimits { timeout: seconds(1), ..Default::default() };
    let acts = json!([{ "files": { "directory": "/workspace", "count": 9_000 } }, { "list-for-ever": "/workspace" }]);
    let start = Instant::now();
    let others = async {
        for _ in 0..20 {
            daemon.probe(json!([{ "sleep": { "milliseconds": 50 } }])).await;
        }
    };
    let (ran, ()) = tokio::join!(stopped(&daemon, acts, limits), others);
    assert_eq!(ran.failure().code, "TIMEOUT");
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    assert_eq!(daemon.children(), worker, "the worker lives");
}

#[tokio::test]
async fn a_step_that_hoards_listings_is_stopped() {
    let daemon = Daemon::start().await;
    let acts = |count: usize| json!([{ "hoard-listings": { "directory": "/workspace", "count": count } }]);
    assert_eq!(daemon.probe(acts(60)).await, ["ok: done"]);
    assert_eq!(stopped(&daemon, acts(70), v1::StepLimits::default()).await.failure().limit, "directory_streams");
}

#[tokio::test]
async fn steps_that_hoard_open_files_do_not_take_those_of_others() {
    let daemon = Daemon::start().await;
    let hoard = json!([{ "hoard": { "directory": "/workspace", "count": 900 } }, { "sleep": { "milliseconds": 500 } }]);
    let hoards = futures::future::join_all((0..12).map(|_| daemon.probe(hoard.clone()))).await;
    assert!(hoards.iter().all(|outcomes| outcomes[0] == "ok: done"), "{hoards:?}");
}

#[tokio::test]
async fn a_step_that_hoards_open_files_is_stopped() {
    let daemon = Daemon::start().await;
    let acts = json!([{ "hoard": { "directory": "/workspace", "count": 2_000 } }]);
    assert_eq!(stopped(&daemon, acts, v1::StepLimits::default()).await.failure().limit, "resources");
    assert_eq!(daemon.probe(json!([{ "hoard": { "directory": "/workspace", "count": 900 } }])).await, ["ok: done"]);
}

#[tokio::test]
async fn a_component_that_begins_with_more_memory_than_the_step_may_have_is_stopped() {
    let daemon = Daemon::start().await;
    let ran = stopped(&daemon, json!([]), v1::StepLimits { memory_bytes: Some(65_536), ..Default::default() }).await;
    assert_eq!(ran.failure().code, "MEMORY_EXHAUSTED");
}

#[tokio::test]
async fn the_same_step_uses_the_same_fuel_each_time() {
    let daemon = Daemon::start().await;
    let request = || probe(json!([{ "output": 100 }, { "write": { "path": "/workspace/f", "bytes": 10 } }]));
    let fuel = daemon.run(request()).await.unwrap().usage().fuel;
    for _ in 0..5 {
        assert_eq!(daemon.run(request()).await.unwrap().usage().fuel, fuel);
    }
}

#[tokio::test]
async fn a_limit_of_zero_or_less_or_above_the_maximum_is_refused_by_name() {
    let daemon = Daemon::start().await;
    let none = v1::StepLimits::default();
    let cases = [
        ("limits.fuel", v1::StepLimits { fuel: Some(0), ..none }),
        ("limits.fuel", v1::StepLimits { fuel: Some(-1), ..none }),
        ("limits.fuel", v1::StepLimits { fuel: Some(i64::MAX), ..none }),
        ("limits.memory_bytes", v1::StepLimits { memory_bytes: Some(i64::MIN), ..none }),
        ("limits.memory_bytes", v1::StepLimits { memory_bytes: Some(1 << 40), ..none }),
        ("limits.timeout", v1::StepLimits { timeout: seconds(-5), ..none }),
        ("limits.timeout", v1::StepLimits { timeout: seconds(0), ..none }),
        ("limits.timeout", v1::StepLimits { timeout: seconds(i64::MAX), ..none }),
        ("limits.timeout", v1::StepLimits { timeout: Some(prost_types::Duration { seconds: 1, nanos: -1 }), ..none }),
        ("limits.output_bytes", v1::StepLimits { output_bytes: Some(0), ..none }),
        ("limits.stdio_bytes", v1::StepLimits { stdio_bytes: Some(-3), ..none }),
        ("limits.events", v1::StepLimits { events: Some(1 << 50), ..none }),
    ];
    for (name, limits) in cases {
        let refused = daemon.run(limited(probe(json!([])), limits)).await.err().unwrap();
        assert_eq!((refused.code(), reason(&refused).as_str()), (tonic::Code::InvalidArgument, "LIMIT_INVALID"));
        assert_eq!(field(&refused), name);
        assert!(refused.message().contains(name), "{}", refused.message());
    }
}

#[tokio::test]
async fn a_limit_is_exact_to_the_byte() {
    let daemon = Daemon::start().await;
    let exact = v1::StepLimits {
        output_bytes: Some(json!({"outcomes": [format!("ok: {}", "x".repeat(10))]}).to_string().len() as i64),
        ..Default::default()
    };
    assert_eq!(
        daemon.run(limited(probe(json!([{ "output": 10 }])), exact)).await.unwrap().outcome(),
        Outcome::Succeeded
    );
    stopped(&daemon, json!([{ "output": 11 }]), exact).await;
}

#[tokio::test]
async fn steps_beyond_the_slots_wait_and_beyond_the_queue_are_told_when_to_come_back() {
    let daemon = Daemon::with("[limits]\nconcurrent_steps = 1\nqueued_steps = 1\n").await;
    let spin = || {
        limited(
            probe(json!(["spin"])),
            v1::StepLimits { timeout: seconds(30), fuel: Some(1_000_000_000_000), ..Default::default() },
        )
    };
    let running = daemon.steps().run_step(spin()).await.unwrap();
    let mut steps = daemon.steps();
    let waiting = tokio::spawn(async move {
        loop {
            match steps.run_step(probe(json!([]))).await {
                Ok(accepted) => break accepted,
                // The place was taken by one of the attempts below.
                Err(status) => assert_eq!(reason(&status), "QUEUE_FULL"),
            }
        }
    });
    // Whoever comes now finds one running and one waiting, as soon as the second has arrived.
    let refused = loop {
        let third = tokio::time::timeout(Duration::from_millis(200), daemon.steps().run_step(spin())).await;
        if let Ok(Err(status)) = third {
            break status;
        }
    };
    assert_eq!((refused.code(), reason(&refused).as_str()), (tonic::Code::ResourceExhausted, "QUEUE_FULL"));
    assert!(tonic_types::StatusExt::get_details_retry_info(&refused).unwrap().retry_delay.unwrap() > Duration::ZERO);
    // The caller of the running step hangs up: its slot goes to the one that waits.
    drop(running);
    let mut waited =
        tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("the slot came back").unwrap().into_inner();
    while waited.message().await.unwrap().is_some() {}
}
