//! The records of one step. What leaves a step, an effect or its result, waits until everything before it is durable;
//! what only comes in does not wait.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::Value;

use crate::{
    journal::{Entry, Journal, JournalError, Kind, Payload, Receipt, Ticket},
    step::Name,
    telemetry::{Context, Span},
};

/// Records that may be under way to the disk before the next one waits.
const PENDING_MAX: usize = 64;

/// The records of one step, in order.
pub struct Trail {
    journal: Arc<Journal>,
    tenant: Name,
    step: String,
    job: Option<String>,
    agent: Option<String>,
    pending: Mutex<Pending>,
    /// The record that is waited for now. Whoever stops waiting leaves it here for the next.
    settling: tokio::sync::Mutex<Option<Waiting>>,
}

/// Whose records they are.
pub struct Of {
    pub tenant: Name,
    pub step: String,
    pub job: Option<String>,
    pub agent: Option<String>,
}

#[derive(Default)]
struct Pending {
    waiting: VecDeque<Waiting>,
    /// A record was lost: nothing leaves the step any more.
    broken: bool,
}

/// A record on its way to the disk.
struct Waiting {
    ticket: Ticket,
    /// Where its number goes.
    number: Number,
    /// A span that is over, and shows the number of a record that is durable by now.
    span: Option<(Span, Number)>,
}

/// The number of a record, once it has one; 0 before.
pub type Number = Arc<AtomicU64>;

/// An intent on its way to the disk.
pub struct Intent<'a> {
    trail: &'a Trail,
    ticket: Ticket,
}

/// Why an effect must not be done.
pub enum NotDurable {
    /// There is no record of the intent.
    Lost(JournalError),
    /// There is, but not of everything before it.
    Earlier(JournalError),
}

impl Intent<'_> {
    /// Waits until the intent and everything before it is durable; returns its number.
    pub async fn durable(self) -> Result<u64, NotDurable> {
        let receipt = self.ticket.await.map_err(NotDurable::Lost)?;
        self.trail.settled().await.map_err(NotDurable::Earlier)?;
        Ok(receipt.sequence)
    }
}

/// What is recorded of one moment.
pub struct Note<'a> {
    pub kind: Kind,
    pub call: Option<u64>,
    pub context: &'a Context,
    pub body: Value,
    pub payloads: Vec<Payload>,
}

impl Trail {
    /// Returns the trail of a step that begins.
    pub fn new(journal: Arc<Journal>, of: Of) -> Self {
        let Of { tenant, step, job, agent } = of;
        let (pending, settling) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { journal, tenant, step, job, agent, pending, settling }
    }

    /// Records without waiting for the disk. Used where nothing leaves the step.
    pub async fn note(&self, note: Note<'_>) -> Result<Number, JournalError> {
        self.room().await?;
        self.note_now(note, None)
    }

    /// Waits until not too many records are under way: for the older half of them, so that the next ones need not wait.
    pub async fn room(&self) -> Result<(), JournalError> {
        let under_way = self.pending().waiting.len();
        if under_way >= PENDING_MAX { self.settle(under_way - PENDING_MAX / 2).await } else { Ok(()) }
    }

    /// As [`Trail::note`], for where nothing can wait. The span, if there is one, ends now and shows the number, which is
    /// this record's if there is none. An outcome is recorded even if an earlier record was lost.
    pub fn note_now(&self, note: Note<'_>, span: Option<(Span, Option<Number>)>) -> Result<Number, JournalError> {
        let mut pending = self.pending();
        if pending.broken && note.kind != Kind::Outcome {
            return Err(broken());
        }
        let last = note.kind == Kind::Result;
        match self.journal.append(Entry { patient: true, ..self.entry(note) }) {
            Ok(ticket) => {
                let number = Number::default();
                let span = span.map(|(mut span, shown)| {
                    span.stop();
                    (span, shown.unwrap_or_else(|| number.clone()))
                });
                pending.waiting.push_back(Waiting { ticket, number: number.clone(), span });
                if pending.broken { Err(broken()) } else { Ok(number) }
            }
            Err(error) => {
                // After the result nothing leaves the step.
                pending.broken |= !last;
                Err(error)
            }
        }
    }

    /// Records, and waits until this and everything before it is durable.
    pub async fn durable(&self, note: Note<'_>) -> Result<Receipt, JournalError> {
        let checkpointed = note.kind == Kind::Result;
        let receipt = self.journal.append(Entry { checkpointed, ..self.entry(note) })?.await?;
        self.settled().await?;
        Ok(receipt)
    }

    /// Records the intent of an effect. It may be done once the [`Intent`] is durable.
    pub fn intend(&self, note: Note<'_>) -> Result<Intent<'_>, JournalError> {
        Ok(Intent { trail: self, ticket: self.journal.append(self.entry(note))? })
    }

    /// Waits until everything so far is durable or lost. Fails if anything was lost.
    pub async fn settled(&self) -> Result<(), JournalError> {
        let so_far = self.pending().waiting.len();
        self.settle(so_far).await
    }

    /// Waits for the record that is waited for now, and for so many after it.
    async fn settle(&self, mut records: usize) -> Result<(), JournalError> {
        let mut current = self.settling.lock().await;
        loop {
            if current.is_none() && records > 0 {
                records -= 1;
                *current = self.pending().waiting.pop_front();
            }
            let Some(waiting) = current.as_mut() else { break };
            let resolved = (&mut waiting.ticket).await;
            let Some(Waiting { number, span, .. }) = current.take() else { break };
            match resolved {
                Ok(receipt) => number.store(receipt.sequence, Ordering::Relaxed),
                Err(_) => self.pending().broken = true,
            }
            if let Some((mut span, shown)) = span {
                span.journaled(shown.load(Ordering::Relaxed));
            }
        }
        if self.pending().broken { Err(broken()) } else { Ok(()) }
    }

    fn entry(&self, note: Note<'_>) -> Entry {
        Entry {
            step: Some(self.step.clone()),
            call: note.call,
            job: self.job.clone(),
            agent: self.agent.clone(),
            trace: note.context.trace_id(),
            span: note.context.span_id(),
            payloads: note.payloads,
            ..Entry::new(note.kind, self.tenant.as_str(), note.body)
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn broken() -> JournalError {
    JournalError::Poisoned("a record of this step was lost".into())
}
