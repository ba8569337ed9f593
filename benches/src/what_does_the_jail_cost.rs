//! What does the jail cost a step, beside the same runner in this process, with no wall but WebAssembly?

use std::{
    future::Future,
    os::{fd::OwnedFd, unix::net::UnixStream as StdUnixStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Instant,
};

use anyhow::Context as _;
use palisade::{
    host::{Gate, Outlet, Trees},
    sandbox::{self, Runner, Ways},
    step::{Digest, Mount, Origin, Outcome, Quota, StepLimits, StepSpec, Task},
    wire::{self, Confinement, EVENT_WINDOW, FromWorker, Outbox, ToWorker, WorkerSetup},
};
use tempfile::TempDir;
use tokio::{net::UnixStream, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    guest, home,
    report::{Goal, Report, Row, quantile},
    target,
};

const MEMORY_BYTES: u64 = 256 << 20;

/// What is compared, how often, and how many times longer it may take in the jail.
const STEPS: [(&str, &str, usize, Goal); 2] = [
    ("a step that does nothing", r#"{"acts":[]}"#, 2_000, Goal::None),
    (
        "one that makes 200 files",
        r#"{"acts":[{"files":{"directory":"/workspace","count":200}}]}"#,
        200,
        Goal::AtMost(1.25),
    ),
];

pub async fn measure(report: &mut Report) -> anyhow::Result<()> {
    let place = Place::new()?;
    let mut jailed = Jailed::start(&place).await?;
    let beside = Beside::new(&place)?;
    for (what, acts, rounds, goal) in STEPS {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(timed(&place, jailed.run(place.spec(acts))).await?);
            theirs.push(timed(&place, beside.run(place.spec(acts))).await?);
        }
        report.add(Row {
            id: "jail".into(),
            what: format!("{what}, in a worker : in this process"),
            ours: quantile(&mut ours, 0.5),
            theirs: quantile(&mut theirs, 0.5),
            unit: "µs",
            samples: rounds,
            goal,
        });
    }
    Ok(())
}

/// Returns how many microseconds a step takes, in an empty workspace.
async fn timed(place: &Place, step: impl Future<Output = anyhow::Result<Outcome>>) -> anyhow::Result<f64> {
    let workspace = place.workspace();
    std::fs::create_dir(&workspace)?;
    let start = Instant::now();
    let outcome = step.await?;
    let took = start.elapsed().as_secs_f64() * 1e6;
    anyhow::ensure!(matches!(outcome, Outcome::Succeeded { .. }), "the step ended with {outcome:?}");
    std::fs::remove_dir_all(&workspace)?;
    Ok(took)
}

/// The probe, compiled, and a workspace, which both sides use.
struct Place {
    dir: TempDir,
    engine: String,
    component: Digest,
}

impl Place {
    fn new() -> anyhow::Result<Self> {
        let (dir, engine) = (home()?, sandbox::engine_hash()?);
        let bytes = std::fs::read(guest("probe"))?;
        let component = Digest::of(&bytes);
        let (_, artifact) = sandbox::compile(bytes, u64::MAX, MEMORY_BYTES)?;
        let place = Self { dir, engine, component };
        std::fs::create_dir_all(place.artifacts().join(&place.engine))?;
        std::fs::create_dir(place.workspaces())?;
        std::fs::write(place.artifacts().join(&place.engine).join(format!("{}.cwasm", component.hex())), artifact)?;
        Ok(place)
    }

    fn path(&self) -> PathBuf {
        std::path::absolute(self.dir.path()).unwrap_or_else(|_| self.dir.path().into())
    }

    fn artifacts(&self) -> PathBuf {
        self.path().join("artifacts")
    }

    fn workspaces(&self) -> PathBuf {
        self.path().join("workspaces")
    }

    fn workspace(&self) -> PathBuf {
        self.workspaces().join("one")
    }

    fn spec(&self, acts: &str) -> StepSpec {
        let limits = StepLimits {
            fuel: 1_000_000_000,
            memory_bytes: MEMORY_BYTES,
            timeout_ms: 60_000,
            output_bytes: 1 << 20,
            stdio_bytes: 1 << 20,
            events: 1_000,
        };
        StepSpec {
            component: self.component,
            task: Task::Run { payload: acts.into(), content_type: "application/json".into() },
            args: Vec::new(),
            env: Vec::new(),
            mounts: vec![Mount {
                guest_path: "/workspace".into(),
                host_path: self.workspace(),
                writable: Some(Quota { bytes: 1 << 30, entries: 10_000 }),
                shared: false,
            }],
            limits,
            origin: Origin { seed: [0; 32], start_ms: 0 },
        }
    }
}

/// A worker as the daemon starts it.
struct Jailed {
    child: Child,
    socket: UnixStream,
    steps: u64,
}

impl Jailed {
    async fn start(place: &Place) -> anyhow::Result<Self> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut command = Command::new(target().join("release/palisade"));
        // A worker takes nothing along but its socket, and a pipe for last words.
        command.arg("worker").env_clear().stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.stdin(Stdio::from(OwnedFd::from(theirs))).spawn()?;
        // It has the worker's end of the socket: while that is open, no end of the worker is seen.
        drop(command);
        let mut jailed = Self { child, socket: UnixStream::from_std(ours)?, steps: 0 };
        let setup = WorkerSetup {
            artifacts: place.artifacts(),
            read_write: vec![place.workspaces()],
            read_only: Vec::new(),
            slots: 1,
            memory_bytes_max: MEMORY_BYTES,
            file_bytes_max: 1 << 30,
        };
        let group = Err("the benchmark makes none".into());
        let confinement = Confinement { daemon: std::process::id(), user: None, group };
        jailed.send(&ToWorker::Setup(setup, confinement)).await?;
        match wire::read(&mut jailed.socket).await {
            Ok(FromWorker::Ready { .. }) => Ok(jailed),
            other => anyhow::bail!("the worker is not ready: {:?}: {}", other.err(), jailed.last_words()),
        }
    }

    /// Ends the worker, and returns what it said of errors.
    fn last_words(&mut self) -> String {
        let _ = self.child.kill(); // fails if it is gone already
        let said = self.child.stderr.take().map(std::io::read_to_string);
        said.and_then(Result::ok).unwrap_or_default()
    }

    async fn send(&mut self, message: &ToWorker) -> anyhow::Result<()> {
        Ok(tokio::io::AsyncWriteExt::write_all(&mut self.socket, &wire::encode(message)?).await?)
    }

    async fn run(&mut self, spec: StepSpec) -> anyhow::Result<Outcome> {
        self.steps += 1;
        self.send(&ToWorker::Run { step: self.steps, caller: None, spec: Box::new(spec) }).await?;
        match wire::read(&mut self.socket).await? {
            FromWorker::Done { outcome, .. } => Ok(outcome),
            other => anyhow::bail!("the worker said {other:?}"),
        }
    }
}

impl Drop for Jailed {
    fn drop(&mut self) {
        let _ = self.child.kill(); // fails if it is gone already
        let _ = self.child.wait();
    }
}

/// The worker's runner, without a worker around it.
struct Beside {
    runner: Arc<Runner>,
    frames: Outbox,
    // Nobody reads what such a step says, which is nothing.
    _other_end: StdUnixStream,
}

impl Beside {
    fn new(place: &Place) -> anyhow::Result<Self> {
        let engine = sandbox::worker_engine(1, MEMORY_BYTES)?;
        let runner = Arc::new(Runner::new(engine, place.artifacts().join(&place.engine))?);
        let (ours, other_end) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let frames = Outbox::new(UnixStream::from_std(ours)?.into_split().1);
        Ok(Self { runner, frames, _other_end: other_end })
    }

    async fn run(&self, spec: StepSpec) -> anyhow::Result<Outcome> {
        let (runner, frames) = (self.runner.clone(), self.frames.clone());
        let ways = Ways {
            outlet: Outlet::new(1, frames.clone(), Arc::new(Semaphore::new(EVENT_WINDOW))),
            gate: Gate::new(1, frames),
            trees: Trees::of(&spec.mounts, None),
        };
        // As a task, like a worker's.
        let run = async move { runner.run(spec, ways, &CancellationToken::new()).await.0 };
        tokio::spawn(run).await.context("the step's task")
    }
}
