//! `palisade tool`, as it is typed.

use clap::{Subcommand, ValueEnum};

#[derive(Subcommand)]
pub enum Tool {
    /// Register a version of a tool: runs it once, without any power, to have it describe itself.
    // `--version` is the tool's here.
    #[command(
        disable_version_flag = true,
        after_help = "\
Examples:
  palisade tool register ticket_read.wasm --name ticket.read --version 1 --effect read
  palisade tool register ticket-append --name ticket.append --version 1 --effect append --label support"
    )]
    Register {
        /// A WebAssembly file, which is pushed first, a digest, or an alias.
        component: String,
        /// Words with dots between them: `ticket.read`.
        #[arg(long)]
        name: String,
        #[arg(long)]
        version: String,
        /// What it does to the world outside, by your judgement.
        #[arg(long, value_enum)]
        effect: Effect,
        /// A label that policies can look at. Can be repeated.
        #[arg(long)]
        label: Vec<String>,
    },
    /// List every version of every tool.
    List,
    /// Print what a tool is, with its schemas.
    #[command(after_help = "Example:\n  palisade tool get ticket.read@1")]
    Get {
        /// NAME for the newest version, or NAME@VERSION.
        tool: String,
    },
    /// Disable a version: calls of it are denied at once, also for agents that have it.
    Disable {
        #[arg(value_name = "NAME@VERSION")]
        tool: String,
    },
    /// Enable a version again.
    Enable {
        #[arg(value_name = "NAME@VERSION")]
        tool: String,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Effect {
    /// Looks and changes nothing.
    Read,
    /// Adds; what was there stays.
    Append,
    /// Changes what was there.
    Mutate,
    /// Takes away for good.
    Destroy,
    /// Tells somebody outside.
    ExternalSend,
}
