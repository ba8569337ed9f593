//! What was left unfinished, said in the journal: never done again, never forgotten. By an earlier daemon that ended in
//! the middle of it, or by this one while its journal took nothing.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, PoisonError},
    time::Duration,
};

use serde_json::json;
use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Lifecycle;
use crate::journal::{Entry, Health, Journal, JournalError, Kind, ReadError, Unfinished};

/// How often a living daemon looks for what is unfinished and belongs to no step that runs.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// A journal that cannot be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    #[error("the journal cannot be read: {0}")]
    Read(#[from] ReadError),
    #[error("the journal cannot be written: {0}")]
    Write(#[from] JournalError),
}

/// A step whose records are still to come. Until this is dropped, nobody else says how it ended.
pub struct Live {
    step: String,
    lifecycle: Lifecycle,
}

/// Finishes everything that is unfinished, before there are steps. Returns how much it was.
pub async fn recover(journal: &Arc<Journal>) -> Result<usize, RecoverError> {
    let found = unfinished(journal).await?;
    finish(journal, found, "the daemon ended while it was under way", "DAEMON_LOST").await
}

impl Lifecycle {
    /// Says that the records of a step are to come.
    pub(super) fn live(&self, step: &str) -> Live {
        self.live_steps().insert(step.to_owned());
        Live { step: step.to_owned(), lifecycle: self.clone() }
    }

    /// Finishes what steps that are over could not record, until `stop`.
    pub async fn reconcile(&self, stop: CancellationToken) {
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            match self.reconcile_once().await {
                Ok(0) => {}
                Ok(count) => warn!(count, "steps and host calls whose end was lost are recorded as unknown"),
                Err(error) => warn!(%error, "what is unfinished cannot be recorded now"),
            }
        }
    }

    async fn reconcile_once(&self) -> Result<usize, RecoverError> {
        let journal = self.journal();
        // A full disk that has room again is found by writing.
        if matches!(journal.health(), Health::Poisoned(_)) {
            return Ok(0);
        }
        // What is unfinished before and after a look at the living, and belongs to none of them, stays unfinished: a step
        // leaves the living only once its records are durable or lost.
        let before: BTreeSet<u64> = unfinished(journal).await?.iter().map(|found| found.sequence).collect();
        if before.is_empty() {
            return Ok(0);
        }
        let living = self.live_steps().clone();
        let mut found = unfinished(journal).await?;
        found.retain(|found| before.contains(&found.sequence) && !living.contains(&found.step));
        finish(journal, found, "its end could not be recorded", "UNRECORDED").await
    }

    fn live_steps(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.0.live_steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.lifecycle.live_steps().remove(&self.step);
    }
}

async fn unfinished(journal: &Arc<Journal>) -> Result<Vec<Unfinished>, RecoverError> {
    let journal = journal.clone();
    let found = spawn_blocking(move || journal.unfinished()).await;
    Ok(found.map_err(|_| JournalError::Closed)??)
}

/// Records an outcome for each call, and a result for each step. Calls first: the result is the last record of a step.
async fn finish(journal: &Journal, unfinished: Vec<Unfinished>, why: &str, code: &str) -> Result<usize, RecoverError> {
    let count = unfinished.len();
    let (calls, steps): (Vec<_>, Vec<_>) = unfinished.into_iter().partition(|unfinished| unfinished.call.is_some());
    let mut tickets = Vec::new();
    for unfinished in calls.into_iter().chain(steps) {
        tickets.push(journal.append(entry(unfinished, why, code))?);
        if tickets.len() >= 256 {
            for ticket in tickets.drain(..) {
                ticket.await?;
            }
        }
    }
    for ticket in tickets {
        ticket.await?;
    }
    Ok(count)
}

fn entry(unfinished: Unfinished, why: &str, code: &str) -> Entry {
    let (kind, body) = match unfinished.call {
        Some(_) => (Kind::Outcome, json!({ "status": "unknown", "why": why })),
        None => {
            let failure = json!({ "code": code, "message": why });
            (Kind::Result, json!({ "outcome": "worker-lost", "failure": failure }))
        }
    };
    Entry {
        step: Some(unfinished.step),
        call: unfinished.call,
        job: unfinished.job,
        agent: unfinished.agent,
        ..Entry::new(kind, unfinished.tenant, body)
    }
}
