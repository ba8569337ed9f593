//! The workers: one for each tenant. A dead one is replaced when the next step comes.

use std::{
    any::Any,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::BufReader,
    net::unix::OwnedReadHalf,
    sync::Mutex,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    process::{Process, Spawner},
    running::Running,
    steps::Steps,
};
use crate::{
    step::StepSpec,
    wire::{self, FromWorker, Outbox, ToWorker, Wall, WallState, WireError, WorkerSetup},
};

/// How long a worker may take to set itself up.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How often the daemon looks for steps that should have ended.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);

/// The tenant's worker.
pub struct Workers {
    spawner: Spawner,
    setup: WorkerSetup,
    allow_missing: Vec<String>,
    changed: Changed,
    current: Mutex<Option<Arc<Worker>>>,
    next_step: AtomicU64,
}

/// Told when a worker came or went.
pub type Changed = Arc<dyn Fn(Change) + Send + Sync>;

/// What became of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Started,
    /// The daemon ended it.
    Ended,
    /// It died, hung or broke the rules.
    Lost,
}

/// What a worker said of itself when it was ready.
#[derive(Debug, Clone)]
pub struct Hello {
    pub walls: Vec<Wall>,
    pub engine: String,
}

struct Worker {
    hello: Hello,
    frames: Outbox,
    steps: Arc<Steps>,
    /// It gets no new steps.
    dead: AtomicBool,
    /// Its process is gone and its steps have ended.
    ended: CancellationToken,
    /// Ends it.
    stop: CancellationToken,
}

/// A worker that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("a worker cannot be started: {0}")]
    Spawn(#[from] io::Error),
    #[error("a worker did not get ready: {0}")]
    NotReady(String),
    #[error(
        "the jail lacks {}; get them (`palisade doctor` says how) or name them in `jail.allow_missing`",
        .0.iter().map(|w| format!("`{}` ({})", w.name, w.detail)).collect::<Vec<_>>().join(", ")
    )]
    WallsMissing(Vec<Wall>),
    #[error("the step cannot be sent to its worker: {0}")]
    Wire(#[from] WireError),
}

impl Workers {
    /// Returns the workers of one tenant. None is started yet.
    pub fn new(spawner: Spawner, setup: WorkerSetup, allow_missing: Vec<String>, changed: Changed) -> Self {
        Self { spawner, setup, allow_missing, changed, current: Mutex::default(), next_step: AtomicU64::new(1) }
    }

    /// Returns what a worker says of itself; starts one if there is none.
    pub async fn hello(&self) -> Result<Hello, WorkerError> {
        Ok(self.live().await?.hello.clone())
    }

    /// Sends a step to a worker. `caller` is the step that calls the tool which this is, if it is one. `holds` is
    /// dropped when the worker is done with the step.
    pub async fn run(
        &self,
        spec: StepSpec,
        caller: Option<u64>,
        holds: Box<dyn Any + Send>,
    ) -> Result<Running, WorkerError> {
        let worker = self.live().await?;
        let step = self.next_step.fetch_add(1, Ordering::Relaxed);
        let limits = spec.limits;
        let frame = wire::encode(&ToWorker::Run { step, caller, spec: Box::new(spec) })?;
        let received = worker.steps.add(step, limits, holds);
        // A caller that hangs up while the frame waits for room takes its step along: the worker never hears of it.
        let unsent = Unsent { worker: &worker, step };
        let sent = worker.frames.send(&frame).await;
        std::mem::forget(unsent);
        if sent.is_err() || worker.dead.load(Ordering::Acquire) {
            // It died meanwhile. Whoever cleaned up may have done so before this step was registered; what the step
            // holds is free only once the process is certainly gone.
            worker.ended.cancelled().await;
            worker.steps.lose_all("it died as the step was sent");
        }
        let (frames, steps) = (worker.frames.clone(), worker.steps.clone());
        Ok(Running::new(step, received, frames, steps))
    }

    async fn live(&self) -> Result<Arc<Worker>, WorkerError> {
        let mut current = self.current.lock().await;
        if let Some(worker) = current.as_ref()
            && !worker.dead.load(Ordering::Acquire)
        {
            return Ok(worker.clone());
        }
        let worker = self.start().await?;
        *current = Some(worker.clone());
        Ok(worker)
    }

    async fn start(&self) -> Result<Arc<Worker>, WorkerError> {
        let (process, mut socket) = self.spawner.spawn("worker").await?;
        let setup = wire::encode(&ToWorker::Setup(self.setup.clone()))?;
        let ready = async {
            tokio::io::AsyncWriteExt::write_all(&mut socket, &setup).await?;
            wire::read::<FromWorker>(&mut socket).await
        };
        let (walls, engine) = match timeout(START_TIMEOUT, ready).await {
            Ok(Ok(FromWorker::Ready { walls, engine })) => (walls, engine),
            Ok(Ok(_)) => return Err(WorkerError::NotReady("it spoke out of turn".into())),
            Ok(Err(error)) => return Err(WorkerError::NotReady(format!("{error}; {}", process.end().await))),
            Err(_) => {
                return Err(WorkerError::NotReady(format!("no answer in {START_TIMEOUT:?}; {}", process.end().await)));
            }
        };
        let missing = |wall: &&Wall| wall.state == WallState::Missing && !self.allow_missing.contains(&wall.name);
        let missing: Vec<_> = walls.iter().filter(missing).cloned().collect();
        if !missing.is_empty() {
            process.end().await;
            return Err(WorkerError::WallsMissing(missing));
        }
        info!(pid = process.id(), "worker ready");
        let (reader, writer) = socket.into_split();
        let worker = Arc::new(Worker {
            hello: Hello { walls, engine },
            frames: Outbox::new(writer),
            steps: Arc::default(),
            dead: AtomicBool::new(false),
            ended: CancellationToken::new(),
            stop: CancellationToken::new(),
        });
        (self.changed)(Change::Started);
        tokio::spawn(tend(worker.clone(), process, reader, self.changed.clone()));
        Ok(worker)
    }
}

/// A step that is registered and not sent.
struct Unsent<'a> {
    worker: &'a Worker,
    step: u64,
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        self.worker.steps.forget(self.step);
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        if let Some(worker) = self.current.get_mut() {
            worker.stop.cancel();
        }
    }
}

/// Moves frames until the worker dies, hangs or breaks the rules; then ends it and its steps.
async fn tend(worker: Arc<Worker>, process: Process, reader: OwnedReadHalf, changed: Changed) {
    let why = tokio::select! {
        why = read(reader, &worker.steps) => why,
        broken = worker.frames.flush() => broken.to_string(),
        () = watch(&worker.steps) => "it did not end a step in time".into(),
        () = worker.stop.cancelled() => "the daemon shuts down".into(),
    };
    worker.dead.store(true, Ordering::Release);
    worker.frames.close();
    let pid = process.id();
    let end = process.end().await;
    warn!(pid, why, end, "worker gone");
    changed(if worker.stop.is_cancelled() { Change::Ended } else { Change::Lost });
    worker.steps.lose_all(&why);
    worker.ended.cancel();
}

async fn read(reader: OwnedReadHalf, steps: &Steps) -> String {
    let mut reader = BufReader::with_capacity(64 << 10, reader);
    loop {
        let taken = match wire::read(&mut reader).await {
            Ok(FromWorker::Event { step, event }) => steps.event(step, event),
            Ok(FromWorker::Call { step, call, asked }) => steps.call(step, call, asked),
            Ok(FromWorker::Body { step, call, piece }) => steps.piece(step, call, piece),
            Ok(FromWorker::Taken { step, call, weight }) => steps.taken(step, call, weight),
            Ok(FromWorker::Drop { step, call }) => steps.drop_call(step, call),
            Ok(FromWorker::Done { step, outcome, usage }) => steps.done(step, outcome, usage),
            Ok(FromWorker::Ready { .. }) => return "it broke the rules: ready twice".into(),
            Err(WireError::Closed) => return "its process died".into(),
            Err(error) => return format!("it broke the rules: {error}"),
        };
        if let Err(violation) = taken {
            return format!("it broke the rules: {violation}");
        }
    }
}

async fn watch(steps: &Steps) {
    let mut ticks = interval(WATCH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !steps.overdue() {
        ticks.tick().await;
    }
}
