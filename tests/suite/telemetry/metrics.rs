//! What is counted: for Prometheus, for a collector, and of what a collector never got.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
};

use palisade_proto::v1::{self, step_result::Outcome};
use serde_json::{Value, json};

use super::{CANARY, SPANS, acts, collector::Collector, desk, run_traced};
use crate::harness::{asked, eventually, probe};

/// Returns an address for metrics. Nobody else uses this part of the loopback network.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.46.64.1:0").unwrap().local_addr().unwrap()
}

/// Returns what an endpoint for metrics answers.
fn scrape(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    answer
}

/// Returns a metric with these labels, the sum if there are several. Other labels may be anything.
fn counted(page: &str, metric: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let lines = page.lines().filter_map(|line| line.strip_prefix(metric)?.rsplit_once(' '));
    let has = |found: &str| labels.iter().all(|(label, value)| found.contains(&format!("{label}=\"{value}\"")));
    let found = lines.filter(|(found, _)| (found.is_empty() || found.starts_with('{')) && has(found));
    found.map(|(_, value)| value.parse::<f64>().unwrap()).reduce(|a, b| a + b)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn metrics_are_the_same_for_prometheus_and_for_the_collector() {
    let (collector, address) = (Collector::start().await, free_address());
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str())];
    let mut daemon = desk(&format!("[listen]\nmetrics = \"{address}\"\n"), &variables).await;
    run_traced(&daemon, asked(acts())).await;
    let budget = Some(v1::Budget { host_calls: Some(1), ..Default::default() });
    run_traced(&daemon, v1::RunStepRequest { budget, ..asked(json!(["list-tools", "list-tools"])) }).await;
    run_traced(&daemon, probe(json!([{ "fail": { "code": "NO_IDEA", "message": "none" } }]))).await;
    let page = scrape(address);
    daemon.stop().await;
    for (name, labels, count) in [
        ("palisade.steps", vec![("outcome", "succeeded")], 2),
        ("palisade.steps", vec![("outcome", "failed")], 1),
        ("palisade.host_calls", vec![("power", "tools"), ("decision", "allow")], 5),
        ("palisade.host_calls", vec![("power", "tools"), ("decision", "deny")], 2),
        ("palisade.host_calls", vec![("power", "memory"), ("decision", "allow")], 1),
        ("palisade.budget.exhausted", vec![("dimension", "host_calls"), ("account", "step")], 1),
    ] {
        let scraped = counted(&page, &format!("{}_total", name.replace('.', "_")), &labels);
        assert_eq!(scraped, Some(f64::from(count)), "{name} {labels:?}: {page}");
        let labels: Value = labels.iter().map(|(label, value)| ((*label).to_owned(), json!(value))).collect();
        assert_eq!(collector.counted(name, &labels), Some(i64::from(count)), "{name} {labels}");
    }
    for (metric, least) in [
        ("palisade_step_duration_seconds_count", 3.0),
        ("palisade_step_queue_duration_seconds_count", 3.0),
        ("palisade_host_call_duration_seconds_count", 8.0),
        ("palisade_journal_commit_duration_seconds_count", 1.0),
        ("palisade_journal_batch_sum", 10.0),
        ("palisade_artifact_lookups_total", 1.0),
        ("palisade_workers_started_total", 1.0),
    ] {
        assert!(counted(&page, metric, &[]) >= Some(least), "{metric}: {page}");
    }
    for (now, value) in
        [("palisade_workers", 1.0), ("palisade_journal_accepting", 1.0), ("palisade_telemetry_dropped_total", 0.0)]
    {
        assert_eq!(counted(&page, now, &[]), Some(value), "{now}: {page}");
    }
    // Whether this host delegates cgroups is its own affair.
    for wall in palisade::jail::WALLS.into_iter().filter(|wall| *wall != "cgroup") {
        assert_eq!(counted(&page, "palisade_wall_verified", &[("wall", wall)]), Some(1.0), "{wall}: {page}");
    }
    assert!(
        !page.contains(CANARY) && !page.contains("tester") && !page.contains("desk."),
        "labels have no names: {page}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_collector_that_is_gone_costs_spans_and_nothing_else() {
    let (gone, address) = (free_address(), free_address());
    let endpoint = format!("http://{gone}");
    let variables = [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint.as_str()),
        ("OTEL_METRICS_EXPORTER", "none"),
        ("OTEL_BSP_SCHEDULE_DELAY", "10"),
    ];
    let daemon = desk(&format!("[listen]\nmetrics = \"{address}\"\n"), &variables).await;
    assert_eq!(run_traced(&daemon, asked(acts())).await.outcome(), Outcome::Succeeded);
    let lost = || counted(&scrape(address), "palisade_telemetry_dropped_total", &[("reason", "export-failed")]);
    eventually("each span is counted", || lost() == Some(SPANS as f64)).await;
    assert_eq!(daemon.records(&["step", "intent", "outcome", "denial", "result"]).await.len(), 13);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nobody_waits_for_a_collector_that_never_answers() {
    let (silent, address) = (TcpListener::bind("127.0.0.1:0").unwrap(), free_address());
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    // Once two spans are under way and two wait, there is no room for more until the exporter gives up: after longer
    // than a test waits for anything.
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "10"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "2"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "600000"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "600000"),
    ];
    let mut daemon = desk(&format!("[listen]\nmetrics = \"{address}\"\n"), &variables).await;
    for _ in 0..5 {
        assert_eq!(run_traced(&daemon, asked(acts())).await.outcome(), Outcome::Succeeded);
    }
    assert_eq!(daemon.records(&["step", "intent", "outcome", "denial", "result"]).await.len(), 5 * 13);
    let lost = || counted(&scrape(address), "palisade_telemetry_dropped_total", &[("reason", "queue-full")]);
    eventually("what found no room is counted", || lost() >= Some((5 * SPANS - 4) as f64)).await;
    daemon.stop().await;
}
