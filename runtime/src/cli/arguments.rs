//! What can be typed.

mod agent;
mod audit;
mod control;
mod credential;
mod policy;
mod tool;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use agent::Agent;
pub use audit::{Audit, Filter};
pub use control::{Drain, Hold, Order};
pub use credential::Credential;
pub use policy::Policy;
pub use tool::{Effect, Tool};

/// Runs agent steps that nobody has to trust.
#[derive(Parser)]
#[command(
    version,
    about,
    propagate_version = true,
    after_help = "\
Exit codes:
  0  success                         5  the step, a case or a verification did not succeed
  1  any other failure               6  a limit of time or a deadline
  2  wrong usage or request          7  the daemon cannot be reached or has no room
  3  not found                     130  interrupted
  4  not allowed                   141  the reader of the output is gone
  serve: 78 configuration, 69 cannot start

Examples:
  palisade new step greet                       write a step
  palisade run greet.wasm --input input.json    run it, in two walls
  palisade audit timeline                       what it did, and why it was allowed
  palisade serve --config palisade.toml         serve callers
  palisade doctor                               what walls this host offers"
)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub common: Common,
}

/// Where to and how to print.
#[derive(Clone, Args)]
pub struct Common {
    /// The daemon to talk to: `unix:/path` or `http://127.0.0.1:port`. Without it, a daemon of this command's own
    /// runs inside it.
    #[arg(long, global = true, env = "PALISADE_ENDPOINT", value_name = "ADDRESS")]
    pub endpoint: Option<String>,
    /// The tenant for which to ask, where the daemon knows this caller as one of several.
    #[arg(long, global = true, env = "PALISADE_TENANT", value_name = "NAME")]
    pub tenant: Option<String>,
    /// Where the command's own daemon keeps components and workspaces [default: ~/.local/share/palisade].
    #[arg(long, global = true, env = "PALISADE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The directory of *.cedar files by which the command's own daemon decides; without it, a step runs and can do
    /// nothing outside. A daemon at --endpoint decides by its own.
    #[arg(long, global = true, env = "PALISADE_POLICIES", value_name = "DIR")]
    pub policies: Option<PathBuf>,
    /// How to print data.
    #[arg(short, long, global = true, value_enum, default_value = "table")]
    pub output: Output,
    /// Print no progress and no summary.
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
}

#[derive(Subcommand)]
pub enum Command {
    /// Serve callers until SIGTERM or SIGINT.
    Serve(Serve),
    /// Run one step and print its output.
    Run(Run),
    /// Push, look at and delete components.
    #[command(subcommand)]
    Component(Component),
    /// Create, fill, read and delete workspaces.
    #[command(subcommand)]
    Workspace(Workspace),
    /// Register and look at agents: components, each with all that it may reach.
    #[command(subcommand)]
    Agent(Agent),
    /// Register and look at tools that agents may call.
    #[command(subcommand)]
    Tool(Tool),
    /// Show, revoke and restore what the daemon puts on requests.
    #[command(subcommand)]
    Credential(Credential),
    /// Stop what runs, cut off its calls, and let nothing of it begin.
    #[command(after_help = "\
It is in force before anything else happens, survives a restart, and prints what was stopped. Only operators may: the
daemon's own user, and `control.operators`. docs/control.md says what it guarantees.

Examples:
  palisade kill agents/support-desk --reason 'it sends mail that nobody asked for'
  palisade kill node --reason 'stop everything' --endpoint unix:/run/palisade/palisade.sock
  palisade kill hosts/*.tracker.example --reason breach --for 1h -o json > evidence.json")]
    Kill(Order),
    /// Have calls wait until the hold is lifted, and let nothing begin.
    #[command(after_help = "Example:\n  palisade freeze tenants/acme --reason 'we look into it' --for 15m")]
    Freeze(Order),
    /// Let nothing begin; what runs goes on.
    #[command(after_help = "Example:\n  palisade cordon node --reason 'maintenance at noon'")]
    Cordon(Order),
    /// Let nothing begin, and stop what still runs after a while.
    #[command(after_help = "Example:\n  palisade drain tools/ticket.append --reason 'a new version' --grace 5m")]
    Drain(Drain),
    /// Show and lift holds.
    #[command(subcommand)]
    Hold(Hold),
    /// Show, check, test and explain policies.
    #[command(subcommand)]
    Policy(Policy),
    /// Read, export and verify the journal.
    #[command(subcommand)]
    Audit(Audit),
    /// Print what the daemon is and what it holds to: version, walls, limits, mounts.
    Info,
    /// Write a new project.
    #[command(subcommand)]
    New(New),
    /// Print what walls this host offers, what is missing and how to get it.
    Doctor,
    /// Check and print configurations.
    #[command(subcommand)]
    Config(Config),
    /// Print a completion script for a shell.
    #[command(after_help = "Example:\n  palisade completions bash > /etc/bash_completion.d/palisade")]
    Completions { shell: clap_complete::Shell },
    #[command(hide = true)]
    Worker,
    #[command(hide = true)]
    Compile,
}

#[derive(Args)]
#[command(after_help = "\
Prints one line for each address it serves on, once it serves. Logs go to standard error as JSON; RUST_LOG chooses.

Examples:
  palisade serve --config /etc/palisade/palisade.toml
  palisade serve --data-dir /tmp/p --socket /tmp/p.sock")]
pub struct Serve {
    /// The configuration; without it, the defaults.
    #[arg(long, env = "PALISADE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Instead of the configuration's `listen.socket`.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  palisade run step.wasm --input '{\"name\":\"Ada\"}'
  palisade run step.wasm --input - < input.json
  palisade run auditor --mount ./src:/repo:ro --fuel 5000000000
  palisade run program.wasm -- --version
  palisade run agents/support-desk --input '{\"ticket\":7}' --job morning
  palisade run auditor --endpoint unix:/run/palisade/palisade.sock --mount source:/repo")]
pub struct Run {
    /// A WebAssembly file, a digest, an alias, or `agents/NAME[@VERSION]`.
    pub target: String,
    /// Count what it uses against this job's budget.
    #[arg(long, value_name = "NAME")]
    pub job: Option<String>,
    /// JSON text, a file, or `-` for standard input: a step's payload, a command's standard input.
    #[arg(long, short, value_name = "JSON|FILE|-", allow_hyphen_values = true)]
    pub input: Option<String>,
    /// DIR:/path[:ro|rw] mounts a directory, read-only unless `rw` (DIR begins with `/` or `.`; only without
    /// --endpoint). NAME:/path[:ro] mounts what the daemon's configuration calls NAME.
    #[arg(long, short, value_name = "WHAT:/PATH[:ro|rw]")]
    pub mount: Vec<String>,
    /// A workspace, at /workspace; without it, an empty one for this step.
    #[arg(long, short, value_name = "ID")]
    pub workspace: Option<String>,
    /// An environment variable of the guest.
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Units of fuel, about one for each instruction.
    #[arg(long, value_parser = clap::value_parser!(i64), allow_hyphen_values = true)]
    pub fuel: Option<i64>,
    /// Memory: bytes, or with KiB, MiB or GiB.
    #[arg(long, value_parser = bytes, allow_hyphen_values = true)]
    pub memory: Option<i64>,
    /// Wall-clock time: seconds, or with ms, s, m or h.
    #[arg(long, value_parser = milliseconds, allow_hyphen_values = true)]
    pub timeout: Option<i64>,
    /// What its random bytes follow from: 64 hex digits, as `accepted` of an earlier run and the journal say. Drawn if not
    /// given.
    #[arg(long, value_name = "HEX", value_parser = seed)]
    pub seed: Option<Seed>,
    /// What the time is to it when it begins, for example 2026-11-21T12:00:00Z. Now if not given.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub start_time: Option<prost_types::Timestamp>,
    /// Of the agent's tools, leave it only this one. Can be repeated; memory spaces are then left out, too, unless
    /// --only-space names them.
    #[arg(long, value_name = "NAME")]
    pub only_tool: Vec<String>,
    /// Of the agent's memory spaces, leave it only this one. Can be repeated; tools are then left out, too, unless
    /// --only-tool names them.
    #[arg(long, value_name = "NAME")]
    pub only_space: Vec<String>,
    /// Of the agent's egress rules, leave it only this one. Can be repeated; what is not named is left out, as with
    /// --only-tool.
    #[arg(long, value_name = "RULE")]
    pub only_egress: Vec<String>,
    /// Write a signed checkpoint of the journal, which covers the result, to this file: keep it, and the journal cannot
    /// be rewritten behind your back.
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// End with the command's own exit code.
    #[arg(long)]
    pub exit_code: bool,
    /// Arguments of the guest.
    #[arg(last = true, value_name = "ARGS")]
    pub args: Vec<String>,
}

#[derive(Subcommand)]
pub enum Component {
    /// Push a component or a WASI 0.1 module. The same bytes once more are a success.
    #[command(after_help = "Example:\n  palisade component push auditor.wasm --alias auditor")]
    Push {
        file: PathBuf,
        /// A name for it, moved from whatever had it.
        #[arg(long)]
        alias: Option<String>,
        /// Fail unless the bytes have this digest.
        #[arg(long)]
        digest: Option<String>,
    },
    /// List components.
    List,
    /// Print what a component imports, exports and could reach.
    Inspect { component: String },
    /// Delete a component, its aliases and its artifact.
    Delete { component: String },
}

#[derive(Subcommand)]
pub enum Workspace {
    /// Create an empty workspace and print its name.
    #[command(after_help = "Example:\n  palisade workspace create reports --bytes 64MiB")]
    Create {
        id: Option<String>,
        /// Bytes, or with KiB, MiB or GiB.
        #[arg(long, value_parser = bytes, allow_hyphen_values = true)]
        bytes: Option<i64>,
        /// Files, directories and links.
        #[arg(long, allow_hyphen_values = true)]
        entries: Option<i64>,
    },
    /// List workspaces.
    List,
    /// Delete a workspace and its files.
    Delete { id: String },
    /// Put a file into a workspace.
    #[command(after_help = "Example:\n  palisade workspace put reports input.csv data/input.csv")]
    Put {
        id: String,
        file: PathBuf,
        /// Where to, in the workspace [default: the file's name].
        path: Option<String>,
    },
    /// Write a file of a workspace to standard output.
    Get { id: String, path: String },
    /// List the files of a workspace.
    Files {
        id: String,
        #[arg(default_value = "")]
        path: String,
    },
}

#[derive(Subcommand)]
pub enum New {
    /// Write a step: a crate that compiles and passes its test.
    #[command(after_help = "Example:\n  palisade new step greet && cd greet && cargo test")]
    Step {
        /// The crate's name, and the folder's.
        name: String,
        /// Depend on the SDK in this folder instead of a copy of it in the project.
        #[arg(long, value_name = "DIR")]
        sdk: Option<PathBuf>,
    },
    /// Write a tool: a crate that compiles and passes its test, for agents to call.
    #[command(after_help = "Example:\n  palisade new tool look-up && cd look-up && cargo test")]
    Tool {
        /// The crate's name, and the folder's.
        name: String,
        /// Depend on the SDK in this folder instead of a copy of it in the project.
        #[arg(long, value_name = "DIR")]
        sdk: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
pub enum Config {
    /// Check a configuration.
    Check { file: PathBuf },
    /// Print a configuration with every default, or the documented sample.
    Show {
        file: Option<PathBuf>,
        /// Print the sample that documents every key.
        #[arg(long, conflicts_with = "file")]
        sample: bool,
    },
}

/// The bytes of a seed.
#[derive(Debug, Clone)]
pub struct Seed(pub Vec<u8>);

fn seed(text: &str) -> Result<Seed, String> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pairs = text.as_bytes().chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?));
    match pairs.collect::<Option<Vec<u8>>>() {
        Some(bytes) if bytes.len() == 32 => Ok(Seed(bytes)),
        _ => Err("expected 64 hex digits".into()),
    }
}

fn time(text: &str) -> Result<prost_types::Timestamp, String> {
    text.parse().map_err(|_| "expected a time as in 2026-11-21T12:00:00Z".into())
}

fn bytes(text: &str) -> Result<i64, String> {
    scaled(text, &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)], 1, "bytes, or a number with KiB, MiB or GiB")
}

fn milliseconds(text: &str) -> Result<i64, String> {
    scaled(
        text,
        &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)],
        1000,
        "seconds, or a number with ms, s, m or h",
    )
}

fn scaled(text: &str, units: &[(&str, i64)], plain: i64, expected: &str) -> Result<i64, String> {
    let (number, scale) = units
        .iter()
        .find_map(|(unit, scale)| text.strip_suffix(unit).map(|number| (number, *scale)))
        .unwrap_or((text, plain));
    let number: i64 = number.trim().parse().map_err(|_| format!("expected {expected}"))?;
    number.checked_mul(scale).ok_or_else(|| "too large".into())
}
