//! The gate. Every host call that reaches beyond the sandbox passes here, in one order:
//!
//! charge → look for holds → authorize → record the intent → act → record the outcome → settle → reply.
//!
//! What acts takes a [`Permit`], and only this file can make one.

use std::{
    sync::{Mutex, PoisonError, atomic::Ordering},
    time::Instant,
};

use serde_json::{Value, json};

use super::{
    act::{Act, Done},
    authorize::{Verdict, authorize},
    denial,
    execution::Execution,
    exhausted::exhaustion,
    held, http,
    labels::JOINED,
    living::{self, About, Calling},
    trail::{NotDurable, Note, Number},
};
use crate::{
    budget::{Amounts, Exhausted, Reservation},
    containment::Seen,
    journal::{JournalError, Kind, Payload},
    step::{Answer, Call, CallError, Effect, Failure, Name, Origin},
    telemetry::{self, Span},
    worker::Bodies,
};

/// Bytes of the largest payload that is kept of a call that is refused.
const REFUSED_BYTES_MAX: usize = 4 << 10;

/// Proof that a call was charged, authorised and recorded. While it lives, its outcome is not recorded: if it is
/// dropped, the outcome is that nobody knows.
pub struct Permit<'a> {
    execution: &'a Execution,
    pub calling: Calling,
    /// When its intent was recorded, or it was cut off, in milliseconds after the guest's start.
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
    let what = execution.asked(&asked);
    let act = match passage.resolve(asked) {
        Ok(act) => act,
        Err(error) => return passage.refuse(error, None).await,
    };
    let calling = execution.guest().call(passage.call, passage.question(), About::of(&act));
    let sends = matches!(act, Act::SendRequest(_));
    if sends {
        // Before it is asked who is held: what is sent too soon after a label joined is not sent.
        execution.show(&Number::default(), Seen::Egress { bytes_out: 0 }).await;
    }
    if let Err(hold) = held::clear(execution, &calling.live, act.effect()).await {
        let denied = living::denied(execution, passage.call, &hold);
        return passage.refuse(denied, None).await;
    }
    let Approved { act, verdict, reservation } = match passage.approve(act) {
        Ok(approved) => approved,
        Err((error, verdict)) => return passage.refuse(error, verdict).await,
    };
    let (started, power) = (passage.started, passage.power);
    let mut permit = match passage.intend(&act, &verdict, reservation, calling).await {
        Ok(permit) => permit,
        Err(error) => return (execution.elapsed_ms(), Err(unrecorded(&error))),
    };
    let (live, intent) = (permit.calling.live.clone(), permit.intent());
    execution.show_call(&intent, what).await;
    // Dropped where it is when it is cut off; the permit then says what is known of it.
    let done = tokio::select! {
        biased;
        hold = live.stop.told() => Err(living::denied(execution, live.call, &hold)),
        done = act.perform(&permit, worker_step, bodies) => Ok(done),
    };
    match done {
        Ok(done) => {
            live.stop.finish();
            let bytes_out = done.used.bytes_out;
            let settled = permit.settle(done, started, power, &verdict);
            if sends {
                execution.show(&intent, Seen::Egress { bytes_out }).await;
            }
            settled
        }
        Err(denied) => {
            permit.at_ms = execution.elapsed_ms();
            (permit.at_ms, Err(denied))
        }
    }
}

impl<'a> Passage<'a> {
    fn begin(execution: &'a Execution, asked: &Call) -> Self {
        let call = execution.step.next_call();
        let (span, power) = Act::span(execution, call, asked);
        let question = Act::asked_in_words(asked);
        let about = json!({ "power": power, "via": execution.via, "question": question });
        Self { execution, call, started: Instant::now(), power, span, about, payloads: Vec::new() }
    }

    /// Charges, and finds out what the call comes down to.
    fn resolve(&mut self, asked: Call) -> Result<Act, CallError> {
        let account = &self.execution.account;
        account.spend(Amounts { host_calls: 1, ..Amounts::default() }).map_err(|e| self.exhausted(&e))?;
        let decision = self.execution.step.decision(self.call);
        let act = Act::resolve(self.execution, asked, &decision, &mut self.about, &mut self.payloads)?;
        match &act {
            Act::CallTool { arguments, .. } => {
                self.span.arguments(arguments.digest(), arguments.bytes().as_bytes());
            }
            Act::SendRequest(sending) => self.span.admitted(sending.rule(), sending.credential()),
            Act::ListTools | Act::Memory { .. } => {}
        }
        Ok(act)
    }

    /// Authorises.
    fn approve(&mut self, act: Act) -> Result<Approved, (CallError, Option<Verdict>)> {
        let (account, decision) = (&self.execution.account, self.execution.step.decision(self.call));
        // Given back whole if it is denied.
        let reservation = account.reserve(act.cost(self.execution)).map_err(|e| (self.exhausted(&e), None))?;
        let verdict = authorize(self.execution, &act, self.question(), &decision);
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

    /// Returns what is asked, in words.
    fn question(&self) -> &str {
        self.about["question"].as_str().unwrap_or_default()
    }

    fn exhausted(&self, exhausted: &Exhausted) -> CallError {
        self.execution.lifecycle.count_exhausted(exhausted);
        CallError::Exhausted(exhaustion(exhausted))
    }

    /// Records that the call is refused. It costs the guest no more than the call itself, so not much of it is kept.
    async fn refuse(mut self, error: CallError, verdict: Option<Verdict>) -> (u64, Result<Answer, CallError>) {
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
            return (at_ms, Err(unrecorded(&lost)));
        }
        let context = self.span.context().clone();
        let note = Note { kind: Kind::Denial, call: Some(self.call), context: &context, body, payloads: self.payloads };
        match self.execution.step.trail.note_now(note, Some((self.span, None))) {
            Ok(record) => {
                self.execution.show_refusal(&record, &error).await;
                (at_ms, Err(error))
            }
            Err(lost) => (at_ms, Err(unrecorded(&lost))),
        }
    }

    /// Records what is about to happen; if it happens outside, once that is durable.
    async fn intend(
        mut self,
        act: &Act,
        verdict: &Verdict,
        reservation: Reservation,
        calling: Calling,
    ) -> Result<Permit<'a>, JournalError> {
        let at_ms = self.execution.elapsed_ms();
        let mut body = self.about;
        body["at_ms"] = json!(at_ms);
        body["effect"] = json!(act.effect().as_str());
        body["decision"] = verdict.record();
        self.span.decided(verdict.telemetry());
        let context = self.span.context().clone();
        let note = Note { kind: Kind::Intent, call: Some(self.call), context: &context, body, payloads: self.payloads };
        let execution = self.execution;
        let trail = &execution.step.trail;
        let permit = |span, intent, acting| {
            let open = Some(Open { span, reservation: Mutex::new(reservation), intent, acting });
            Permit { execution, calling, at_ms, context: context.clone(), open }
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

    fn call(&self) -> u64 {
        self.calling.live.call
    }

    /// The intent is durable: from here on it may be done.
    fn begin(&mut self, sequence: u64) {
        if let Some(open) = &mut self.open {
            open.intent.store(sequence, Ordering::Relaxed);
            open.acting = true;
            self.execution.guest().acts(sequence, self.calling.live.call, &self.calling.live.what);
        }
    }

    /// Returns what the random bytes and the clocks of a tool are made of that the call runs.
    pub fn tool_origin(&self) -> Origin {
        self.execution.origin.of_tool(self.call(), self.at_ms)
    }

    /// Returns where the number of the intent's record is.
    fn intent(&self) -> Number {
        self.open.as_ref().map(|open| open.intent.clone()).unwrap_or_default()
    }

    /// Returns the span of the call.
    pub fn context(&self) -> &telemetry::Context {
        &self.context
    }

    /// Returns what names the call's effect, to us and to an upstream.
    pub fn effect_id(&self) -> String {
        format!("{}-{}", self.execution.step.id.trim_start_matches("steps/"), self.call())
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
        let (call, context) = (Some(self.call()), &self.context);
        let note = Note { kind: Kind::Label, call, context, body, payloads: Vec::new() };
        // Once for each label of a job: it costs little that nothing is known before this is.
        let recorded = self.execution.step.trail.durable(note).await.map_err(|error| unrecorded(&error))?;
        self.execution.show_labels(&Number::new(recorded.sequence.into()), &joined).await;
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
        let call = Some(self.call());
        let note = Note { kind: Kind::Outcome, call, context: &self.context, body, payloads: kept };
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
        let stopped = self.calling.live.stop.by().or_else(|| self.execution.guest().cut_by());
        let (status, why) = match (acting, stopped.as_deref()) {
            (true, Some(hold)) => ("unknown", living::why(hold)),
            (true, None) => ("unknown", "the step ended while the call was under way".into()),
            (false, Some(hold)) => ("not-done", living::why(hold)),
            (false, None) => ("not-done", "the step ended, or its journal broke, before the call was begun".into()),
        };
        let reservation = reservation.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Where nobody knows what was used, all that was set aside counts.
        let used = if acting { reservation.reserved() } else { Amounts::default() };
        reservation.commit(used);
        let mut body = json!({ "status": status, "why": why, "used": used });
        if stopped.is_some() {
            body["at_ms"] = json!(self.at_ms);
        }
        span.fail("abandoned", &why);
        let (call, context) = (Some(self.call()), &self.context);
        let note = Note { kind: Kind::Outcome, call, context, body, payloads: Vec::new() };
        // If it is lost as well, it is said to be unknown once the journal takes records again.
        let _ = self.execution.step.trail.note_now(note, Some((span, Some(intent))));
    }
}

/// The journal takes nothing now, so nothing is done.
fn unrecorded(error: &JournalError) -> CallError {
    denial::unavailable("JOURNAL_UNAVAILABLE", format!("nothing is done that cannot be recorded: {error}"))
}
