use crate::{
    step::{Failure, Outcome},
    telemetry::{AdmissionStatus, Decision, JournalStatus, Settings, Telemetry},
};

use super::*;

fn with_metrics() -> Telemetry {
    Telemetry::start(Settings { service_version: "1.2.3", metrics: true }, &|_| None).unwrap()
}

fn measure_everything(meters: &Meters) {
    let millisecond = Duration::from_millis(1);
    meters.step(&Outcome::Succeeded { output: vec![], content_type: String::new() }, millisecond);
    meters.step(&Outcome::Trapped(Failure::new("TRAP", "unreachable")), millisecond);
    meters.step_queued(millisecond);
    meters.host_call("tools", Decision::Allow, millisecond);
    meters.host_call("memory", Decision::Deny, millisecond);
    meters.host_call("memory", Decision::WouldDeny, millisecond);
    meters.budget_exhausted("fuel", "tenant");
    meters.worker_started();
    meters.worker_moved(None, Some("spare"));
    meters.worker_moved(Some("spare"), Some("serving"));
    meters.worker_moved(None, Some("spare"));
    meters.worker_moved(Some("spare"), None);
    meters.worker_recycled("age");
    meters.worker_lost("died");
    meters.limit_hit("fuel");
    meters.watch_admission(|| AdmissionStatus { waiting: 2, memory_bytes: 512 });
    meters.artifact_lookup(true);
    meters.artifact_lookup(false);
    meters.journal_commit(millisecond, 3);
    meters.watch_journal(|| JournalStatus { queued: 7, accepting: true });
}

#[test]
fn every_metric_is_on_the_page_with_its_labels() {
    let telemetry = with_metrics();
    measure_everything(telemetry.meters());
    let page = telemetry.render();
    for line in [
        r#"palisade_steps_total{outcome="succeeded"} 1"#,
        r#"palisade_steps_total{outcome="trapped"} 1"#,
        r#"palisade_step_duration_seconds_bucket{outcome="trapped",le="0.0003"} 0"#,
        r#"palisade_step_duration_seconds_bucket{outcome="trapped",le="0.001"} 1"#,
        r#"palisade_step_duration_seconds_count{outcome="succeeded"} 1"#,
        r#"palisade_step_queue_duration_seconds_sum 0.001"#,
        r#"palisade_host_calls_total{decision="allow",power="tools"} 1"#,
        r#"palisade_host_calls_total{decision="deny",power="memory"} 1"#,
        r#"palisade_host_calls_total{decision="would-deny",power="memory"} 1"#,
        r#"palisade_host_call_duration_seconds_count{decision="deny",power="memory"} 1"#,
        r#"palisade_budget_exhausted_total{account="tenant",dimension="fuel"} 1"#,
        r#"palisade_workers{state="serving"} 1"#,
        r#"palisade_workers{state="spare"} 0"#,
        "palisade_workers_started_total 1",
        r#"palisade_workers_recycled_total{reason="age"} 1"#,
        r#"palisade_workers_lost_total{reason="died"} 1"#,
        r#"palisade_limit_hits_total{limit="fuel"} 1"#,
        "palisade_queue_length 2",
        "palisade_memory_reserved_bytes 512",
        r#"palisade_artifact_lookups_total{result="hit"} 1"#,
        r#"palisade_artifact_lookups_total{result="miss"} 1"#,
        "palisade_journal_commit_duration_seconds_count 1",
        r#"palisade_journal_batch_bucket{le="2"} 0"#,
        r#"palisade_journal_batch_bucket{le="4"} 1"#,
        "palisade_journal_queue 7",
        "palisade_journal_accepting 1",
        r#"palisade_telemetry_dropped_total{reason="queue-full"} 0"#,
        r#"palisade_telemetry_dropped_total{reason="export-failed"} 0"#,
        r#"palisade_telemetry_dropped_total{reason="shut-down"} 0"#,
    ] {
        assert!(page.lines().any(|l| l == line), "`{line}` is missing:\n{page}");
    }
    assert!(page.contains(r#"service_name="palisade""#) && page.contains(r#"service_version="1.2.3""#), "{page}");
}

#[test]
fn a_page_is_the_sum_of_what_was_measured_and_not_of_who_looked() {
    let telemetry = with_metrics();
    for _ in 0..3 {
        telemetry.meters().artifact_lookup(true);
        telemetry.render();
    }
    assert!(telemetry.render().contains(r#"palisade_artifact_lookups_total{result="hit"} 3"#));
}

#[test]
fn without_metrics_nothing_is_kept() {
    let telemetry = Telemetry::off();
    measure_everything(telemetry.meters());
    assert_eq!(telemetry.render(), "");
}
