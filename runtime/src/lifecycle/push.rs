//! How a component comes in: spooled, hashed, inspected and compiled in a jail, and only then kept.

use std::{
    collections::HashMap,
    io::{self, Write as _},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use tokio::{
    sync::OwnedMutexGuard,
    task::{JoinError, spawn_blocking},
    time::timeout,
};

use super::Lifecycle;
use crate::{
    config::DEFAULT_TENANT,
    step::{Digest, Name},
    store::{Component, ComponentError},
    worker::{CompileError, Compiled},
};

/// A component that is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    #[error("the component has more than {0} bytes, which is the limit `component_bytes`")]
    TooLarge(u64),
    #[error("`digest` is {expected}, but the bytes that came have {found}")]
    DigestMismatch { expected: Digest, found: Digest },
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error(transparent)]
    Store(#[from] ComponentError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<JoinError> for PushError {
    fn from(error: JoinError) -> Self {
        Self::Io(error.into())
    }
}

/// A component on its way in. Dropping it leaves nothing.
pub struct Push {
    lifecycle: Lifecycle,
    spooled: NamedTempFile,
    hasher: Sha256,
    bytes: u64,
    max: u64,
}

/// One compilation of a component at a time: whoever comes second waits and finds the artifact.
#[derive(Default)]
pub(super) struct Compiling(Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>);

impl Lifecycle {
    /// Begins to take a component.
    pub fn push(&self) -> io::Result<Push> {
        let max = self.config().limits.component_bytes;
        Ok(Push { lifecycle: self.clone(), spooled: self.components().spool()?, hasher: Sha256::new(), bytes: 0, max })
    }

    /// Compiles a component that is kept, unless its artifact is there: after an upgrade, or a cleared cache.
    pub(super) async fn ensure_artifact(&self, tenant: &Name, digest: Digest) -> Result<(), PushError> {
        let path = self.components().artifact(digest, &self.hello().engine);
        let found = path.exists();
        self.telemetry().meters().artifact_lookup(found);
        if found {
            return Ok(());
        }
        let _alone = self.alone(digest).await?;
        if path.exists() {
            return Ok(());
        }
        let (compiled, artifact) = self.compile(tenant, &self.components().wasm(digest)).await?;
        let this = self.clone();
        spawn_blocking(move || this.components().add_artifact(digest, &compiled.engine, artifact.path())).await??;
        Ok(())
    }

    /// Waits until nobody else compiles a component, for as long as that can take somebody who is in the line for it.
    async fn alone(&self, digest: Digest) -> Result<OwnedMutexGuard<()>, PushError> {
        let limits = &self.config().limits;
        let patience_ms = limits.queue_timeout_ms + limits.compile_timeout_ms;
        let alone = timeout(Duration::from_millis(patience_ms), self.0.compiling.alone(digest)).await;
        Ok(alone.map_err(|_| CompileError::LineTimeout(limits.queue_timeout_ms))?)
    }

    async fn compile(&self, tenant: &Name, component: &Path) -> Result<(Compiled, NamedTempFile), PushError> {
        let artifact = self.components().spool()?;
        let compiled = self.0.compiler.compile(tenant, component, artifact.path()).await?;
        // What a compiler says becomes part of a path only if it is what the worker said before any guest came near.
        if compiled.engine != self.hello().engine {
            return Err(CompileError::Violation("it compiled for another engine".into()).into());
        }
        Ok((compiled, artifact))
    }
}

impl Push {
    /// Adds bytes.
    pub fn write(&mut self, chunk: &[u8]) -> Result<(), PushError> {
        self.bytes += chunk.len() as u64;
        if self.bytes > self.max {
            return Err(PushError::TooLarge(self.max));
        }
        self.hasher.update(chunk);
        Ok(self.spooled.write_all(chunk)?)
    }

    /// Takes the component in, if it is acceptable. The same bytes once more are a success.
    pub async fn finish(self, expected: Option<Digest>, alias: Option<Name>) -> Result<Arc<Component>, PushError> {
        let Self { lifecycle, spooled, hasher, .. } = self;
        let digest = Digest::from(hasher);
        if let Some(expected) = expected
            && expected != digest
        {
            return Err(PushError::DigestMismatch { expected, found: digest });
        }
        let _alone = lifecycle.alone(digest).await?;
        let component = match lifecycle.components().get(digest) {
            Some(component) => component,
            None => {
                lifecycle.components().check_room()?;
                lifecycle.take_in(digest, spooled).await?
            }
        };
        if let Some(alias) = alias {
            let digest = component.digest;
            spawn_blocking(move || lifecycle.components().alias(alias, digest)).await??;
        }
        Ok(component)
    }
}

impl Lifecycle {
    async fn take_in(&self, digest: Digest, spooled: NamedTempFile) -> Result<Arc<Component>, PushError> {
        // Who pushes is of no tenant, unless there is none.
        let nobody = DEFAULT_TENANT.parse().map_err(io::Error::other)?;
        let (compiled, artifact) = self.compile(&nobody, spooled.path()).await?;
        let this = self.clone();
        let kept = spawn_blocking(move || {
            spooled.as_file().sync_all()?;
            let Compiled { inspection, engine } = compiled;
            this.components().add(digest, inspection, &engine, spooled.path(), artifact.path())
        });
        Ok(kept.await??)
    }
}

impl Compiling {
    async fn alone(&self, digest: Digest) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            locks.entry(digest).or_default().clone()
        };
        lock.lock_owned().await
    }
}
