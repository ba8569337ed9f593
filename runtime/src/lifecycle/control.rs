//! How a hold is imposed and lifted: in force first, then kept, recorded, and answered with evidence.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::{JoinError, block_in_place, spawn_blocking},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{
    Lifecycle,
    execution::unix_ms,
    held::{FOR_EVER, ends},
    living::{Guest, LiveCall},
    stop::{Part, Stopped, evidence_records, stopped},
};
use crate::{
    config::DEFAULT_TENANT,
    control::{Evidence, Hold, ImposeError, Imposed, Order, Standing},
    journal::{Entry, JournalError, Kind},
};

/// How often holds that have ended are removed.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(1);

/// A hold that is not imposed or lifted.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error(transparent)]
    Impose(#[from] ImposeError),
    #[error("`request_id` has imposed `{0}`, which is another hold: use another one")]
    OtherHold(String),
    #[error("there is no hold `{0}`: it was lifted, or has ended, or never was")]
    NotFound(String),
    #[error("nothing is lifted that cannot be recorded: {0}")]
    Unrecorded(#[from] JournalError),
    #[error("the hold cannot be lifted for good, and so is in force: {0}")]
    Unkept(#[from] io::Error),
    #[error("the daemon failed: {0}")]
    Failed(#[from] JoinError),
}

impl Lifecycle {
    /// Imposes a hold: it is in force before anything is waited for. What is left to do is done whether or not whoever
    /// asked for it still waits.
    pub async fn impose(&self, order: Order) -> Result<Imposed, ControlError> {
        let (started, now_ms) = (Instant::now(), unix_ms());
        let Order { id, action, scope, reason, by, expire, drain_timeout } = order;
        let until_ms = expire.map(|expire| now_ms.saturating_add(expire.as_millis() as u64));
        let asked = Hold { id, action, scope, reason, by, since_ms: now_ms, until_ms, records: Vec::new() };
        let (action, scope) = (asked.action, asked.scope.clone());
        let hold = self.0.holds.impose(asked)?;
        if hold.action != action || hold.scope != scope {
            return Err(ControlError::OtherHold(hold.id.clone()));
        }
        let this = self.clone();
        Ok(self.whole(async move { this.carry_out(hold, drain_timeout, started).await }).await?)
    }

    /// Stops what a hold covers that is in force, while it is written down and recorded: neither waits for the other.
    async fn carry_out(&self, hold: Arc<Hold>, drain_timeout: Duration, started: Instant) -> Imposed {
        let this = self.clone();
        let keeping = spawn_blocking(move || this.0.holds.keep());
        let stopping = self.stop(&hold, drain_timeout, started);
        // In this order: whoever is stopped is told first.
        let (stopped, recorded, kept) =
            tokio::join!(biased; stopping, self.record_hold("imposed", &hold, json!({})), keeping);
        let unkept = kept.map_err(io::Error::from).flatten().err().map(|error| error.to_string());
        let record = recorded.map_err(|error| error.to_string());
        let (mut evidence, left) = evidence(stopped, started, record, unkept);
        if let Err(error) = self.record_stopped(&hold, &evidence).await {
            evidence.record = evidence.record.and(Err(format!("what it stopped is not recorded: {error}")));
        }
        if !left.is_empty() {
            error!(hold = hold.id, still_running = ?evidence.still_running, "what was stopped has not ended");
            let (this, hold) = (self.clone(), hold.clone());
            self.0.running.spawn(async move { this.stopped_late(&hold, left, started).await });
        }
        Imposed { hold, evidence }
    }

    /// Records what did not stop in time once it has.
    async fn stopped_late(&self, hold: &Hold, left: Vec<Part>, started: Instant) {
        let (evidence, _) = evidence(stopped(left, FOR_EVER, started).await, started, Ok(0), None);
        if let Err(error) = self.record_stopped(hold, &evidence).await {
            error!(%error, hold = hold.id, "what a hold stopped late is not recorded");
        }
    }

    async fn record_stopped(&self, hold: &Hold, evidence: &Evidence) -> Result<(), JournalError> {
        for record in evidence_records(evidence) {
            self.record_hold("stopped", hold, json!({ "evidence": record })).await?;
        }
        Ok(())
    }

    /// Waits until a hold was lifted or has ended.
    pub(super) async fn over(&self, hold: &Hold) {
        let mut changed = self.holds_changed();
        loop {
            changed.mark_unchanged();
            let known = self.0.holds.get(&hold.id).filter(|known| known.in_force(unix_ms()));
            let Some(known) = known else { return };
            tokio::select! {
                _ = changed.changed() => {}
                () = ends(&known) => {}
            }
        }
    }

    /// Lifts a hold, once that is recorded.
    pub async fn lift(&self, id: &str, by: String, reason: String) -> Result<Arc<Hold>, ControlError> {
        let (this, hold) = (self.clone(), self.hold(id)?);
        self.whole(async move {
            this.record_hold("lifted", &hold, json!({ "lifted_by": by, "lifted_because": reason })).await?;
            let lifted = block_in_place(|| this.0.holds.lift(&hold.id))?;
            this.forgive(&hold);
            lifted.ok_or(ControlError::NotFound(hold.id.clone()))
        })
        .await?
    }

    /// Returns the holds that are in force, the oldest first.
    pub fn holds(&self) -> Vec<Arc<Hold>> {
        let now_ms = unix_ms();
        self.0.holds.all().iter().filter(|hold| hold.in_force(now_ms)).cloned().collect()
    }

    /// Returns a hold that is in force.
    pub fn hold(&self, id: &str) -> Result<Arc<Hold>, ControlError> {
        let found = self.0.holds.get(id).filter(|hold| hold.in_force(unix_ms()));
        found.ok_or_else(|| ControlError::NotFound(id.chars().take(80).collect()))
    }

    /// Returns a number that changes with what is held.
    pub(super) fn holds_changed(&self) -> watch::Receiver<u64> {
        self.0.holds.changed()
    }

    /// Returns what becomes of a call, as the holds are.
    pub(super) fn call_standing(&self, guest: &Guest, call: &LiveCall, reads: bool) -> Standing {
        self.0.holds.call(&guest.subject(), &call.target(), reads, unix_ms())
    }

    /// Removes holds that have ended, until `stop`. They hold nothing before that.
    pub async fn expire_holds(&self, stop: CancellationToken) {
        let mut ticks = interval(EXPIRE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            let this = self.clone();
            let ended = spawn_blocking(move || this.0.holds.expire(unix_ms(), &|step| this.living().has(step))).await;
            match ended.map_err(io::Error::from).flatten() {
                Ok(ended) => {
                    for hold in ended {
                        let _ = self.record_hold("ended", &hold, json!({})).await; // that it would end is known
                    }
                }
                Err(error) => warn!(%error, "holds that have ended cannot be removed now"),
            }
        }
    }

    /// Returns the hold that keeps a guest from beginning, once there is one: at once, or while it waits for what it needs.
    pub(super) async fn held(&self, guest: &Guest) -> Arc<Hold> {
        let mut changed = self.holds_changed();
        loop {
            changed.mark_unchanged();
            if let Some(hold) = self.0.holds.step(&guest.subject(), unix_ms()) {
                return hold;
            }
            tokio::select! {
                // Also by one that was lifted since.
                hold = guest.stop.told() => return hold,
                _ = changed.changed() => {}
            }
        }
    }

    pub(super) async fn record_hold(&self, change: &str, hold: &Hold, more: Value) -> Result<u64, JournalError> {
        let mut body = json!({ "change": change, "hold": hold });
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        Ok(self.0.journal.append(Entry::new(Kind::Control, DEFAULT_TENANT, body))?.await?.sequence)
    }
}

/// Returns what is said of what was stopped, and what was not in time.
fn evidence(
    stopped: Stopped,
    started: Instant,
    record: Result<u64, String>,
    unkept: Option<String>,
) -> (Evidence, Vec<Part>) {
    let Stopped { steps, calls, leases, left } = stopped;
    let mut still_running: Vec<String> = left.iter().map(Part::name).collect();
    still_running.sort();
    still_running.dedup();
    (Evidence { steps, calls, leases, still_running, took: started.elapsed(), record, unkept }, left)
}
