//! How fast does the journal take a record, beside the same bytes written to a file by its side?

use std::{
    fs::File,
    io::Write as _,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use palisade::journal::{Entry, Journal, Kind, Options};
use serde_json::json;

use crate::{
    home, load,
    report::{Goal, Report, Row, quantile},
};

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(400);

/// Entries of a batch that nobody waits for: half of what may wait.
const BATCH: usize = 4_096;

pub async fn measure(report: &mut Report) -> anyhow::Result<()> {
    let dir = home()?;
    let (journal, _) = Journal::open(dir.path(), Options::default())?;
    let entries = Entries::default();
    let receipt = journal.append(entries.next())?.await?;
    let record = journal.get(receipt.sequence)?.context("no record")?.bytes;
    let mut file = File::create(dir.path().join("written"))?;

    for in_flight in [1, 64] {
        let (mut ours, mut theirs, mut samples) = (Vec::new(), Vec::new(), 0);
        for _ in 0..ROUNDS {
            let append = || async {
                journal.append(entries.next())?.await?;
                Ok(())
            };
            let round = load::round(ROUND, in_flight, append).await?;
            samples += round.latencies_us.len();
            ours.push(1e6 / round.calls_per_second);
            theirs.push(write(&mut file, &record, in_flight, true)?);
        }
        let sum = if in_flight == 1 { "write + fdatasync".into() } else { format!("{in_flight} writes, 1 fdatasync") };
        report.add(Row {
            id: format!("G4 durable, {in_flight} in flight"),
            what: format!("a record, amortised : {sum}"),
            ours: quantile(&mut ours, 0.5),
            theirs: quantile(&mut theirs, 0.5),
            unit: "µs",
            samples,
            goal: if in_flight == 64 { Goal::OursAtMost(70.0) } else { Goal::None },
        });
    }

    let (mut called, mut durable, mut written, mut synced) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let batch: Vec<Entry> = (0..BATCH).map(|_| entries.next()).collect();
        let start = Instant::now();
        let mut last = None;
        for entry in batch {
            last = Some(journal.append(entry)?);
        }
        called.push(start.elapsed().as_secs_f64() * 1e6 / BATCH as f64);
        last.context("an empty batch")?.await?;
        durable.push(start.elapsed().as_secs_f64() * 1e6 / BATCH as f64);
        written.push(write(&mut file, &record, BATCH, false)?);
        synced.push(write(&mut file, &record, BATCH, true)?);
    }
    let rows = [
        ("append, not waiting : write", &mut called, &mut written),
        ("the same, until all are durable : writes, 1 fdatasync", &mut durable, &mut synced),
    ];
    for (what, ours, theirs) in rows {
        report.add(Row {
            id: format!("G4 {BATCH} at once"),
            what: what.into(),
            ours: quantile(ours, 0.5),
            theirs: quantile(theirs, 0.5),
            unit: "µs",
            samples: ROUNDS * BATCH,
            goal: Goal::None,
        });
    }
    Ok(journal.close()?)
}

/// Writes a record so often, for as long as a round is or once, and returns the microseconds that each one took.
fn write(file: &mut File, record: &[u8], at_once: usize, synced: bool) -> anyhow::Result<f64> {
    let start = Instant::now();
    let mut records = 0;
    while records == 0 || (at_once < BATCH && start.elapsed() < ROUND) {
        for _ in 0..at_once {
            file.write_all(record)?;
        }
        if synced {
            file.sync_data()?;
        }
        records += at_once;
    }
    Ok(start.elapsed().as_secs_f64() * 1e6 / records as f64)
}

/// What the gate records of one call after the other: an intent, then its outcome.
#[derive(Default)]
struct Entries(AtomicU64);

impl Entries {
    fn next(&self) -> Entry {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        let call = number / 2;
        let (kind, body) = if number.is_multiple_of(2) {
            let decision = json!({
                "verdict": "allow", "question": "getting `ticket` in memory space `notes`", "policies": ["notes"],
                "revision": "0123456789abcdef",
            });
            let body = json!({
                "power": "memory", "via": "", "verb": "get", "space": "notes", "key": "ticket", "effect": "read",
                "decision": decision,
            });
            (Kind::Intent, body)
        } else {
            let used = json!({
                "fuel": 0, "wall_ms": 0, "host_calls": 0, "tool_calls": 0, "bytes_in": 14, "bytes_out": 6,
            });
            (Kind::Outcome, json!({ "power": "memory", "used": used, "took_us": 42, "status": "done" }))
        };
        Entry {
            step: Some(format!("steps/{:032x}", call / 32)),
            call: Some(call),
            agent: Some("agents/bench@1".into()),
            trace: Some(format!("{call:032x}")),
            span: Some(format!("{call:016x}")),
            ..Entry::new(kind, "default", body)
        }
    }
}
