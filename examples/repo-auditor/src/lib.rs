//! Audits a source tree: its languages, largest files, unfinished work, licences, dependencies and possible secrets.
//! It reads below `root`, writes `report.md` and `report.json` to `output`, and never quotes a secret that it finds.

mod dependencies;
mod findings;
mod languages;
mod licences;
mod markers;
mod report;
mod sample;
mod secrets;
#[cfg(test)]
mod tests;
mod walk;

use std::path::Path;

use findings::{Findings, Summary};
use palisade_guest::{Error, events, step};
use serde::Deserialize;
use walk::{File, Tree};

/// A caller's event stream is for people: a large tree gets no more progress events than this while it is scanned.
const SCAN_PROGRESS_EVENTS: usize = 16;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Input {
    /// The directory to audit.
    pub root: String,
    /// The directory to write the report to.
    pub output: String,
    /// How many of the largest files to name.
    pub largest: usize,
}

impl Default for Input {
    fn default() -> Self {
        Self { root: "/repo".into(), output: "/workspace".into(), largest: 10 }
    }
}

#[step]
pub fn audit(input: Option<Input>) -> Result<Summary, Error> {
    let Input { root, output, largest } = input.unwrap_or_default();
    events::info!("audit started", root = root);
    events::progress(0.0, format!("listing {root}"));
    let Tree { files, skipped, unreadable } = walk::list(Path::new(&root)).map_err(|error| {
        let what_to_do = format!("mount a directory at {root}, or name another one as `root`");
        Error::new("ROOT_UNREADABLE", format!("cannot list {root}: {error}; {what_to_do}"))
    })?;

    let largest = walk::largest(&files, largest);
    let mut findings = Findings { largest, skipped, unreadable, ..Findings::default() };
    scan(Path::new(&root), &files, &mut findings);
    findings.warn();

    events::progress(0.95, "writing the report");
    let report = report::write(&findings, &root, Path::new(&output)).map_err(|error| {
        let what_to_do = "`output` must be a directory that the step may write to, such as its /workspace";
        Error::new("OUTPUT_UNWRITABLE", format!("cannot write the report to {output}: {error}; {what_to_do}"))
    })?;
    events::progress(1.0, "done");
    events::info!("audit done", files = findings.files, lines = findings.lines, report = report);
    Ok(findings.into_summary(report))
}

/// Reads the files one at a time, so that memory holds at most one of them.
fn scan(root: &Path, files: &[File], findings: &mut Findings) {
    let batch_files = files.len().div_ceil(SCAN_PROGRESS_EVENTS).max(1);
    for (n, batch) in files.chunks(batch_files).enumerate() {
        let done = n * batch_files;
        let fraction = 0.1 + 0.8 * done as f64 / files.len() as f64;
        events::progress(fraction, format!("scanned {done} of {} files", files.len()));
        for file in batch {
            findings.add(file, walk::read(&root.join(&file.path), file.bytes));
        }
    }
}
