//! Puts the daemon together and takes it apart again.

use std::{future::Future, io, path::Path, time::Duration};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    config::{BadConfig, Config, check},
    lifecycle::Lifecycle,
    service::{self, ListenError, Listener},
    store::{Components, DataDir, DataDirError, Workspaces},
    wire::WorkerSetup,
    worker::{CompileLimits, Compiler, Spawner, WorkerError, Workers},
};

/// How long running steps may go on after the daemon was told to stop.
const DRAIN_GRACE: Duration = Duration::from_secs(10);

/// This binary, also if it was replaced on disk meanwhile: workers and daemon must be of one version.
const PROGRAM: &str = "/proc/self/exe";

/// A daemon that serves.
pub struct Daemon {
    addresses: Vec<String>,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
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
    Worker(#[from] WorkerError),
    #[error("cannot read `data_dir`: {0}")]
    Store(io::Error),
    #[error("cannot start a thread: {0}")]
    Spawner(io::Error),
    #[error("the server broke: {0}")]
    Server(String),
}

impl Daemon {
    /// Starts a daemon. It serves when this returns, and every wall of its first worker was verified.
    pub async fn start(mut config: Config) -> Result<Self, ServeError> {
        check(&mut config)?;
        let data_dir = DataDir::open(&config.data_dir)?;
        let components = Components::open(&data_dir, config.limits.components).map_err(ServeError::Store)?;
        let workspaces = Workspaces::open(&data_dir, config.limits.workspaces).map_err(ServeError::Store)?;

        let spawner = Spawner::start(PROGRAM.into()).map_err(ServeError::Spawner)?;
        let allow_missing = config.jail.allow_missing.clone();
        let workers = Workers::new(spawner.clone(), worker_setup(&config, &data_dir), allow_missing.clone());
        let compiler = Compiler::new(spawner, compile_limits(&config), allow_missing);
        let hello = workers.hello().await?;
        components.forget_other_engines(&hello.engine).map_err(ServeError::Store)?;

        let listener = Listener::bind(&config.listen).await?;
        let addresses = listener.addresses();
        let lifecycle = Lifecycle::new(config, components, workspaces, workers, compiler, hello);
        let stop = CancellationToken::new();
        let drained = lifecycle.clone();
        let serving = tokio::spawn(service::serve(lifecycle, listener, stop.clone().cancelled_owned(), async move {
            drained.drain(DRAIN_GRACE).await;
        }));
        info!(?addresses, "serving");
        Ok(Self { addresses, stop, serving, _data_dir: data_dir })
    }

    /// Returns where callers connect, the Unix socket first.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Serves until `stop` is done; then takes no new steps, lets the running ones end, and returns.
    pub async fn serve_until(mut self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        let ended = tokio::select! {
            ended = &mut self.serving => ended,
            () = stop => {
                info!("stopping");
                self.stop.cancel();
                self.serving.await
            }
        };
        ended.map_err(|e| ServeError::Server(e.to_string()))?.map_err(|e| ServeError::Server(e.to_string()))
    }
}

/// Returns the walls that this host offers, whatever the configuration allows to be missing.
pub async fn probe(scratch: &Path) -> Result<Vec<crate::wire::Wall>, ServeError> {
    let data_dir = DataDir::open(scratch)?;
    let config = Config::default();
    let spawner = Spawner::start(PROGRAM.into()).map_err(ServeError::Spawner)?;
    // Whatever is missing is for the caller to say.
    let all = crate::jail::WALLS.map(String::from).to_vec();
    Ok(Workers::new(spawner, worker_setup(&config, &data_dir), all).hello().await?.walls)
}

fn worker_setup(config: &Config, data_dir: &DataDir) -> WorkerSetup {
    let paths = |writable| {
        let of_kind = config.mounts.iter().filter(move |mount| mount.writable.is_some() == writable);
        of_kind.map(|mount| mount.path.clone())
    };
    let largest_mount = config.mounts.iter().filter_map(|mount| mount.writable).map(|quota| quota.bytes).max();
    WorkerSetup {
        artifacts: data_dir.artifacts(),
        read_write: paths(true).chain([data_dir.workspaces()]).collect(),
        read_only: paths(false).collect(),
        slots: config.limits.concurrent_steps as u32,
        memory_bytes_max: config.limits.memory_bytes.max,
        file_bytes_max: config.limits.workspace_bytes.max.max(largest_mount.unwrap_or(0)),
    }
}

fn compile_limits(config: &Config) -> CompileLimits {
    CompileLimits {
        timeout: Duration::from_millis(config.limits.compile_timeout_ms),
        memory_bytes: config.limits.compile_memory_bytes,
        artifact_bytes: config.limits.artifact_bytes,
        step_memory_bytes: config.limits.memory_bytes.max,
    }
}
