//! The gate. Every host call that reaches beyond the sandbox passes here, in one order:
//!
//! charge → authorize → record the intent → act → record the outcome → settle → reply.
//!
//! What acts takes a [`Permit`], and only this file can make one.

use std::{
    sync::{Mutex, PoisonError, atomic::Ordering},
    time::Instant,
};

use serde_json::{Value, json};

use super::{
    Lifecycle,
    act::{Act, Done},
    authorize::{Verdict, authorize},
    denial,
    execution::Execution,
    http,
    labels::JOINED,
    trail::{NotDurable, Note, Number},
};
use crate::{
    budget::{Amounts, Exhausted, Reservation},
    journal::{JournalError, Kind, Payload},
    step::{Answer, Call, CallError, Effect, Exhaustion, Failure, Name, Origin},
    telemetry::{self, Span},
    worker::Bodies,
};

/// Bytes of the largest payload that is kept of a call that is refused.
const REFUSED_BYTES_MAX: usize = 4 << 10;

/// Proof that a call was charged, authorised and recorded. While it lives, its outcome is not recorded: if it is
/// dropped, the outcome is that nobody knows.
pub struct Permit<'a> {
    execution: &'a Execution,
    call: u64,
    /// When its intent was recorded, in milliseconds after the guest's start.
    at_ms: u64,
    context: telemetry::Context,
    /// Taken when it is settled.
    open: Option<Open>,
}

/// What is open until a call is settled.
struct Open {
    span: Span,
    reservation: Mutex<Reservation>,
    /// Of the intent's record.
    intent: Number,
    /// It may have been done.
    acting: bool,
}

/// A call on its way.
struct Passage<'a> {
    execution: &'a Execution,
    call: u64,
    started: Instant,
    power: &'static str,
    span: Span,
    /// What its records say of it.
    about: Value,
    payloads: Vec<Payload>,
}

/// A call that may be done.
struct Approved {
    act: Act,
    verdict: Verdict,
    reservation: Reservation,
}

/// Does one host call of `execution`, which the worker knows as `worker_step`. Of a request over HTTP, `bodies` carry
/// what is said before the answer, which then is the end. Returns the answer, and when it was given, in milliseconds
/// after the guest's start: that moment is in the record, and is what the guest's clock says next.
pub async fn pass(
    execution: &Execution,
    worker_step: u64,
    asked: Call,
    bodies: Option<Bodies>,
) -> (u64, Result<Answer, CallError>) {
    let mut passage = Passage::begin(execution, &asked);
    let Approved { act, verdict, reservation } = match passage.approve(asked) {
        Ok(approved) => approved,
        Err((error, verdict)) => {
            let (at_ms, error) = passage.refuse(error, verdict).await;
            return (at_ms, Err(error));
        }
    };
    let (started, power) = (passage.started, passage.power);
    let permit = match passage.intend(&act, &verdict, reservation).await {
        Ok(permit) => permit,
        Err(error) => return (execution.elapsed_ms(), Err(unrecorded(&error))),
    };
    let done = act.perform(&permit, worker_step, bodies).await;
    permit.settle(done, started, power, &verdict)
}

impl<'a> Passage<'a> {
    fn begin(execution: &'a Execution, asked: &Call) -> Self {
        let call = execution.step.next_call();
        let (span, power) = Act::span(execution, call, asked);
        let question = Act::asked_in_words(asked);
        let about = json!({ "power": power, "via": execution.via, "question": question });
        Self { execution, call, started: Instant::now(), power, span, about, payloads: Vec::new() }
    }

    /// Charges and authorises.
    fn approve(&mut self, asked: Call) -> Result<Approved, (CallError, Option<Verdict>)> {
        let account = &self.execution.account;
        account.spend(Amounts { host_calls: 1, ..Amounts::default() }).map_err(|e| (self.exhausted(&e), None))?;
        let decision = self.execution.step.decision(self.call);
        let act = Act::resolve(self.execution, asked, &decision, &mut self.about, &mut self.payloads)
            .map_err(|error| (error, None))?;
        match &act {
            Act::CallTool { arguments, .. } => {
                self.span.arguments(arguments.digest(), arguments.bytes().as_bytes());
            }
            Act::SendRequest(sending) => self.span.admitted(sending.rule(), sending.credential()),
            Act::ListTools | Act::Memory { .. } => {}
        }
        // Given back whole if it is denied.
        let reservation = account.reserve(act.cost(self.execution)).map_err(|e| (self.exhausted(&e), None))?;
        let question = self.about["question"].as_str().unwrap_or_default();
        let verdict = authorize(self.execution, &act, question, &decision);
        match &verdict.denied {
            Some(denial) if verdict.enforced => return Err((CallError::Denied(denial.clone()), Some(verdict))),
            _ => {}
        }
        if let Act::SendRequest(sending) = &act {
            // What is denied is no traffic.
            http::count(self.execution, &sending.route).map_err(|error| (error, None))?;
        }
        Ok(Approved { act, verdict, reservation })
    }

    fn exhausted(&self, exhausted: &Exhausted) -> CallError {
        self.execution.lifecycle.count_exhausted(exhausted);
        CallError::Exhausted(exhaustion(exhausted))
    }

    /// Records that the call is refused. It costs the guest no more than the call itself, so not much of it is kept.
    async fn refuse(mut self, error: CallError, verdict: Option<Verdict>) -> (u64, CallError) {
        let failure = Failure::new(denial::code(&error), denial::message(&error));
        let at_ms = self.execution.elapsed_ms();
        let mut body = self.about;
        body["at_ms"] = json!(at_ms);
        body["error"] = denial::record(&error);
        if let Some(verdict) = &verdict {
            body["decision"] = verdict.record();
            self.span.decided(verdict.telemetry());
        }
        self.span.denied(&failure);
        let meters = self.execution.lifecycle.telemetry().meters();
        meters.host_call(self.power, telemetry::Decision::Deny, self.started.elapsed());
        self.payloads.retain(|payload| payload.bytes.len() <= REFUSED_BYTES_MAX);
        if let Err(lost) = self.execution.step.trail.room().await {
            return (at_ms, unrecorded(&lost));
        }
        let context = self.span.context().clone();
        let note = Note { kind: Kind::Denial, call: Some(self.call), context: &context, body, payloads: self.payloads };
        match self.execution.step.trail.note_now(note, Some((self.span, None))) {
            Ok(_) => (at_ms, error),
            Err(lost) => (at_ms, unrecorded(&lost)),
        }
    }

    /// Records what is about to happen; if it happens outside, once that is durable.
    async fn intend(
        mut self,
        act: &Act,
        verdict: &Verdict,
        reservation: Reservation,
    ) -> Result<Permit<'a>, JournalError> {
        let at_ms = self.execution.elapsed_ms();
        let mut body = self.about;
        body["at_ms"] = json!(at_ms);
        body["effect"] = json!(act.effect().as_str());
        body["decision"] = verdict.record();
        self.span.decided(verdict.telemetry());
        let context = self.span.context().clone();
        let note = Note { kind: Kind::Intent, call: Some(self.call), context: &context, body, payloads: self.payloads };
        let (execution, call) = (self.execution, self.call);
        let trail = &execution.step.trail;
        let permit = |span, intent, acting| {
            let open = Some(Open { span, reservation: Mutex::new(reservation), intent, acting });
            Permit { execution, call, at_ms, context: context.clone(), open }
        };
        if act.effect() == Effect::Read {
            let intent = trail.note(note).await?;
            return Ok(permit(self.span, intent, true));
        }
        // From here on there is an outcome, however this ends: also if the step ends while the intent becomes durable.
        let intent = trail.intend(note)?;
        let mut permit = permit(self.span, Number::default(), false);
        match intent.durable().await {
            Ok(sequence) => {
                permit.begin(sequence);
                Ok(permit)
            }
            Err(NotDurable::Lost(error)) => {
                permit.open = None;
                Err(error)
            }
            Err(NotDurable::Earlier(error)) => Err(error),
        }
    }
}

impl<'a> Permit<'a> {
    /// Returns the guest whose call it is. What acts has no other way to it.
    pub fn execution(&self) -> &'a Execution {
        self.execution
    }

    /// The intent is durable: from here on it may be done.
    fn begin(&mut self, sequence: u64) {
        if let Some(open) = &mut self.open {
            open.intent.store(sequence, Ordering::Relaxed);
            open.acting = true;
        }
    }

    /// Returns what the random bytes and the clocks of a tool are made of that the call runs.
    pub fn tool_origin(&self) -> Origin {
        self.execution.origin.of_tool(self.call, self.at_ms)
    }

    /// Returns the span of the call.
    pub fn context(&self) -> &telemetry::Context {
        &self.context
    }

    /// Returns what names the call's effect, to us and to an upstream.
    pub fn effect_id(&self) -> String {
        format!("{}-{}", self.execution.step.id.trim_start_matches("steps/"), self.call)
    }

    /// Returns what is set aside for the call.
    pub fn reserved(&self) -> Amounts {
        self.open.as_ref().map(|open| open.reservation().reserved()).unwrap_or_default()
    }

    /// Says that something with `labels` enters the job because of the call, before it does.
    pub async fn join<'l>(&self, labels: impl IntoIterator<Item = &'l Name>) -> Result<(), CallError> {
        let joined = self.execution.join(labels).await?;
        if joined.is_empty() {
            return Ok(());
        }
        // A record of its own: the call may never have an outcome that says more than that nobody knows.
        let body = json!({ JOINED: joined });
        let (call, context) = (Some(self.call), &self.context);
        let note = Note { kind: Kind::Label, call, context, body, payloads: Vec::new() };
        // Once for each label of a job: it costs little that nothing is known before this is.
        self.execution.step.trail.durable(note).await.map_err(|error| unrecorded(&error))?;
        self.execution.step.labels.recorded(joined);
        Ok(())
    }

    /// Sets more aside for the call, before it is used.
    pub fn charge(&self, more: Amounts) -> Result<(), CallError> {
        let Some(open) = &self.open else { return Ok(()) };
        open.reservation().extend(more).map_err(|exhausted| {
            self.execution.lifecycle.count_exhausted(&exhausted);
            CallError::Exhausted(exhaustion(&exhausted))
        })
    }

    /// Records the outcome, settles the budget and says what to reply.
    fn settle(
        mut self,
        done: Done,
        started: Instant,
        power: &'static str,
        verdict: &Verdict,
    ) -> (u64, Result<Answer, CallError>) {
        let Done { used, usage, lost, about, kept, responded, result: replied } = done;
        let took = started.elapsed();
        let decision =
            if verdict.denied.is_some() { telemetry::Decision::WouldDeny } else { telemetry::Decision::Allow };
        self.execution.lifecycle.telemetry().meters().host_call(power, decision, took);
        let at_ms = self.execution.elapsed_ms();
        let mut body = json!({ "power": power, "used": used, "took_us": took.as_micros() as u64, "at_ms": at_ms });
        if let (Value::Object(about), Some(body)) = (about, body.as_object_mut()) {
            body.extend(about);
        }
        match &replied {
            Ok(_) => body["status"] = json!("done"),
            Err(error) => {
                body["status"] = json!(if lost { "unknown" } else { "failed" });
                body["error"] = denial::record(error);
            }
        }
        let span = self.open.take().map(|Open { mut span, reservation, intent, .. }| {
            reservation.into_inner().unwrap_or_else(PoisonError::into_inner).commit(used);
            if let Some(usage) = &usage {
                span.used(usage);
            }
            if let Some((status, protocol, address)) = responded {
                span.responded(status, protocol, address);
            }
            if let (Some(payload), "tools") = (kept.first(), power) {
                span.result(&payload.bytes);
            }
            if let Err(error) = &replied {
                span.failed(&Failure::new(denial::code(error), denial::message(error)));
            }
            (span, Some(intent))
        });
        let note = Note { kind: Kind::Outcome, call: Some(self.call), context: &self.context, body, payloads: kept };
        match self.execution.step.trail.note_now(note, span) {
            Ok(_) => (at_ms, replied),
            // The guest must not go on as if it were recorded.
            Err(error) => {
                let message = format!("it was tried, and how it ended cannot be recorded: {error}");
                (at_ms, Err(denial::failed("JOURNAL_UNAVAILABLE", message)))
            }
        }
    }
}

impl Open {
    fn reservation(&self) -> std::sync::MutexGuard<'_, Reservation> {
        self.reservation.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let Some(Open { mut span, reservation, intent, acting }) = self.open.take() else { return };
        let (status, why) = match acting {
            true => ("unknown", "the step ended while the call was under way"),
            false => ("not-done", "the step ended, or its journal broke, before the call was begun"),
        };
        let reservation = reservation.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Where nobody knows what was used, all that was set aside counts.
        let used = if acting { reservation.reserved() } else { Amounts::default() };
        reservation.commit(used);
        let body = json!({ "status": status, "why": why, "used": used });
        span.fail("abandoned", why);
        let (call, context) = (Some(self.call), &self.context);
        let note = Note { kind: Kind::Outcome, call, context, body, payloads: Vec::new() };
        // If it is lost as well, it is said to be unknown once the journal takes records again.
        let _ = self.execution.step.trail.note_now(note, Some((span, Some(intent))));
    }
}

/// The journal takes nothing now, so nothing is done.
fn unrecorded(error: &JournalError) -> CallError {
    denial::unavailable("JOURNAL_UNAVAILABLE", format!("nothing is done that cannot be recorded: {error}"))
}

fn exhaustion(exhausted: &Exhausted) -> Exhaustion {
    Exhaustion {
        account: exhausted.account.clone(),
        dimension: exhausted.dimension.into(),
        limit: exhausted.limit,
        left: exhausted.left,
        asked: exhausted.asked,
    }
}

impl Lifecycle {
    /// Counts a refusal for want of budget, by the level of the account: labels are few.
    pub fn count_exhausted(&self, exhausted: &Exhausted) {
        // Some have the name of what they are for behind it.
        let level = exhausted.account.split(' ').next().unwrap_or_default();
        let level = ["tenant", "job", "step"].into_iter().find(|known| *known == level).unwrap_or("tool");
        self.telemetry().meters().budget_exhausted(exhausted.dimension, level);
    }
}
