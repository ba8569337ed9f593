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
use tracing::warn;

use super::{
    Lifecycle, RunError,
    execution::unix_ms,
    living::{Guest, LiveCall},
    stop::{Stopped, evidence_record},
};
use crate::{
    config::DEFAULT_TENANT,
    control::{Evidence, Hold, ImposeError, Imposed, Order, Standing, Subject},
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
    /// Imposes a hold, whether or not whoever asked for it still waits.
    pub async fn impose(&self, order: Order) -> Result<Imposed, ControlError> {
        let this = self.clone();
        self.whole(async move { this.impose_whole(order).await }).await?
    }

    async fn impose_whole(&self, order: Order) -> Result<Imposed, ControlError> {
        let (started, now_ms) = (Instant::now(), unix_ms());
        let Order { id, action, scope, reason, by, expire, drain_timeout } = order;
        let until_ms = expire.map(|expire| now_ms.saturating_add(expire.as_millis() as u64));
        let asked = Hold { id, action, scope, reason, by, since_ms: now_ms, until_ms, records: Vec::new() };
        let known = self.0.holds.get(&asked.id);
        if known.is_some_and(|known| known.action != asked.action || known.scope != asked.scope) {
            return Err(ControlError::OtherHold(asked.id));
        }
        let hold = Arc::new(asked);
        let (kept, stopped) = self.keep_and_stop(&hold, drain_timeout, started).await?;
        let (hold, unkept) = match kept {
            Ok(hold) => (hold, None),
            Err(error) => (hold, Some(error.to_string())),
        };
        let Stopped { steps, calls, leases } = stopped;
        let took = started.elapsed();
        let mut evidence = Evidence { steps, calls, leases, took, record: Ok(0), unkept };
        let recorded = self.record_hold("imposed", &hold, json!({ "evidence": evidence_record(&evidence) })).await;
        evidence.record = recorded.map_err(|error| error.to_string());
        Ok(Imposed { hold, evidence })
    }

    /// Stops what the hold covers as soon as it is in force: the disk that keeps it is not waited for.
    async fn keep_and_stop(
        &self,
        hold: &Arc<Hold>,
        drain_timeout: Duration,
        started: Instant,
    ) -> Result<(Result<Arc<Hold>, io::Error>, Stopped), ControlError> {
        let mut changed = self.holds_changed();
        let (this, asked) = (self.clone(), Hold::clone(hold));
        let mut keeping = spawn_blocking(move || this.0.holds.impose(asked));
        let kept = loop {
            tokio::select! {
                kept = &mut keeping => break Some(kept?),
                _ = changed.changed() => {
                    if self.0.holds.get(&hold.id).is_some() {
                        break None;
                    }
                }
            }
        };
        let kept = match kept {
            Some(Err(error)) if !matches!(error, ImposeError::Unkept(_)) => return Err(error.into()),
            kept => kept,
        };
        let stopped = self.stop(hold, drain_timeout, started).await;
        let kept = match kept {
            Some(kept) => kept,
            None => keeping.await?,
        };
        match kept {
            Ok(hold) => Ok((Ok(hold), stopped)),
            Err(ImposeError::Unkept(error)) => Ok((Err(error), stopped)),
            Err(error) => Err(error.into()),
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

    /// Refuses a step that an operator or a containment rule holds.
    pub(super) fn check_held(&self, subject: &Subject) -> Result<(), RunError> {
        self.0.holds.step(subject, unix_ms()).map_or(Ok(()), |hold| Err(RunError::Held(hold)))
    }

    pub(super) async fn record_hold(&self, change: &str, hold: &Hold, more: Value) -> Result<u64, JournalError> {
        let mut body = json!({ "change": change, "hold": hold });
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        Ok(self.0.journal.append(Entry::new(Kind::Control, DEFAULT_TENANT, body))?.await?.sequence)
    }
}
