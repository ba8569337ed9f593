//! How a step is attended, and how it ends: recorded first, and only then told.

use std::time::Instant;

use serde_json::json;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::task_tracker::TaskTrackerToken,
};
use tracing::info;

use super::{
    act::cut,
    conduct::{Ended, conduct},
    execution::Execution,
    jobs::JobHold,
    recover::Live,
    step::Accepted,
    tools::wall_ms,
    trail::Note,
};
use crate::{
    budget::{Amounts, Reservation},
    config::{Acknowledge, Limits},
    journal::{JournalError, Kind, Payload},
    step::{Event, Failure, Outcome, Usage},
    telemetry::{Context, Span},
    worker::{Events, Running},
};

/// How a step ended, with everything that is left of it.
#[derive(Debug)]
pub struct Finished {
    pub outcome: Outcome,
    pub usage: Usage,
    /// By the step and its tools.
    pub spent: Amounts,
    /// Of the journal; empty if the result did not wait for its record.
    pub checkpoint: String,
}

/// What a step sends.
#[derive(Debug)]
pub enum Message {
    /// Of the step itself, or of the tool that is named.
    Event(Option<String>, Event),
    /// The last message.
    Done(Box<Finished>),
}

/// A step that runs. Dropping it cancels the step.
pub struct StepRun {
    pub accepted: Accepted,
    pub(super) events: Option<Events>,
    pub(super) said: mpsc::Receiver<(String, Event)>,
    pub(super) finished: oneshot::Receiver<Finished>,
    pub(super) over: bool,
    pub(super) _abandon: DropGuard,
    /// Shutting down waits for the caller to have the result.
    pub(super) _tracked: TaskTrackerToken,
}

/// Attends a step to its end, records the end, and tells the caller, if there still is one.
pub async fn attend(
    mut execution: Execution,
    mut running: Running,
    reservation: Reservation,
    mut span: Span,
    abandoned: CancellationToken,
    finish: oneshot::Sender<Finished>,
    holds: (Option<JobHold>, Option<Live>),
) {
    let started = Instant::now();
    let Ended { outcome, usage, lost } = conduct(&execution, &mut running, &abandoned).await;
    execution.life.end();
    let used = Amounts { fuel: usage.fuel, wall_ms: wall_ms(&usage), ..Amounts::default() };
    // Of a step that was lost nobody knows what it used: what was set aside for it counts.
    let used = if lost { reservation.reserved() } else { used };
    reservation.commit(used);
    let spent = execution.account.spent();
    let (outcome, checkpoint) = match record_result(&execution, &outcome, &usage, span.context()).await {
        Ok(receipt) => {
            if let Some((sequence, _)) = &receipt {
                span.journaled(*sequence);
            }
            (outcome, receipt.map(|(_, checkpoint)| checkpoint).unwrap_or_default())
        }
        Err(error) => {
            let message = format!("what the step did could not be recorded, so its output is withheld: {error}");
            (Outcome::Unrecorded(Failure::new("JOURNAL_UNAVAILABLE", message)), String::new())
        }
    };
    info!(
        step = execution.step.id,
        outcome = outcome.word(),
        fuel = usage.fuel,
        wall_time_us = usage.wall_time_us,
        "step ended"
    );
    span.step_ended(&outcome, &usage);
    let meters = execution.lifecycle.telemetry().meters();
    meters.step(&outcome, started.elapsed());
    if let Outcome::LimitExceeded { limit, .. } = &outcome
        && let Some(limit) = Limits::named(limit)
    {
        meters.limit_hit(limit);
    }
    let _ = finish.send(Finished { outcome, usage, spent, checkpoint }); // fails if the caller hung up
    // The job forgets the step's spending, and others may say how it ended, only once the journal has its records or
    // has lost them.
    let _ = execution.step.trail.settled().await;
    drop(holds);
}

/// Records how a step ended; returns the record's number and a checkpoint, if it waited for them. What it spent must be on
/// record, whatever else is: a failure that is too long is recorded without its words.
async fn record_result(
    execution: &Execution,
    outcome: &Outcome,
    usage: &Usage,
    context: &Context,
) -> Result<Option<(u64, String)>, JournalError> {
    let failure = outcome.failure().map(|failure| (failure.code.as_str(), failure.message.as_str()));
    match record_end(execution, outcome, failure, usage, context).await {
        Err(JournalError::TooLarge { .. }) => {
            let code = failure.map(|(code, _)| cut(code));
            let cut = code.as_deref().map(|code| (code, "it is too long to be recorded"));
            record_end(execution, outcome, cut, usage, context).await
        }
        recorded => recorded,
    }
}

async fn record_end(
    execution: &Execution,
    outcome: &Outcome,
    failure: Option<(&str, &str)>,
    usage: &Usage,
    context: &Context,
) -> Result<Option<(u64, String)>, JournalError> {
    let failure = failure.map(|(code, message)| json!({ "code": code, "message": message }));
    let exit_code = if let Outcome::Exited { code } = outcome { Some(*code) } else { None };
    let body = json!({
        "outcome": outcome.word(), "failure": failure, "exit_code": exit_code,
        "usage": usage, "spent": execution.account.spent(),
    });
    let payloads = match outcome {
        Outcome::Succeeded { output, content_type } => {
            vec![Payload { bytes: output.clone(), media_type: content_type.clone() }]
        }
        _ => Vec::new(),
    };
    let note = Note { kind: Kind::Result, call: None, context, body, payloads };
    let trail = &execution.step.trail;
    match execution.lifecycle.config().journal.acknowledge {
        Acknowledge::Durable => {
            let receipt = trail.durable(note).await?;
            let checkpoint = receipt.checkpoint.as_deref().unwrap_or_default().to_owned();
            Ok(Some((receipt.sequence, checkpoint)))
        }
        Acknowledge::Asynchronous => trail.note(note).await.map(|_| None),
    }
}

/// A step that is on record and not started. Dropping this records that it never was.
pub struct Unstarted<'a> {
    execution: &'a Execution,
    live: Option<Live>,
}

impl<'a> Unstarted<'a> {
    pub fn new(execution: &'a Execution, live: Live) -> Self {
        Self { execution, live: Some(live) }
    }

    /// Says that it was started: its end will be recorded.
    pub fn started(mut self) -> Option<Live> {
        self.live.take()
    }
}

impl Drop for Unstarted<'_> {
    fn drop(&mut self) {
        let Some(live) = self.live.take() else { return };
        let failure = json!({ "code": "STEP_NOT_STARTED", "message": "no worker took it before it was held or its caller was gone" });
        let body = json!({ "outcome": "worker-lost", "failure": failure });
        let context = &self.execution.context;
        let note = Note { kind: Kind::Result, call: None, context, body, payloads: Vec::new() };
        let step = self.execution.step.clone();
        let _ = step.trail.note_now(note, None); // if it is lost, it is said once the journal takes records again
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                let _ = step.trail.settled().await;
                drop(live);
            });
        }
    }
}

impl StepRun {
    /// Returns the next message of the step. After [`Message::Done`] there is none.
    pub async fn next(&mut self) -> Option<Message> {
        if self.over {
            return None;
        }
        loop {
            let event = async {
                match &mut self.events {
                    Some(events) => events.next().await,
                    None => std::future::pending().await,
                }
            };
            // Everything that was said before the end comes before it.
            tokio::select! {
                biased;
                event = event => match event {
                    Some(event) => return Some(Message::Event(None, event)),
                    None => self.events = None,
                },
                Some((tool, event)) = self.said.recv() => return Some(Message::Event(Some(tool), event)),
                finished = &mut self.finished => {
                    self.over = true;
                    return finished.ok().map(|finished| Message::Done(Box::new(finished)));
                }
            }
        }
    }
}
