//! `palisade serve`.

use std::io::{Write as _, stdout};

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::{Common, Failure, arguments};
use crate::{
    config::{self, Config},
    jail, notify,
    serve::{Daemon, ServeError},
    spawn,
};

/// Takes from this thread, and so from all that it will start, the system calls that a daemon has no need of. Whoever starts
/// programs for it is there before, and without the filter.
pub fn restrict() -> Result<(), Failure> {
    spawn::start()?;
    jail::restrict_daemon().map_err(|why| Failure::new(Failure::SERVE, why))
}

/// Serves until SIGTERM or SIGINT; SIGHUP reads the policies again.
pub async fn serve(arguments: arguments::Serve, common: &Common) -> Result<(), Failure> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).init();

    jail::keep_memory_private()?;
    let mut config = match &arguments.config {
        Some(file) => config::load(file).map_err(|e| Failure::new(Failure::CONFIG, e))?,
        None => Config::default(),
    };
    if let Some(dir) = &common.data_dir {
        config.data_dir = std::path::absolute(dir)?;
    }
    if let Some(dir) = &common.policies {
        config.policy.dir = Some(std::path::absolute(dir)?);
    }
    if let Some(socket) = arguments.socket {
        config.listen.socket = std::path::absolute(socket)?;
    }
    // Before anything is started, so that no signal is missed.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut reload = signal(SignalKind::hangup())?;
    let daemon = Daemon::start(config, &|name| std::env::var(name).ok()).await.map_err(|error| match error {
        ServeError::Config(_) => Failure::new(Failure::CONFIG, error),
        error => Failure::new(Failure::SERVE, error),
    })?;
    for address in daemon.addresses() {
        writeln!(stdout(), "{address}")?;
    }
    notify::ready();
    let lifecycle = daemon.lifecycle().clone();
    tokio::spawn(notify::keep_alive(lifecycle.journal().clone()));
    let told = async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                // What is refused is said in the log, and the old policies stay.
                _ = reload.recv() => drop(lifecycle.reload_policies().await),
            }
        }
        notify::stopping();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            // What is under way is found unfinished in the journal by the next start; the workers die with this process.
            tracing::warn!("told to stop a second time: ending at once");
            std::process::exit(Failure::SERVE.into());
        });
    };
    daemon.serve_until(told).await.map_err(|error| Failure::new(Failure::SERVE, error))
}
