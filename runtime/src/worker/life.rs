//! One worker, from its start to its end.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{io::BufReader, net::unix::OwnedReadHalf, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    checks::lacking,
    pool::WorkerError,
    precedence::Precedence,
    process::{Process, Spawner},
    running::Running,
    steps::{Received, Steps},
    wear::{Reason, Wear, worn_out},
};
use crate::{
    step::Name,
    wire::{self, FromWorker, Outbox, ToWorker, Wall, WireError, WorkerSetup},
};

/// How long a worker may take to set itself up.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A worker whose process runs.
pub struct Worker {
    pub tenant: Name,
    pub hello: Hello,
    pub frames: Outbox,
    pub steps: Arc<Steps>,
    pub born: Instant,
    state: Mutex<State>,
    changed: Changed,
}

/// What a worker said of itself when it was ready.
#[derive(Debug, Clone)]
pub struct Hello {
    pub walls: Vec<Wall>,
    pub engine: String,
}

/// Told what becomes of workers.
pub type Changed = Arc<dyn Fn(Change<'_>) + Send + Sync>;

/// What became of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// What one found of its jail, before anybody judged that.
    Walls(&'a [Wall]),
    Started,
    /// From one state to another; from none when it is new, to none when it is gone.
    Moved(Option<State>, Option<State>),
    Recycled(Reason),
    Lost(Loss),
}

/// What a worker is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Ready, and nobody's yet.
    Spare,
    /// It takes the steps of a home.
    Serving,
    /// It ends the steps that it runs.
    Retiring,
}

/// How a worker came to a bad end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    Died,
    /// It did not end a step in time.
    Hung,
    BrokeRules,
}

impl State {
    /// Returns the state as a word, for metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Spare => "spare",
            Self::Serving => "serving",
            Self::Retiring => "retiring",
        }
    }
}

impl Loss {
    /// Returns the loss as a word, for metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Died => "died",
            Self::Hung => "hung",
            Self::BrokeRules => "broke-rules",
        }
    }
}

/// How a worker ended.
pub enum End {
    /// The daemon ends.
    Stopped,
    Retired,
    Lost(String),
}

/// A worker that is ready, and what tends it.
pub struct Started {
    pub worker: Arc<Worker>,
    process: Process,
    reader: OwnedReadHalf,
}

/// Starts a worker of `tenant` and verifies its jail.
pub async fn start(
    spawner: &Spawner,
    tenant: Name,
    setup: WorkerSetup,
    required: &[&'static str],
    wear: &Wear,
    changed: Changed,
) -> Result<Started, WorkerError> {
    let (process, mut socket) = spawner.spawn("worker").await?;
    let setup = wire::encode(&ToWorker::Setup(setup, process.confinement()))?;
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
    changed(Change::Walls(&walls));
    let missing = lacking(required, &walls);
    if !missing.is_empty() {
        process.end().await;
        return Err(WorkerError::WallsMissing(missing));
    }
    info!(pid = process.id(), %tenant, "worker ready");
    let (reader, writer) = socket.into_split();
    changed(Change::Started);
    changed(Change::Moved(None, Some(State::Spare)));
    let worker = Worker {
        tenant,
        hello: Hello { walls, engine },
        frames: Outbox::new(writer),
        steps: Arc::new(Steps::new(wear.steps)),
        born: Instant::now(),
        state: Mutex::new(State::Spare),
        changed,
    };
    Ok(Started { worker: Arc::new(worker), process, reader })
}

impl Worker {
    /// Sends the frame of a step that is registered.
    pub async fn send(&self, step: u64, received: Received, frame: &[u8]) -> Running {
        // A caller that hangs up while the frame waits for room takes its step along: the worker never hears of it.
        let unsent = Unsent { worker: self, step };
        let _ = self.frames.send(frame).await; // fails if the worker is gone: then the step ends as lost
        std::mem::forget(unsent);
        Running::new(step, received, self.frames.clone(), self.steps.clone())
    }

    /// Says what the worker is there for now.
    pub fn becomes(&self, state: State) {
        let mut current = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // A retiring one stays so: it may have been retired as it was chosen.
        if *current != State::Retiring {
            let before = std::mem::replace(&mut *current, state);
            (self.changed)(Change::Moved(Some(before), Some(state)));
        }
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

impl Started {
    /// Moves frames until the worker is done, dies, hangs or breaks the rules; then ends it and its steps.
    pub async fn tend(self, wear: &Wear, precedence: &Precedence, stop: CancellationToken, retired: impl Fn()) -> End {
        let Self { worker, process, reader } = self;
        let counted = process.by_ref();
        let counted = counted.map(|process| precedence.count(worker.tenant.clone(), process, worker.steps.clone()));
        let (steps, pid) = (&worker.steps, process.id());
        let mut reading = std::pin::pin!(read(reader, steps));
        let mut flushing = std::pin::pin!(worker.frames.flush());
        let mut wearing = std::pin::pin!(async { steps.retire(worn_out(steps, pid, wear).await) });
        let tell = |reason: Reason| {
            info!(pid, reason = reason.word(), "worker takes no new steps");
            worker.becomes(State::Retiring);
            (worker.changed)(Change::Recycled(reason));
            retired();
        };
        let (mut worn, mut told) = (false, false);
        let (end, hung) = loop {
            tokio::select! {
                (loss, why) = &mut reading => break (Err((loss, why)), None),
                broken = &mut flushing => break (Err((Loss::Died, broken.to_string())), None),
                step = steps.overdue() => break (Err((Loss::Hung, "it did not end a step in time".into())), Some(step)),
                () = stop.cancelled() => break (Ok(End::Stopped), None),
                () = steps.drained() => break (Ok(End::Retired), None),
                () = &mut wearing, if !worn => worn = true,
                () = steps.hurries() => if let Some(counted) = &counted {
                    counted.hurry();
                },
                reason = steps.retired(), if !told => {
                    told = true;
                    tell(reason);
                }
            }
        };
        if !told && matches!(end, Ok(End::Retired)) {
            tell(steps.retired().await);
        }
        steps.close();
        worker.frames.close();
        drop(counted);
        let gone = process.end().await;
        let end = match end {
            Ok(end) => {
                steps.lose_all(None, "the daemon shuts down");
                end
            }
            Err((loss, why)) => {
                warn!(pid, why, end = %gone, "worker lost");
                (worker.changed)(Change::Lost(loss));
                // What it said last is for the log: a guest may have a hand in it.
                let why = format!("{why} ({})", gone.status);
                steps.lose_all(hung, &why);
                End::Lost(why)
            }
        };
        let state = *worker.state.lock().unwrap_or_else(PoisonError::into_inner);
        (worker.changed)(Change::Moved(Some(state), None));
        end
    }
}

async fn read(reader: OwnedReadHalf, steps: &Steps) -> (Loss, String) {
    let mut reader = BufReader::with_capacity(64 << 10, reader);
    let broke = |how: String| (Loss::BrokeRules, format!("it broke the rules: {how}"));
    loop {
        let taken = match wire::read(&mut reader).await {
            Ok(FromWorker::Event { step, event }) => steps.event(step, event),
            Ok(FromWorker::Call { step, call, asked }) => steps.call(step, call, asked),
            Ok(FromWorker::Body { step, call, piece }) => steps.piece(step, call, piece),
            Ok(FromWorker::Taken { step, call, weight }) => steps.taken(step, call, weight),
            Ok(FromWorker::Drop { step, call }) => steps.drop_call(step, call),
            Ok(FromWorker::Done { step, outcome, usage }) => steps.done(step, outcome, usage),
            Ok(FromWorker::Ready { .. }) => return broke("ready twice".into()),
            Err(WireError::Closed) => return (Loss::Died, "its process died".into()),
            Err(error) => return broke(error.to_string()),
        };
        if let Err(violation) = taken {
            return broke(violation.to_string());
        }
    }
}
