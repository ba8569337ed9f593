//! The workers: which of them runs a step, and who takes the place of one that goes.

mod claims;

use std::{
    any::Any,
    collections::{HashMap, HashSet},
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::OnceCell, time::sleep};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::error;

use self::claims::{Claim, Room};
use super::{
    backoff::Backoff,
    home::{Home, Whose},
    life::{self, Changed, End, Hello, State, Worker},
    precedence::Precedence,
    process::Spawner,
    running::Running,
    wear::{Reason, Wear},
};
use crate::{
    step::{Name, StepSpec},
    wire::{self, ToWorker, Wall, WireError, WorkerSetup},
};

/// All workers of the daemon.
#[derive(Clone)]
pub struct Workers(Arc<Pool>);

/// How many workers there are, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Ready workers that wait, for each tenant that ran something lately.
    pub spares: usize,
    /// Workers at once, of all tenants.
    pub total: usize,
    pub wear: Wear,
}

/// What a tenant's workers may reach.
pub type SetupOf = Box<dyn Fn(&Name) -> WorkerSetup + Send + Sync>;

struct Pool {
    spawner: Spawner,
    settings: Settings,
    setup_of: SetupOf,
    /// Walls without which there is no worker.
    required: Vec<&'static str>,
    changed: Changed,
    /// Of the worker that was started last.
    walls: Mutex<Vec<Wall>>,
    places: Mutex<Places>,
    precedence: Precedence,
    next_step: AtomicU64,
    /// Cancelled: every worker ends.
    stop: CancellationToken,
    _stop: DropGuard,
}

#[derive(Default)]
struct Places {
    /// All whose process runs.
    alive: Vec<Arc<Worker>>,
    /// Workers that are being started, for steps and as spares.
    starting: usize,
    starting_spares: usize,
    /// The worker of each home, or a place that waits for it.
    homes: HashMap<Home, Place>,
    spares: HashMap<Name, Vec<Arc<Worker>>>,
    tenants: HashMap<Name, Tenant>,
    /// Tenants whose spares are being started.
    refilling: HashSet<Name>,
}

type Place = Arc<OnceCell<Arc<Worker>>>;

#[derive(Default)]
struct Tenant {
    used: Option<Instant>,
    backoff: Backoff,
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
    #[error("workers keep dying, the last one because {why}: the next is started in {} ms", retry_in.as_millis())]
    BackingOff { why: String, retry_in: Duration },
    #[error("all {0} workers that `workers.total` allows run steps: retry later")]
    NoPlace(usize),
    #[error("the step that asks does not run any more")]
    CallerGone,
    #[error("the step cannot be sent to its worker: {0}")]
    Wire(#[from] WireError),
}

impl Workers {
    /// Returns the workers of the daemon. None is started yet.
    pub fn new(
        spawner: Spawner,
        settings: Settings,
        setup_of: SetupOf,
        required: Vec<&'static str>,
        changed: Changed,
    ) -> Self {
        let stop = CancellationToken::new();
        let (places, next_step, guard) = (Mutex::default(), AtomicU64::new(1), stop.clone().drop_guard());
        let precedence = Precedence::new();
        tokio::spawn(precedence.clone().watch(stop.clone()));
        Self(Arc::new(Pool {
            spawner,
            settings,
            setup_of,
            required,
            changed,
            walls: Mutex::default(),
            places,
            precedence,
            next_step,
            stop,
            _stop: guard,
        }))
    }

    /// Returns the walls of the worker that was started last.
    pub fn walls(&self) -> Vec<Wall> {
        self.0.walls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts the first worker of a tenant, which is then ready for a step, and returns what it says of itself.
    pub async fn hello(&self, tenant: &Name) -> Result<Hello, WorkerError> {
        let worker = self.0.start(tenant).await?;
        let mut places = self.0.places();
        places.tenants.entry(tenant.clone()).or_default().used = Some(Instant::now());
        places.spares.entry(tenant.clone()).or_default().push(worker.clone());
        drop(places);
        self.0.refill(tenant);
        Ok(worker.hello.clone())
    }

    /// Sends a step to the worker of its home. `holds` is dropped when the worker is done with it.
    pub async fn run(
        &self,
        home: &Home,
        spec: StepSpec,
        mut holds: Box<dyn Any + Send>,
    ) -> Result<Running, WorkerError> {
        let (step, limits, bytes) = (self.0.next_step(), spec.limits, spec.task.input_bytes());
        let frame = wire::encode(&ToWorker::Run { step, caller: None, spec: Box::new(spec) })?;
        loop {
            let worker = self.0.at(home).await?;
            match worker.steps.add(step, None, limits, bytes, holds) {
                Ok(received) => {
                    if home.whose == Whose::Step {
                        worker.steps.retire(Reason::Isolation);
                    }
                    return Ok(worker.send(step, received, &frame).await);
                }
                Err(back) => holds = back,
            }
            self.0.leave(home, &worker);
        }
    }

    /// Sends a tool to the worker that runs the step, or the tool, that calls it.
    pub async fn run_tool(
        &self,
        caller: u64,
        spec: StepSpec,
        holds: Box<dyn Any + Send>,
    ) -> Result<Running, WorkerError> {
        let (step, limits, bytes) = (self.0.next_step(), spec.limits, spec.task.input_bytes());
        let frame = wire::encode(&ToWorker::Run { step, caller: Some(caller), spec: Box::new(spec) })?;
        let worker = self.0.worker_of(caller).ok_or(WorkerError::CallerGone)?;
        let added = worker.steps.add(step, Some(caller), limits, bytes, holds);
        let received = added.map_err(|_| WorkerError::CallerGone)?;
        Ok(worker.send(step, received, &frame).await)
    }
}

impl Pool {
    fn next_step(&self) -> u64 {
        self.next_step.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns the worker that runs a step.
    fn worker_of(&self, step: u64) -> Option<Arc<Worker>> {
        self.places().alive.iter().find(|worker| worker.steps.runs(step)).cloned()
    }

    /// Returns the worker of a home: the one that it has, a spare, or a new one.
    async fn at(self: &Arc<Self>, home: &Home) -> Result<Arc<Worker>, WorkerError> {
        self.places().tenants.entry(home.tenant.clone()).or_default().used = Some(Instant::now());
        if home.whose == Whose::Step {
            return self.spare_or_new(&home.tenant).await;
        }
        // Who comes while one is started waits for that one.
        let place = self.places().homes.entry(home.clone()).or_default().clone();
        let claim = Claim { pool: self, home, place: &place };
        let worker = place.get_or_try_init(|| self.spare_or_new(&home.tenant)).await?;
        drop(claim);
        Ok(worker.clone())
    }

    async fn spare_or_new(self: &Arc<Self>, tenant: &Name) -> Result<Arc<Worker>, WorkerError> {
        let spare = self.places().spares.get_mut(tenant).and_then(Vec::pop);
        let worker = match spare {
            Some(spare) => spare,
            None => self.start(tenant).await?,
        };
        worker.becomes(State::Serving);
        self.refill(tenant);
        Ok(worker)
    }

    /// Takes a worker that takes no more out of its home.
    fn leave(&self, home: &Home, worker: &Arc<Worker>) {
        let mut places = self.places();
        let has = places.homes.get(home).and_then(|place| place.get()).is_some_and(|at| Arc::ptr_eq(at, worker));
        if has {
            places.homes.remove(home);
        }
    }

    async fn start(self: &Arc<Self>, tenant: &Name) -> Result<Arc<Worker>, WorkerError> {
        let room = self.make_room(tenant)?;
        self.start_in(room, tenant).await
    }

    async fn start_in(self: &Arc<Self>, room: Room, tenant: &Name) -> Result<Arc<Worker>, WorkerError> {
        let (setup, wear) = ((self.setup_of)(tenant), self.settings.wear);
        let started =
            life::start(&self.spawner, tenant.clone(), setup, &self.required, &wear, self.changed.clone()).await;
        let started = started.inspect_err(|error| {
            self.failed(tenant, Duration::ZERO, &error.to_string());
        })?;
        let worker = started.worker.clone();
        worker.hello.walls.clone_into(&mut self.walls.lock().unwrap_or_else(PoisonError::into_inner));
        room.taken_by(worker.clone());
        let (pool, stop, tended) = (Arc::downgrade(self), self.stop.clone(), worker.clone());
        let precedence = self.precedence.clone();
        tokio::spawn(async move {
            let replace = || {
                if let Some(pool) = pool.upgrade() {
                    pool.refill(&tended.tenant);
                }
            };
            let end = started.tend(&wear, &precedence, stop, replace).await;
            if let Some(pool) = pool.upgrade() {
                pool.ended(&tended, end);
            }
        });
        Ok(worker)
    }

    /// Counts a worker that is about to be started, if there may be one: an idle one of whoever ran nothing for the
    /// longest time makes room.
    fn make_room(self: &Arc<Self>, tenant: &Name) -> Result<Room, WorkerError> {
        let mut places = self.places();
        if let Some((retry_in, why)) =
            places.tenants.get(tenant).and_then(|tenant| tenant.backoff.pause(Instant::now()))
        {
            return Err(WorkerError::BackingOff { why: why.into(), retry_in });
        }
        if places.count() >= self.settings.total {
            let idle = places.alive.iter().filter_map(|worker| Some((worker.steps.idle()?, worker)));
            let mut idle: Vec<_> = idle.collect();
            idle.sort_by_key(|(idle, _)| *idle);
            if !idle.iter().rev().any(|(_, worker)| worker.steps.retire_idle(Reason::Place)) {
                return Err(WorkerError::NoPlace(self.settings.total));
            }
        }
        places.starting += 1;
        Ok(Room { pool: self.clone(), spare: false })
    }

    /// Forgets a worker that ended, and counts a bad end.
    fn ended(self: &Arc<Self>, worker: &Arc<Worker>, end: End) {
        let mut places = self.places();
        places.alive.retain(|alive| !Arc::ptr_eq(alive, worker));
        places.homes.retain(|_, place| place.get().is_none_or(|at| !Arc::ptr_eq(at, worker)));
        if let Some(spares) = places.spares.get_mut(&worker.tenant) {
            spares.retain(|spare| !Arc::ptr_eq(spare, worker));
        }
        drop(places);
        match end {
            End::Stopped => return,
            End::Retired => {}
            End::Lost(why) => self.failed(&worker.tenant, worker.born.elapsed(), &why),
        }
        self.refill(&worker.tenant);
    }

    fn failed(&self, tenant: &Name, lived: Duration, why: &str) {
        self.places().tenants.entry(tenant.clone()).or_default().backoff.failed(Instant::now(), lived, why);
    }

    /// Starts what lacks of a tenant's spares, in the background.
    fn refill(self: &Arc<Self>, tenant: &Name) {
        if self.stop.is_cancelled() || !self.places().refilling.insert(tenant.clone()) {
            return;
        }
        let (pool, tenant) = (Arc::downgrade(self), tenant.clone());
        tokio::spawn(async move {
            while let Some(pause) = refill_one(&pool, &tenant).await {
                sleep(pause).await;
            }
        });
    }

    /// Says whether a spare of the tenant is to be started, now or after a pause.
    fn lacking(self: &Arc<Self>, tenant: &Name) -> Option<Result<Room, Duration>> {
        let mut places = self.places();
        let lately = |used: Instant| used.elapsed() < self.settings.wear.idle;
        let spares =
            places.spares.get(tenant).map_or(0, |spares| spares.iter().filter(|spare| !spare.steps.leaves()).count());
        let state = places.tenants.get(tenant);
        // A spare takes nobody's place.
        let lacks = spares < self.settings.spares
            && places.count() + places.starting_spares < self.settings.total
            && state.and_then(|tenant| tenant.used).is_some_and(lately);
        if !lacks {
            places.refilling.remove(tenant);
            return None;
        }
        let pause = state.and_then(|tenant| Some(tenant.backoff.pause(Instant::now())?.0)).unwrap_or_default();
        if !pause.is_zero() {
            return Some(Err(pause));
        }
        places.starting_spares += 1;
        Some(Ok(Room { pool: self.clone(), spare: true }))
    }

    /// Keeps a spare, unless a step took its place meanwhile.
    fn keep(&self, spare: Arc<Worker>) {
        let mut places = self.places();
        if places.count() > self.settings.total && spare.steps.retire_idle(Reason::Place) {
            return;
        }
        places.spares.entry(spare.tenant.clone()).or_default().push(spare);
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts a spare if one lacks; returns when to look again, or nothing once none lacks.
async fn refill_one(pool: &Weak<Pool>, tenant: &Name) -> Option<Duration> {
    let pool = pool.upgrade()?;
    let room = match pool.lacking(tenant)? {
        Ok(room) => room,
        Err(pause) => return Some(pause),
    };
    match pool.start_in(room, tenant).await {
        Ok(worker) => pool.keep(worker),
        Err(error) => error!(%tenant, %error, "no spare worker"),
    }
    Some(Duration::ZERO)
}

impl Places {
    /// Returns the places that are taken. A spare that is being started takes none yet: a step that was admitted must find
    /// one.
    fn count(&self) -> usize {
        self.starting + self.alive.iter().filter(|worker| !worker.steps.leaves()).count()
    }
}
