//! Prints how we compare, and writes `target/bench.json`. Every figure is a ratio of two things of this one run:
//! absolute times on shared machines are noise.

mod how_far_from_a_process;
mod how_far_from_an_echo;
mod how_late_is_a_deadline;
mod how_soon_is_a_first_step;
mod load;
mod report;
mod what_does_metering_cost;

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::Context as _;
use report::Report;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if std::env::args().nth(1).as_deref() == Some("echo") {
        return runtime.block_on(how_far_from_an_echo::serve_echo());
    }
    let mut report = Report::default();
    eprintln!("how much does metering cost? …");
    what_does_metering_cost::measure(&mut report)?;
    runtime.block_on(async {
        let dir = tempfile::tempdir()?;
        let daemon = Server::palisade(&dir)?;
        load::push(&daemon.address, &guest("probe"), "probe").await?;
        eprintln!("how far is a step from an echo? …");
        how_far_from_an_echo::measure(&mut report, &daemon).await?;
        eprintln!("how late is a deadline? …");
        how_late_is_a_deadline::measure(&mut report, &daemon).await?;
        eprintln!("how far is a step from a process? …");
        how_far_from_a_process::measure(&mut report, &daemon).await?;
        eprintln!("how soon is a first step? …");
        how_soon_is_a_first_step::measure(&mut report).await
    })?;
    report.print();
    report.write(&target().join("bench.json"))
}

/// A server in a process of its own that says its address on standard output. It is killed when dropped.
pub struct Server {
    child: Child,
    pub address: String,
}

impl Server {
    fn palisade(dir: &tempfile::TempDir) -> anyhow::Result<Self> {
        let mut command = Command::new(target().join("release/palisade"));
        command.args(["serve", "--data-dir"]).arg(dir.path().join("data"));
        command.arg("--socket").arg(dir.path().join("p.sock")).env("RUST_LOG", "warn");
        Self::start(command)
    }

    pub fn echo() -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("echo");
        Self::start(command)
    }

    fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("{command:?}"))?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut address = String::new();
        BufReader::new(stdout).read_line(&mut address)?;
        anyhow::ensure!(!address.is_empty(), "{command:?} did not serve");
        Ok(Self { child, address: address.trim().into() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill(); // fails if it is gone already
        let _ = self.child.wait();
    }
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from)
}

fn guest(name: &str) -> PathBuf {
    target().join(format!("wasm32-wasip2/guest/{name}.wasm"))
}
