//! Measurements. Labels are from closed sets, so that nobody outside can make a metric grow.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Histogram, Meter, UpDownCounter},
};

use super::{export::Losses, names, record::Decision};
use crate::step::Outcome;

#[cfg(test)]
mod tests;

/// Upper bounds in seconds: from a host call that only looks something up to a step that runs for minutes.
const SECONDS: [f64; 17] =
    [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

/// Upper bounds of the number of records that one commit of the journal makes durable.
const RECORDS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// The instruments. Where no metrics are kept, each method is one branch.
///
/// A `&'static str` is a label: pass a word from a fixed list, never one that came from a caller or a guest.
#[derive(Debug)]
pub struct Meters(Option<Instruments>);

#[derive(Debug)]
struct Instruments {
    meter: Meter,
    steps: Counter<u64>,
    step_duration: Histogram<f64>,
    step_queue_duration: Histogram<f64>,
    host_calls: Counter<u64>,
    host_call_duration: Histogram<f64>,
    budget_exhausted: Counter<u64>,
    limit_hits: Counter<u64>,
    workers: UpDownCounter<i64>,
    workers_started: Counter<u64>,
    workers_recycled: Counter<u64>,
    workers_lost: Counter<u64>,
    wall_verified: Gauge<u64>,
    artifact_lookups: Counter<u64>,
    journal_commit_duration: Histogram<f64>,
    journal_batch: Histogram<u64>,
}

/// What waits for room, and what has it.
#[derive(Debug, Clone, Copy)]
pub struct AdmissionStatus {
    /// Steps that wait for a slot or for memory.
    pub waiting: u64,
    /// Memory that is set aside for running steps.
    pub memory_bytes: u64,
}

/// What the journal is doing.
#[derive(Debug, Clone, Copy)]
pub struct JournalStatus {
    /// Records that wait to become durable.
    pub queued: u64,
    /// Whether it takes records: not if the disk is full or a sync failed.
    pub accepting: bool,
}

impl Meters {
    pub(super) fn off() -> Self {
        Self(None)
    }

    pub(super) fn new(meter: Meter, losses: Arc<Losses>) -> Self {
        observe_losses(&meter, losses);
        let seconds = |name, description| {
            let boundaries = SECONDS.to_vec();
            meter
                .f64_histogram(name)
                .with_unit(names::UNIT_SECONDS)
                .with_description(description)
                .with_boundaries(boundaries)
                .build()
        };
        let count =
            |name, unit, description| meter.u64_counter(name).with_unit(unit).with_description(description).build();
        Self(Some(Instruments {
            steps: count(names::STEPS, names::UNIT_STEPS, "Steps that ended, by outcome"),
            step_duration: seconds(names::STEP_DURATION, "From the start of a step in a worker to its end"),
            step_queue_duration: seconds(names::STEP_QUEUE_DURATION, "From the request to the start in a worker"),
            host_calls: count(names::HOST_CALLS, names::UNIT_CALLS, "Host calls, by power and decision"),
            host_call_duration: seconds(names::HOST_CALL_DURATION, "From a host call to its reply"),
            budget_exhausted: count(
                names::BUDGET_EXHAUSTED,
                names::UNIT_CALLS,
                "Charges that were refused, by dimension and the level of the account that was empty",
            ),
            limit_hits: count(
                names::LIMIT_HITS,
                names::UNIT_STEPS,
                "Steps that a limit ended, and requests to run one that a limit refused, by limit",
            ),
            workers: meter
                .i64_up_down_counter(names::WORKERS)
                .with_unit(names::UNIT_WORKERS)
                .with_description("Workers that run, by what they are there for")
                .build(),
            workers_started: count(names::WORKERS_STARTED, names::UNIT_WORKERS, "Workers that were started"),
            workers_recycled: count(
                names::WORKERS_RECYCLED,
                names::UNIT_WORKERS,
                "Workers that took no new steps any more, by reason",
            ),
            wall_verified: meter
                .u64_gauge(names::WALL_VERIFIED)
                .with_description("Whether a wall of the worker that was started last stands, as found by attempting")
                .build(),
            workers_lost: count(
                names::WORKERS_LOST,
                names::UNIT_WORKERS,
                "Workers that died, hung or broke the rules, by which",
            ),
            artifact_lookups: count(
                names::ARTIFACT_LOOKUPS,
                names::UNIT_LOOKUPS,
                "Compiled components that were there, or had to be compiled",
            ),
            journal_commit_duration: seconds(names::JOURNAL_COMMIT_DURATION, "One durable commit of the journal"),
            journal_batch: meter
                .u64_histogram(names::JOURNAL_BATCH)
                .with_unit(names::UNIT_RECORDS)
                .with_description("Records in one commit of the journal")
                .with_boundaries(RECORDS.to_vec())
                .build(),
            meter,
        }))
    }

    /// Counts a step that ended, and the time from its start in a worker.
    pub fn step(&self, outcome: &Outcome, took: Duration) {
        let Some(on) = &self.0 else { return };
        let labels = [KeyValue::new(names::LABEL_OUTCOME, outcome.word())];
        on.steps.add(1, &labels);
        on.step_duration.record(took.as_secs_f64(), &labels);
    }

    /// Measures how long a step waited for its start.
    pub fn step_queued(&self, waited: Duration) {
        let Some(on) = &self.0 else { return };
        on.step_queue_duration.record(waited.as_secs_f64(), &[]);
    }

    /// Counts a host call, and the time to its reply.
    pub fn host_call(&self, power: &'static str, decision: Decision, took: Duration) {
        let Some(on) = &self.0 else { return };
        let labels = [KeyValue::new(names::LABEL_POWER, power), KeyValue::new(names::LABEL_DECISION, decision.word())];
        on.host_calls.add(1, &labels);
        on.host_call_duration.record(took.as_secs_f64(), &labels);
    }

    /// Counts a charge that was refused: `account` is the level whose budget was empty, `tenant` for example.
    pub fn budget_exhausted(&self, dimension: &'static str, account: &'static str) {
        let Some(on) = &self.0 else { return };
        let labels = [KeyValue::new(names::LABEL_DIMENSION, dimension), KeyValue::new(names::LABEL_ACCOUNT, account)];
        on.budget_exhausted.add(1, &labels);
    }

    /// Counts a step that a limit ended, or did not let begin.
    pub fn limit_hit(&self, limit: &'static str) {
        let Some(on) = &self.0 else { return };
        on.limit_hits.add(1, &[KeyValue::new(names::LABEL_LIMIT, limit)]);
    }

    /// Counts a worker that was started.
    pub fn worker_started(&self) {
        let Some(on) = &self.0 else { return };
        on.workers_started.add(1, &[]);
    }

    /// Says of each wall of a worker, by name, whether it stands.
    pub fn walls(&self, walls: impl Iterator<Item = (&'static str, bool)>) {
        let Some(on) = &self.0 else { return };
        for (wall, verified) in walls {
            on.wall_verified.record(verified.into(), &[KeyValue::new(names::LABEL_WALL, wall)]);
        }
    }

    /// Counts a worker that goes from one state to another, or comes, or goes.
    pub fn worker_moved(&self, from: Option<&'static str>, to: Option<&'static str>) {
        let Some(on) = &self.0 else { return };
        for (state, change) in [(from, -1), (to, 1)] {
            if let Some(state) = state {
                on.workers.add(change, &[KeyValue::new(names::LABEL_STATE, state)]);
            }
        }
    }

    /// Counts a worker that takes no new steps any more.
    pub fn worker_recycled(&self, reason: &'static str) {
        let Some(on) = &self.0 else { return };
        on.workers_recycled.add(1, &[KeyValue::new(names::LABEL_REASON, reason)]);
    }

    /// Counts a worker that came to a bad end.
    pub fn worker_lost(&self, how: &'static str) {
        let Some(on) = &self.0 else { return };
        on.workers_lost.add(1, &[KeyValue::new(names::LABEL_REASON, how)]);
    }

    /// Counts a look for a compiled component. It is a `hit` if it was there.
    pub fn artifact_lookup(&self, hit: bool) {
        let Some(on) = &self.0 else { return };
        on.artifact_lookups.add(1, &[KeyValue::new(names::LABEL_RESULT, if hit { "hit" } else { "miss" })]);
    }

    /// Measures one durable commit of the journal.
    pub fn journal_commit(&self, took: Duration, records: usize) {
        let Some(on) = &self.0 else { return };
        on.journal_commit_duration.record(took.as_secs_f64(), &[]);
        on.journal_batch.record(records as u64, &[]);
    }

    /// Asks `read` for the status of admission whenever metrics are collected. To be called once, as
    /// [`Meters::watch_journal`].
    pub fn watch_admission(&self, read: impl Fn() -> AdmissionStatus + Send + Sync + 'static) {
        let Some(on) = &self.0 else { return };
        let read = Arc::new(read);
        let again = read.clone();
        on.meter
            .u64_observable_gauge(names::QUEUE_LENGTH)
            .with_unit(names::UNIT_STEPS)
            .with_description("Steps that wait for a slot or for memory")
            .with_callback(move |gauge| gauge.observe(read().waiting, &[]))
            .build();
        on.meter
            .u64_observable_gauge(names::MEMORY_RESERVED)
            .with_unit(names::UNIT_BYTES)
            .with_description("Memory that is set aside for running steps")
            .with_callback(move |gauge| gauge.observe(again().memory_bytes, &[]))
            .build();
    }

    /// Asks `read` for the journal's status whenever metrics are collected. To be called once. `read` must be quick and
    /// is kept until telemetry is dropped: let it hold no more than the two numbers.
    pub fn watch_journal(&self, read: impl Fn() -> JournalStatus + Send + Sync + 'static) {
        let Some(on) = &self.0 else { return };
        let read = Arc::new(read);
        let again = read.clone();
        on.meter
            .u64_observable_gauge(names::JOURNAL_QUEUE)
            .with_unit(names::UNIT_RECORDS)
            .with_description("Records that wait to become durable")
            .with_callback(move |gauge| gauge.observe(read().queued, &[]))
            .build();
        on.meter
            .u64_observable_gauge(names::JOURNAL_ACCEPTING)
            .with_description("1 if the journal takes records, else 0")
            .with_callback(move |gauge| gauge.observe(u64::from(again().accepting), &[]))
            .build();
    }
}

/// The losses are counted where spans are queued, which knows no meters.
fn observe_losses(meter: &Meter, losses: Arc<Losses>) {
    meter
        .u64_observable_counter(names::TELEMETRY_DROPPED)
        .with_unit(names::UNIT_SPANS)
        .with_description("Spans that never reached the collector, by reason")
        .with_callback(move |counter| {
            let observe = |reason, count: u64| counter.observe(count, &[KeyValue::new(names::LABEL_REASON, reason)]);
            observe("queue-full", losses.queue_full.load(Relaxed));
            observe("export-failed", losses.export_failed.load(Relaxed));
            observe("shut-down", losses.shut_down.load(Relaxed));
        })
        .build();
}
