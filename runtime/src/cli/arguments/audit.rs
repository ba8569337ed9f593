//! `palisade audit`, as it is typed.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use clap::{Args, Subcommand};
use prost_types::Timestamp;

use super::scaled;
use crate::journal::Kind;

#[derive(Subcommand)]
pub enum Audit {
    /// List records, the newest last.
    #[command(after_help = "\
Examples:
  palisade audit list --kind denial --since 1h
  palisade audit list --agent support-desk --all -o json | jq .body.decision")]
    List {
        #[command(flatten)]
        filter: Filter,
        /// Only so many, the newest.
        #[arg(long, value_name = "N", default_value = "50", value_parser = clap::value_parser!(u32).range(1..))]
        last: u32,
        /// All of them.
        #[arg(long, conflicts_with = "last")]
        all: bool,
    },
    /// Print the newest records, and go on with those that come.
    #[command(
        after_help = "Example:\n  palisade audit tail -f --kind denial --endpoint unix:/run/palisade/palisade.sock"
    )]
    Tail {
        #[command(flatten)]
        filter: Filter,
        /// Go on until interrupted.
        #[arg(long, short)]
        follow: bool,
        /// Begin after this record, instead of with the newest ten.
        #[arg(long, value_name = "SEQUENCE", requires = "follow")]
        after: Option<u64>,
    },
    /// Print a record and its payloads, as far as they are kept.
    Show { sequence: u64 },
    /// Tell the story of one step: what it asked, who allowed it, what came of it, and how long it took.
    #[command(after_help = "\
Examples:
  palisade audit timeline                 the newest step
  palisade audit timeline 3f9c21aa        the beginning of its id is enough")]
    Timeline {
        /// The step's id or its beginning [default: the newest step].
        step: Option<String>,
        /// Leave out what was sent and answered.
        #[arg(long)]
        without_payloads: bool,
    },
    /// Write a payload's bytes to standard output.
    Payload {
        #[arg(value_name = "sha256:HEX")]
        digest: String,
    },
    /// Delete a payload's bytes. The records that name it stay, and a record says why it was deleted.
    Forget {
        #[arg(value_name = "sha256:HEX")]
        digest: String,
        #[arg(long)]
        reason: String,
    },
    /// Sign the journal as it is now: keep what this prints, and the journal cannot be rewritten behind your back.
    #[command(after_help = "Example:\n  palisade audit checkpoint > held.txt")]
    Checkpoint {
        /// Fail unless this public key verifies it.
        #[arg(long, value_name = "KEY|FILE")]
        key: Option<String>,
    },
    /// Print the public key that verifies checkpoints and exports.
    Key,
    /// Write records, payloads and a checkpoint to standard output, for `palisade audit verify`.
    #[command(after_help = "\
Examples:
  palisade audit export > journal.jsonl
  palisade audit export --from 1001 --without-payloads --output-file rest.jsonl")]
    Export {
        /// From this record on.
        #[arg(long, value_name = "SEQUENCE", default_value_t = 1)]
        from: u64,
        /// Leave out what the records name by digest.
        #[arg(long)]
        without_payloads: bool,
        /// Write to this file, which is there only when it is complete.
        #[arg(long, value_name = "FILE")]
        output_file: Option<PathBuf>,
    },
    /// Verify an export with the public key alone, without a daemon. Ends with exit code 5 at the first bad record.
    #[command(after_help = "\
Without a checkpoint that you held since before, an export that was cut short cannot be told from a whole one.

Examples:
  palisade audit verify journal.jsonl --key key.txt --checkpoint held.txt
  palisade audit export | palisade audit verify - --key \"$KEY\"")]
    Verify {
        /// The export, or `-` for standard input.
        file: PathBuf,
        /// As `palisade audit key` prints it, or a file that has it.
        #[arg(long, value_name = "KEY|FILE")]
        key: String,
        /// A checkpoint that you kept: of `palisade audit checkpoint`, or of `palisade run --checkpoint`.
        #[arg(long, value_name = "FILE")]
        checkpoint: Option<PathBuf>,
    },
}

/// Which records.
#[derive(Args)]
pub struct Filter {
    /// Only of this kind: step, intent, outcome, denial, result, … Can be repeated.
    #[arg(long, value_name = "KIND")]
    pub kind: Vec<Kind>,
    /// Only of this step: its id or its beginning.
    #[arg(long)]
    pub step: Option<String>,
    /// Only of this job.
    #[arg(long)]
    pub job: Option<String>,
    /// Only of this agent, by its name without a version.
    #[arg(long)]
    pub agent: Option<String>,
    /// Only from this time on: `2026-01-31T12:00:00Z`, or `15m` ago, with s, m, h or d.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub since: Option<Timestamp>,
    /// Only before this time.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub until: Option<Timestamp>,
}

/// Reads a time, or how long ago it was.
pub fn time(text: &str) -> Result<Timestamp, String> {
    let expected = "a time such as 2026-01-31T12:00:00Z, or how long ago: a number with s, m, h or d";
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    if text.ends_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("expected {expected}"));
    }
    let units = &[("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
    let seconds = u64::try_from(scaled(text, units, 1, expected)?).map_err(|_| format!("expected {expected}"))?;
    let time = SystemTime::now().checked_sub(Duration::from_secs(seconds));
    time.map(Timestamp::from).ok_or_else(|| "too long ago".into())
}
