//! What the service manager is told: that the daemon serves, that it is well, that it stops. Nothing where there is none.
//!
//! Only this module names `sd_notify`.

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tracing::{error, warn};

use crate::journal::{Health, Journal};

/// Says that the daemon serves.
pub fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
}

/// Says that the daemon takes no new steps and lets the running ones end.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// Says twice in each of the service manager's periods that the daemon is well, for as long as it is. Returns at once
/// where nobody waits for it.
pub async fn keep_alive(journal: Arc<Journal>) {
    if let Some(period) = sd_notify::watchdog_enabled().filter(|period| !period.is_zero()) {
        beat(period / 2, journal, tell).await;
    }
}

/// Each beat has gone through what steps go through: the clock and a thread of the event loop, one of the threads that
/// may block, and the journal. Workers do not count: one that hangs is the daemon's to kill, not a reason to kill it.
/// Nor do callers: a daemon that is full of them is well.
async fn beat(every: Duration, journal: Arc<Journal>, tell: impl Fn(&[NotifyState]) + Copy + Send + 'static) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waited_at = None;
    loop {
        ticks.tick().await;
        let journal = journal.clone();
        let told = spawn_blocking(move || {
            let waits_at = (journal.queued() > 0).then(|| *journal.subscribe().borrow());
            match ill(&journal, waited_at, waits_at) {
                None => tell(&[NotifyState::Watchdog]),
                Some(why) => {
                    error!(why, "the service manager is not told that the daemon is well");
                    tell(&[NotifyState::Status(&format!("not well: {why}"))]);
                }
            }
            waits_at
        });
        waited_at = told.await.unwrap_or_default();
    }
}

/// Returns what only a restart can mend. `waited_at` and `waits_at` are the last durable record at the last beat and at
/// this one, where entries wait for the disk. A full disk is not of that kind: work resumes by itself.
fn ill(journal: &Journal, waited_at: Option<u64>, waits_at: Option<u64>) -> Option<String> {
    match journal.health() {
        Health::Poisoned(why) => Some(format!("the journal failed: {why}")),
        Health::Healthy | Health::Full if waits_at.is_some() && waited_at == waits_at => {
            Some("the disk of the journal does not answer".into())
        }
        Health::Healthy | Health::Full => None,
    }
}

fn tell(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "the service manager cannot be told");
    }
}
