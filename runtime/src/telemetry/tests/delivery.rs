//! How spans get to a collector, and what becomes of them if it is not well.

use std::time::Instant;

use super::{collector::Collector, *};

#[test]
fn a_collector_that_hangs_costs_spans_and_no_time_and_each_is_counted() {
    let (open, gate) = mpsc::channel();
    let kept = Kept { gate: Some(Arc::new(Mutex::new(gate))), ..Kept::default() };
    let (telemetry, losses) = kept.telemetry(4, false);
    for _ in 0..1_000 {
        drop(telemetry.host_call(&Context::default(), "x"));
    }
    // The exporter holds one batch at most and the queue another, all the while.
    let [full, ..] = lost(&losses);
    assert!((1_000 - 8..=1_000 - 4).contains(&full), "{full}");
    drop(open);
    telemetry.end(AGES);
    assert_eq!(lost(&losses), [full, 0, 0]);
    assert_eq!(kept.count() as u64 + full, 1_000);
}

#[test]
fn spans_that_the_collector_refuses_are_counted() {
    let kept = Kept { fails: true, ..Kept::default() };
    let (telemetry, losses) = kept.telemetry(100, false);
    for _ in 0..10 {
        drop(telemetry.host_call(&Context::default(), "x"));
    }
    telemetry.end(AGES);
    assert_eq!(lost(&losses), [0, 10, 0]);
}

#[test]
fn spans_that_are_left_at_the_end_are_counted() {
    let (open, gate) = mpsc::channel();
    let kept = Kept { gate: Some(Arc::new(Mutex::new(gate))), ..Kept::default() };
    let (telemetry, losses) = kept.telemetry(4, false);
    for _ in 0..100 {
        drop(telemetry.host_call(&Context::default(), "x"));
    }
    let traces = telemetry.0.traces.clone().unwrap();
    assert!(traces.shutdown_with_timeout(Duration::from_millis(10)).is_err());
    let [full, failed, left] = lost(&losses);
    assert!(failed == 0 && left <= 4 && full + left >= 96, "{full} {left}");
    let late = telemetry.host_call(&caller("01"), "late");
    assert!(!late.is_recording());
    assert_eq!(late.context().trace_id().as_deref(), Some(TRACE));
    drop(open);
}

/// Telemetry to a collector at `endpoint`.
fn sending_to(endpoint: &str) -> Telemetry {
    let env = |name: &str| (name == "OTEL_EXPORTER_OTLP_ENDPOINT").then(|| endpoint.to_owned());
    Telemetry::start(Settings { service_version: "0", metrics: true }, &env).unwrap()
}

#[test]
fn spans_and_metrics_reach_a_collector() {
    let collector = Collector::start();
    let telemetry = sending_to(&collector.endpoint);
    a_step(&telemetry, &caller("01"));
    telemetry.meters().worker_started();
    telemetry.shutdown();
    telemetry.shutdown();
    let traces = collector.received("/opentelemetry.proto.collector.trace.v1.TraceService/Export");
    let trace = u128::from_str_radix(TRACE, 16).unwrap().to_be_bytes();
    for part in [b"invoke_agent support".as_slice(), b"execute_tool crm.delete", b"service.name", b"palisade", &trace] {
        assert!(traces.windows(part.len()).any(|window| window == part), "{}", part.escape_ascii());
    }
    let metrics = collector.received("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export");
    let name = b"palisade.workers.started";
    assert!(metrics.windows(name.len()).any(|window| window == name));
}

/// The only thread of a runtime may be blocked by the end: the sender does not need it.
#[tokio::test]
async fn the_end_does_not_depend_on_the_callers_runtime() {
    let collector = Collector::start();
    let telemetry = sending_to(&collector.endpoint);
    drop(telemetry.host_call(&Context::default(), "from a runtime"));
    telemetry.shutdown();
    drop(telemetry);
    let traces = collector.received("/opentelemetry.proto.collector.trace.v1.TraceService/Export");
    let name = b"from a runtime";
    assert!(traces.windows(name.len()).any(|window| window == name));
}

#[test]
fn a_collector_that_is_gone_or_says_nothing_delays_nobody() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [silent.local_addr().unwrap(), gone] {
        let telemetry = sending_to(&format!("http://{address}"));
        let begin = Instant::now();
        for _ in 0..5_000 {
            drop(telemetry.host_call(&Context::default(), "x"));
        }
        assert!(dropped(&telemetry.render()) >= 5_000 - 2_048 - 512);
        telemetry.end(Duration::from_millis(200));
        // Five seconds are the least that anything waits which does wait.
        assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    }
}

/// Returns what a page says about spans that were lost, for whatever reason.
fn dropped(page: &str) -> u64 {
    let lines = page.lines().filter(|line| line.starts_with("palisade_telemetry_dropped_total{"));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}
