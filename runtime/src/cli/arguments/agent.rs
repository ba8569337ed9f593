//! `palisade agent`, as it is typed.

use std::path::PathBuf;

use clap::Subcommand;
use prost_types::Timestamp;

use super::audit::time;

#[derive(Subcommand)]
pub enum Agent {
    /// Register a version of an agent. First prints what it reaches beyond the newest version.
    #[command(after_help = "\
Lines that begin with + are reach that the newest version does not have, lines with - are gone. A version that reaches
further is refused with exit code 4, unless --allow-wider is given.

Examples:
  palisade agent register support-desk.toml --dry-run
  palisade agent register support-desk.toml --allow-wider")]
    Register {
        /// The manifest; `palisade agent sample` prints one that documents every key.
        file: PathBuf,
        /// Accept a version that reaches further than the newest one.
        #[arg(long)]
        allow_wider: bool,
        /// Check and compare, but register nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// List every version of every agent.
    List,
    /// Print what an agent is and may reach; with `-o json`, its manifest as well.
    #[command(after_help = "Example:\n  palisade agent get support-desk@1")]
    Get {
        /// NAME for the newest version, or NAME@VERSION.
        agent: String,
    },
    /// Compare the reach of two versions.
    #[command(after_help = "Example:\n  palisade agent diff support-desk@1 support-desk@2")]
    Diff {
        #[arg(value_name = "NAME@VERSION")]
        from: String,
        #[arg(value_name = "NAME@VERSION")]
        to: String,
    },
    /// Disable a version: it is not started any more. Steps that run are not disturbed.
    Disable {
        #[arg(value_name = "NAME@VERSION")]
        agent: String,
    },
    /// Enable a version again.
    Enable {
        #[arg(value_name = "NAME@VERSION")]
        agent: String,
    },
    /// Draft the least manifest and policies that would have allowed what an agent did, to be reviewed.
    #[command(after_help = "\
Reads the agent's records. With `policy.mode = \"observe\"` they have what would be denied, too; docs/learning.md tells
how to use it. What was denied, or what a policy forbids, is in no draft: the warnings above it name it.

Examples:
  palisade agent learn support-desk --since 1d
  palisade agent learn support-desk@2 --job trial --write drafts/")]
    Learn {
        /// NAME for the newest version, or NAME@VERSION.
        agent: String,
        /// Only from this time on: `2026-01-31T12:00:00Z`, or `15m` ago, with s, m, h or d.
        #[arg(long, value_name = "TIME", value_parser = time)]
        since: Option<Timestamp>,
        /// Only from steps of this job.
        #[arg(long, value_name = "NAME")]
        job: Option<String>,
        /// Also from steps of other versions.
        #[arg(long)]
        all_versions: bool,
        /// Write NAME.toml and NAME.cedar into this directory, in which they must not be there yet.
        #[arg(long, value_name = "DIR")]
        write: Option<PathBuf>,
    },
    /// Print a manifest that documents every key.
    #[command(after_help = "Example:\n  palisade agent sample > my-agent.toml")]
    Sample,
}
