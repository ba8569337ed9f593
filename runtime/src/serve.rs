//! Puts the daemon together and takes it apart again.

use std::{
    collections::HashMap,
    ffi::OsString,
    future::Future,
    io,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde_json::json;
use tokio::{
    net::TcpListener,
    task::{JoinHandle, spawn_blocking},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    cgroups::Groups,
    config::{BadConfig, Cgroup, Config, DEFAULT_TENANT, check},
    control::Holds,
    credentials::{BadCredential, Credentials},
    egress::{self, Egress},
    jail,
    journal::{Entry, Health, Journal, JournalError, Kind, OpenError, Options, Payload, PayloadPolicy, ReadError},
    lifecycle::{
        self, Lifecycle, OpenTenants, OwnRequests, Parts, Policies, PolicyError, ReadyTool, RecoverError, Revoking,
        Tenants,
    },
    memory::{self, MemoryStore},
    policy::ToolFacts,
    service::{self, ListenError, Listener},
    step::{Digest, FIXED, Name},
    store::{Agent, Components, DataDir, DataDirError, Revocations, Tool, Versions},
    telemetry::{JournalStatus, Settings, Telemetry, TelemetryError, serve_metrics},
    wire::{Wall, WallState, WorkerSetup},
    worker::{
        self, Change, Changed, CompileLimits, Compiler, Confining, Hello, SetupOf, Spawner, State, Wear, WorkerError,
        Workers,
    },
};

/// Connections to token servers and vaults.
const OWN_CONNECTIONS: usize = 16;

/// How long a connection to an upstream stays open without a request.
const CONNECTION_IDLE: Duration = Duration::from_secs(30);

/// This binary, also if it was replaced on disk meanwhile: workers and daemon must be of one version.
const PROGRAM: &str = "/proc/self/exe";

/// A daemon that serves.
pub struct Daemon {
    addresses: Vec<String>,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
    lifecycle: Lifecycle,
    _data_dir: DataDir,
}

/// A daemon that cannot start, or that broke.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Config(#[from] BadConfig),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    User(#[from] jail::BadUser),
    #[error("`jail.cgroup` is required, and no cgroup is delegated: {0}")]
    NotDelegated(String),
    #[error(transparent)]
    Worker(#[from] WorkerError),
    #[error("cannot read `data_dir`: {0}")]
    Store(io::Error),
    #[error(transparent)]
    Journal(#[from] OpenError),
    #[error("the journal cannot be read: {0}")]
    ReadJournal(#[from] ReadError),
    #[error("the journal cannot be written: {0}")]
    WriteJournal(#[from] JournalError),
    #[error(transparent)]
    Tenants(#[from] OpenTenants),
    #[error(transparent)]
    Recover(#[from] RecoverError),
    #[error("cannot open the memory store: {0}")]
    Memory(#[from] memory::MemoryError),
    #[error("the policies are not valid: {0}")]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    #[error("cannot listen on `listen.metrics`: {0}")]
    Metrics(io::Error),
    #[error(transparent)]
    Egress(#[from] egress::StartError),
    #[error(transparent)]
    Credential(#[from] BadCredential),
    #[error("the server broke: {0}")]
    Server(String),
}

impl Daemon {
    /// Starts a daemon. It serves when this returns, and every wall of its first worker was verified. `env` is asked
    /// for the `OTEL_*` variables.
    pub async fn start(mut config: Config, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ServeError> {
        check(&mut config)?;
        let data_dir = DataDir::open(&config.data_dir)?;
        let metrics = config.listen.metrics.is_some();
        let telemetry = Telemetry::start(Settings { service_version: env!("CARGO_PKG_VERSION"), metrics }, env)?;
        let journal = open_journal(&config, &data_dir, &telemetry)?;
        let components = Components::open(&data_dir, config.limits.components).map_err(ServeError::Store)?;
        let (spool, limits) = (data_dir.spool(), &config.limits);
        let agents = Versions::<Agent>::open("agent", data_dir.agents(), spool.clone(), limits.agents);
        let tools = Versions::<Tool>::open("tool", data_dir.tools(), spool, limits.tools).map_err(ServeError::Store)?;
        let policies = Policies::load(config.policy.dir.as_deref(), &tool_facts(&tools), &config.egress)?;
        let memory = MemoryStore::open(&data_dir.memory().join("memory.db"), memory_quota(&config))?;
        let unknown = lifecycle::recover(&journal).await?;
        if unknown > 0 {
            warn!(unknown, "steps and host calls that an earlier daemon left unfinished are recorded as unknown");
        }
        let tenants = Tenants::open(&config, &data_dir, &journal)?;

        let spawner = spawner(&config)?;
        let required = required_walls(&config);
        let setup = worker_setup(&config, &data_dir).map_err(ServeError::Store)?;
        let settings = worker_settings(&config);
        let changed = count_workers(&telemetry);
        let workers = Workers::new(spawner.clone(), settings, setup, required.clone(), changed);
        let compiler = Compiler::new(spawner, compile_limits(&config), required);
        let hello = first_worker(&workers, &config).await?;
        components.forget_other_engines(&hello.engine).map_err(ServeError::Store)?;

        let listener = Listener::bind(&config.listen).await?;
        let addresses = listener.addresses();
        let started = json!({ "version": env!("CARGO_PKG_VERSION"), "engine": hello.engine, "walls": hello.walls });
        journal.append(Entry::new(Kind::Started, DEFAULT_TENANT, started))?;
        let stated = json!(config).to_string().into_bytes();
        let body = json!({ "digest": Digest::of(&stated).to_string() });
        let payloads = vec![Payload { bytes: stated, media_type: "application/json".into() }];
        journal.append(Entry { payloads, ..Entry::new(Kind::Configuration, DEFAULT_TENANT, body) })?;
        journal.append(policies.entry())?.await?;
        let metrics = match config.listen.metrics {
            Some(address) => Some(TcpListener::bind(address).await.map_err(ServeError::Metrics)?),
            None => None,
        };
        // What the daemon itself serves is no destination.
        let metrics_address = metrics.as_ref().map(|metrics| metrics.local_addr()).transpose();
        let own = metrics_address.map_err(ServeError::Metrics)?.into_iter().chain(listener.tcp_address());
        for rule in config.egress.iter().filter(|rule| rule.sends_in_clear()) {
            warn!(rule = %rule.name, "credentials go over plain http to another machine: anybody on the way can read them");
        }
        let named = config.egress.iter().any(|rule| rule.host.is_named());
        let egress = Egress::new(egress::Settings {
            // Token servers and vaults have names as well.
            names: named || !config.credentials.is_empty(),
            dns_servers: config.network.dns_servers.clone(),
            ca_files: config.network.ca_files.clone(),
            own: own.collect(),
            connections: config.limits.egress_connections as usize,
            idle: CONNECTION_IDLE,
        })?;
        let fetch = Arc::new(OwnRequests { egress: egress.apart(OWN_CONNECTIONS) });
        let variable = |name: &str| env(name).map(OsString::from);
        let credentials = Credentials::open(&config.credentials, &variable, fetch, SystemTime::now)?;
        let revocations = Revocations::open(&data_dir).map_err(ServeError::Store)?;
        let revoking = Revoking::resume(revocations, &credentials);
        let holds = Holds::open(data_dir.holds(), data_dir.spool()).map_err(ServeError::Store)?;
        let lifecycle = Lifecycle::new(Parts {
            agents: agents.map_err(ServeError::Store)?,
            config,
            components,
            tools,
            memory,
            journal,
            policies,
            egress,
            credentials,
            revoking,
            holds,
            telemetry: telemetry.clone(),
            tenants,
            workers,
            compiler,
            hello,
        });
        let stop = CancellationToken::new();
        if let Some(metrics) = metrics {
            tokio::spawn(serve_metrics(metrics, telemetry, stop.clone()));
        }
        let watching = lifecycle.clone();
        let until = stop.clone();
        tokio::spawn(async move { watching.watch_policies(until).await });
        let (reconciling, until) = (lifecycle.clone(), stop.clone());
        tokio::spawn(async move { reconciling.reconcile(until).await });
        let (expiring, until) = (lifecycle.clone(), stop.clone());
        tokio::spawn(async move { expiring.expire_holds(until).await });
        let (sweeping, until) = (lifecycle.clone(), stop.clone());
        tokio::spawn(async move { sweeping.sweep_memory(until).await });
        let drained = lifecycle.clone();
        let grace = Duration::from_secs(lifecycle.config().limits.drain_seconds);
        let serving =
            tokio::spawn(service::serve(lifecycle.clone(), listener, stop.clone().cancelled_owned(), async move {
                drained.drain(grace).await;
            }));
        info!(?addresses, "serving");
        Ok(Self { addresses, stop, serving, lifecycle, _data_dir: data_dir })
    }

    /// Returns where callers connect, the Unix socket first.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Returns what it runs steps with.
    pub fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    /// Serves until `stop` is done; then takes no new steps, lets the running ones end, signs the journal, and returns.
    pub async fn serve_until(mut self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        let ended = tokio::select! {
            ended = &mut self.serving => ended,
            () = stop => {
                info!("stopping");
                self.stop.cancel();
                self.serving.await
            }
        };
        let journal = self.lifecycle.journal().clone();
        if let Ok(stopped) = journal.append(Entry::new(Kind::Stopped, DEFAULT_TENANT, json!({}))) {
            let _ = stopped.await; // a broken journal is broken already
        }
        let telemetry = self.lifecycle.telemetry().clone();
        let closed = spawn_blocking(move || {
            let closed = journal.close();
            telemetry.shutdown();
            closed
        });
        closed.await.map_err(|e| ServeError::Server(e.to_string()))??;
        ended.map_err(|e| ServeError::Server(e.to_string()))?.map_err(|e| ServeError::Server(e.to_string()))
    }
}

/// Returns the walls that this host offers, whatever the configuration allows to be missing.
pub async fn probe(scratch: &Path) -> Result<Vec<crate::wire::Wall>, ServeError> {
    let data_dir = DataDir::open(scratch)?;
    let config = Config::default();
    let spawner = spawner(&config)?;
    // Whatever is missing is for the caller to say.
    let setup = worker_setup(&config, &data_dir).map_err(ServeError::Store)?;
    let workers = Workers::new(spawner, worker_settings(&config), setup, Vec::new(), Arc::new(|_: Change<'_>| ()));
    Ok(first_worker(&workers, &config).await?.walls)
}

fn open_journal(config: &Config, data_dir: &DataDir, telemetry: &Telemetry) -> Result<Arc<Journal>, ServeError> {
    let meters = telemetry.clone();
    let options = Options {
        payloads: PayloadPolicy {
            keep: config.journal.keep_payloads,
            bytes_max: config.journal.payload_bytes,
            redact: config.journal.redact.clone(),
        },
        checkpoint_interval: Duration::from_secs(config.journal.checkpoint_seconds),
        on_commit: Some(Box::new(move |records, took| meters.meters().journal_commit(took, records))),
        ..Options::default()
    };
    let (journal, opened) = Journal::open(&data_dir.journal(), options)?;
    info!(records = opened.records, recovered = opened.recovered, "journal open");
    let journal = Arc::new(journal);
    let watched = Arc::downgrade(&journal);
    telemetry.meters().watch_journal(move || match watched.upgrade() {
        Some(journal) => {
            JournalStatus { queued: journal.queued() as u64, accepting: journal.health() == Health::Healthy }
        }
        None => JournalStatus { queued: 0, accepting: false },
    });
    Ok(journal)
}

fn count_workers(telemetry: &Telemetry) -> Changed {
    let telemetry = telemetry.clone();
    Arc::new(move |change: Change<'_>| match change {
        Change::Walls(walls) => telemetry.meters().walls(walls.iter().filter_map(verified)),
        Change::Started => telemetry.meters().worker_started(),
        Change::Moved(from, to) => telemetry.meters().worker_moved(from.map(State::word), to.map(State::word)),
        Change::Recycled(reason) => telemetry.meters().worker_recycled(reason.word()),
        Change::Lost(loss) => telemetry.meters().worker_lost(loss.word()),
    })
}

/// Returns a wall by the name that we have for it, and whether it stands.
fn verified(wall: &Wall) -> Option<(&'static str, bool)> {
    let name = jail::WALLS.into_iter().find(|name| *name == wall.name)?;
    Some((name, wall.state == WallState::Verified))
}

/// Returns the walls that the configuration does not allow to be missing.
fn required_walls(config: &Config) -> Vec<&'static str> {
    let allowed = |name: &&str| config.jail.allow_missing.iter().any(|allowed| allowed == name);
    jail::WALLS.into_iter().filter(|name| !allowed(name)).collect()
}

fn worker_settings(config: &Config) -> worker::Settings {
    let workers = &config.workers;
    worker::Settings {
        spares: workers.spares as usize,
        total: workers.total as usize,
        wear: Wear {
            steps: workers.steps_max,
            age: Duration::from_secs(workers.age_seconds),
            idle: Duration::from_secs(workers.idle_seconds),
            growth_bytes: workers.growth_bytes,
        },
    }
}

fn tool_facts(tools: &Versions<Tool>) -> Vec<ToolFacts> {
    let ready = tools.all().into_iter().filter_map(|tool| ReadyTool::new(tool).ok());
    ready.map(|tool| tool.facts).collect()
}

fn memory_quota(config: &Config) -> memory::Quota {
    let limits = &config.limits;
    memory::Quota {
        bytes: limits.memory_space_bytes,
        keys: limits.memory_space_keys,
        value_bytes: limits.memory_value_bytes,
        spaces: limits.memory_spaces,
    }
}

/// Starts the first worker, of the first tenant.
async fn first_worker(workers: &Workers, config: &Config) -> Result<Hello, ServeError> {
    Ok(workers.hello(&first_tenant(config)?).await?)
}

fn first_tenant(config: &Config) -> Result<Name, ServeError> {
    config.tenant_names().into_iter().next().ok_or_else(|| ServeError::Server("there is no tenant".into()))
}

fn spawner(config: &Config) -> Result<Spawner, ServeError> {
    let groups = Groups::open();
    if let (Cgroup::Required, Err(why)) = (config.jail.cgroup, &groups) {
        return Err(ServeError::NotDelegated(why.clone()));
    }
    let confining = Confining {
        user: jail::user_of(config.jail.user.as_deref())?,
        groups,
        // One worker may have all that the node gives to steps, and what the process itself needs.
        worker_bytes: config.limits.node_memory_bytes.saturating_add(1 << 30),
        compiler_bytes: config.limits.compile_memory_bytes,
    };
    Ok(Spawner::new(PROGRAM.into(), confining))
}

/// Returns what a tenant's workers may reach: of the workspaces its own. What is nobody's reaches none.
fn worker_setup(config: &Config, data_dir: &DataDir) -> io::Result<SetupOf> {
    let paths = |writable| {
        let of_kind = config.mounts.iter().filter(move |mount| mount.writable.is_some() == writable);
        of_kind.map(|mount| mount.path.clone()).collect::<Vec<_>>()
    };
    let largest_mount = config.mounts.iter().filter_map(|mount| mount.writable).map(|quota| quota.bytes).max();
    let workspaces = config.tenant_names().into_iter().map(|name| {
        let folder = data_dir.tenant(&name)?.workspaces;
        Ok((name, folder))
    });
    let workspaces = workspaces.collect::<io::Result<HashMap<_, _>>>()?;
    let setup = WorkerSetup {
        artifacts: data_dir.artifacts(),
        read_write: paths(true),
        read_only: paths(false),
        // A step makes one call at a time, so at most one tool runs at each depth inside it.
        slots: config.limits.concurrent_steps as u32 * (1 + FIXED.tool_depth),
        memory_bytes_max: config.limits.memory_bytes.max,
        file_bytes_max: config.limits.workspace_bytes.max.max(largest_mount.unwrap_or(0)),
    };
    Ok(Box::new(move |tenant| {
        let mut setup = setup.clone();
        setup.read_write.extend(workspaces.get(tenant).cloned());
        setup
    }))
}

fn compile_limits(config: &Config) -> CompileLimits {
    CompileLimits {
        timeout: Duration::from_millis(config.limits.compile_timeout_ms),
        memory_bytes: config.limits.compile_memory_bytes,
        artifact_bytes: config.limits.artifact_bytes,
        step_memory_bytes: config.limits.memory_bytes.max,
        patience: Duration::from_millis(config.limits.queue_timeout_ms),
    }
}
