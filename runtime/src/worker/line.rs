//! The line of those who wait for a compiler: bounded for each tenant, in turns between them, and left after a time.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit},
    time::timeout,
};

use super::compiler::CompileError;
use crate::step::Name;

/// Compilations of one tenant, under way or waiting.
const LINE_MAX: usize = 32;

/// Places to compile, and who waits for one.
pub struct Line {
    places: Semaphore,
    at_once: usize,
    tenants: Mutex<HashMap<Name, OfTenant>>,
    patience: Duration,
}

#[derive(Default)]
struct OfTenant {
    entered: usize,
    /// As many as there are places: so many of a tenant stand in the line of all, and whoever comes waits for no more of
    /// each other tenant.
    turns: Option<Arc<Semaphore>>,
}

/// A place to compile. Free again when this is dropped.
#[must_use]
pub struct Place<'a> {
    _place: SemaphorePermit<'a>,
    _turn: OwnedSemaphorePermit,
    _entered: Entered<'a>,
}

impl Line {
    /// Returns a line for `at_once` places, in which nobody waits longer than `patience`.
    pub fn new(at_once: usize, patience: Duration) -> Self {
        Self { places: Semaphore::new(at_once), at_once, tenants: Mutex::default(), patience }
    }

    /// Waits for a place. Whoever is dropped while it waits leaves the line.
    pub async fn place(&self, tenant: &Name) -> Result<Place<'_>, CompileError> {
        let (entered, turns) = self.enter(tenant)?;
        let waiting = async {
            let turn = turns.acquire_owned().await.map_err(std::io::Error::other)?;
            let place = self.places.acquire().await.map_err(std::io::Error::other)?;
            Ok::<_, CompileError>((turn, place))
        };
        let waited = timeout(self.patience, waiting).await;
        let (turn, place) = waited.map_err(|_| CompileError::LineTimeout(self.patience.as_millis() as u64))??;
        Ok(Place { _place: place, _turn: turn, _entered: entered })
    }

    fn enter(&self, tenant: &Name) -> Result<(Entered<'_>, Arc<Semaphore>), CompileError> {
        let mut tenants = self.tenants();
        let of_tenant = tenants.entry(tenant.clone()).or_default();
        if of_tenant.entered >= LINE_MAX {
            return Err(CompileError::LineFull(LINE_MAX));
        }
        of_tenant.entered += 1;
        let turns = of_tenant.turns.get_or_insert_with(|| Arc::new(Semaphore::new(self.at_once))).clone();
        Ok((Entered { line: self, tenant: tenant.clone() }, turns))
    }

    fn tenants(&self) -> MutexGuard<'_, HashMap<Name, OfTenant>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody in the line, or at its end.
struct Entered<'a> {
    line: &'a Line,
    tenant: Name,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut tenants = self.line.tenants();
        if let Some(of_tenant) = tenants.get_mut(&self.tenant) {
            of_tenant.entered -= 1;
            if of_tenant.entered == 0 {
                tenants.remove(&self.tenant);
            }
        }
    }
}
