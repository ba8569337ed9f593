//! `palisade agent`, as it is typed.

use std::path::PathBuf;

use clap::Subcommand;

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
    /// Print a manifest that documents every key.
    #[command(after_help = "Example:\n  palisade agent sample > my-agent.toml")]
    Sample,
}
