//! Prints how we compare, and writes `target/bench.json`. Every figure is a ratio of two things of this one run:
//! absolute times on shared machines are noise. With words as arguments, only the questions that have one of them are asked,
//! and nothing is written: `palisade-bench request`.

mod governed;
mod how_far_from_a_process;
mod how_far_from_an_echo;
mod how_fast_is_a_decision;
mod how_fast_is_the_journal;
mod how_late_is_a_deadline;
mod how_soon_is_a_first_step;
mod how_steady_is_the_load;
mod load;
mod report;
mod what_do_neighbours_cost;
mod what_does_a_gated_call_cost;
mod what_does_a_request_cost;
mod what_does_metering_cost;
mod what_does_the_jail_cost;

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::Context as _;
use report::Report;
use tempfile::TempDir;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["echo", path] => runtime.block_on(how_far_from_an_echo::serve_echo(path.as_ref())),
        ["upstream"] => runtime.block_on(runtime.spawn(what_does_a_request_cost::serve_upstream()))?,
        ["attack", address] => runtime.block_on(what_do_neighbours_cost::attack(address)),
        ["answer"] => runtime.block_on(runtime.spawn(what_does_a_gated_call_cost::answer()))?,
        _ => {
            let mut report = Report::default();
            let asked = Asked(&arguments);
            if asked.about("how much does metering cost?") {
                what_does_metering_cost::measure(&mut report)?;
            }
            if asked.about("how fast is a decision?") {
                how_fast_is_a_decision::measure(&mut report)?;
            }
            runtime.block_on(measure(&mut report, &asked))?;
            report.print();
            if arguments.is_empty() { report.write(&target().join("bench.json")) } else { Ok(()) }
        }
    }
}

async fn measure(report: &mut Report, asked: &Asked<'_>) -> anyhow::Result<()> {
    if asked.about("how fast is the journal?") {
        how_fast_is_the_journal::measure(report).await?;
    }
    if asked.about("what does a gated call cost?") {
        what_does_a_gated_call_cost::measure(report).await?;
    }
    if asked.about("what does a request cost?") {
        what_does_a_request_cost::measure(report).await?;
    }
    if asked.about("what does the jail cost?") {
        what_does_the_jail_cost::measure(report).await?;
    }
    if asked.about("how far is a step from an echo?") {
        how_far_from_an_echo::measure(report).await?;
    }
    if asked.about("what do neighbours cost?") {
        what_do_neighbours_cost::measure(report).await?;
    }
    let dir = home()?;
    let daemon = Server::serve(&dir, |serve| serve)?;
    load::push(&daemon.address, &guest("probe"), "probe").await?;
    if asked.about("how late is a deadline?") {
        how_late_is_a_deadline::measure(report, &daemon).await?;
    }
    if asked.about("how far is a step from a process?") {
        how_far_from_a_process::measure(report, &daemon).await?;
    }
    if asked.about("how steady is the load?") {
        how_steady_is_the_load::measure(report, &daemon).await?;
    }
    drop(daemon);
    if asked.about("how soon is a first step?") {
        how_soon_is_a_first_step::measure(report).await?;
    }
    Ok(())
}

/// The words that pick questions.
struct Asked<'a>(&'a [String]);

impl Asked<'_> {
    /// Returns whether a question is asked, and says so.
    fn about(&self, question: &str) -> bool {
        let asked = self.0.is_empty() || self.0.iter().any(|word| question.contains(word.as_str()));
        if asked {
            eprintln!("{question} …");
        }
        asked
    }
}

/// A server in a process of its own that says its address on standard output. It is killed when dropped.
pub struct Server {
    child: Child,
    pub address: String,
    /// Where its socket is: short, unlike the path of its data.
    _socket: TempDir,
}

impl Server {
    /// Starts a daemon on the data in `dir`, with what `configured` adds to its command line.
    pub fn serve(dir: &TempDir, configured: impl FnOnce(&mut Command) -> &mut Command) -> anyhow::Result<Self> {
        let socket = tempfile::tempdir()?;
        let mut command = Command::new(target().join("release/palisade"));
        command.args(["serve", "--data-dir"]).arg(dir.path().join("data"));
        command.arg("--socket").arg(socket.path().join("p.sock")).env("RUST_LOG", "warn");
        configured(&mut command);
        Self::start(command, socket)
    }

    pub fn echo() -> anyhow::Result<Self> {
        let socket = tempfile::tempdir()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("echo").arg(socket.path().join("echo.sock"));
        Self::start(command, socket)
    }

    pub fn upstream() -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("upstream");
        Self::start(command, tempfile::tempdir()?)
    }

    /// Who attacks the daemon at `address`, and does so by now.
    pub fn attack(address: &str) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["attack", address]);
        Self::start(command, tempfile::tempdir()?)
    }

    /// Returns the id of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn start(mut command: Command, socket: TempDir) -> anyhow::Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("{command:?}"))?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut address = String::new();
        BufReader::new(stdout).read_line(&mut address)?;
        anyhow::ensure!(!address.is_empty(), "{command:?} did not serve");
        Ok(Self { child, address: address.trim().into(), _socket: socket })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill(); // fails if it is gone already
        let _ = self.child.wait();
    }
}

/// Returns a directory for data, on the disk that builds are on: a system's own temporary one may be in memory.
fn home() -> anyhow::Result<TempDir> {
    Ok(tempfile::tempdir_in(target())?)
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from)
}

fn guest(name: &str) -> PathBuf {
    target().join(format!("wasm32-wasip2/guest/{name}.wasm"))
}
