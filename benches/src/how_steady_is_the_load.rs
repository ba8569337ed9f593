//! How steady is a daemon under load, for BENCH_SOAK_SECONDS (ten minutes if unset): steps per second of its last minute
//! beside its first, and the memory of the daemon and its workers at the end beside that after the first minute?

use std::{
    fs,
    time::{Duration, Instant},
};

use palisade_proto::v1::steps_client::StepsClient;

use crate::{
    Server, load,
    report::{Goal, Report, Row},
};

const IN_FLIGHT: usize = 16;

/// What is compared: a minute, or a tenth of a shorter run.
const MINUTE: Duration = Duration::from_secs(60);
const PARTS: u32 = 10;

/// By how much the daemon and its workers together may grow after the first part: caches fill, nothing leaks.
const GROWTH_BYTES_MAX: i64 = 64 << 20;

pub async fn measure(report: &mut Report, daemon: &Server) -> anyhow::Result<()> {
    let seconds = std::env::var("BENCH_SOAK_SECONDS").unwrap_or_else(|_| "600".into()).parse()?;
    let lasting = Duration::from_secs(seconds);
    let part = (lasting / PARTS).min(MINUTE);
    if part.is_zero() {
        return Ok(());
    }
    let steps = StepsClient::new(load::connect(&daemon.address).await?);
    let (start, mut rates, mut bytes) = (Instant::now(), Vec::new(), Vec::new());
    while start.elapsed() < lasting {
        let round = load::round(part, IN_FLIGHT, || load::step(steps.clone())).await?;
        rates.push(round.calls_per_second);
        bytes.push(resident_bytes(daemon.id())?);
        let (rate, mib) = (round.calls_per_second, bytes[bytes.len() - 1] >> 20);
        eprintln!("  after {:>4} s: {rate:>6.0} steps/s, {mib} MiB", start.elapsed().as_secs());
    }
    let (first, last) = (rates[0], rates[rates.len() - 1]);
    report.add(Row {
        id: "soak".into(),
        what: format!("steps each second, the last : the first {part:?} of {lasting:?}, {IN_FLIGHT} in flight"),
        ours: last,
        theirs: first,
        unit: "/s",
        samples: rates.len(),
        goal: Goal::AtLeast(0.9),
    });
    let (first, last) = (bytes[0], bytes[bytes.len() - 1]);
    report.add(Row {
        id: "soak".into(),
        what: format!("resident memory of daemon and workers, at the end : after {part:?}"),
        ours: (last >> 10) as f64 / 1024.0,
        theirs: (first >> 10) as f64 / 1024.0,
        unit: "MiB",
        samples: bytes.len(),
        goal: Goal::AtMost(1.2),
    });
    anyhow::ensure!(last - first <= GROWTH_BYTES_MAX, "it grew by {} MiB: {bytes:?}", (last - first) >> 20);
    Ok(())
}

/// Returns what a process and its children hold, without what is of files.
fn resident_bytes(process: u32) -> anyhow::Result<i64> {
    let mut processes = vec![process.to_string()];
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let children = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        processes.extend(children.split_whitespace().map(str::to_owned));
    }
    let mut pages = 0;
    for process in processes {
        // A worker may have been replaced meanwhile.
        let Ok(statm) = fs::read_to_string(format!("/proc/{process}/statm")) else { continue };
        let mut fields = statm.split(' ').skip(1).filter_map(|field| field.parse::<i64>().ok());
        pages += fields.next().unwrap_or(0) - fields.next().unwrap_or(0);
    }
    Ok(pages * 4096)
}
