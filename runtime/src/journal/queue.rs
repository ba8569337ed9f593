//! The queue in front of the writer, and what comes back from it.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{merkle::Hash, record::Prepared};
use crate::step::Digest;

/// Why something was not recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    #[error("the journal is busy: try again")]
    Busy,
    #[error("the entry has {bytes} bytes, but at most {max} are recorded at once: make it smaller")]
    TooLarge { bytes: usize, max: usize },
    #[error("the entry cannot be recorded: {0}")]
    BadEntry(&'static str),
    #[error("the disk of the journal is full: free some space, then work resumes by itself")]
    Full,
    /// What was on its way may or may not be recorded.
    #[error("the journal failed and takes nothing until the daemon is restarted: {0}")]
    Poisoned(Arc<str>),
    #[error("the journal is closed")]
    Closed,
}

/// How the journal does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    Healthy,
    /// The last write found no room. The next one tries again.
    Full,
    /// The disk failed for this reason. Nothing is recorded until a restart.
    Poisoned(Arc<str>),
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Healthy => f.write_str("healthy"),
            Self::Full => JournalError::Full.fmt(f),
            Self::Poisoned(why) => JournalError::Poisoned(why.clone()).fmt(f),
        }
    }
}

/// A record that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub sequence: u64,
    pub hash: Hash,
    /// The signed checkpoint that covers the record, if the entry asked for one.
    pub checkpoint: Option<Arc<str>>,
}

/// Resolves once the entry is durable, or is known not to be. Dropping it does not take the entry back.
#[derive(Debug)]
pub struct Ticket(oneshot::Receiver<Result<Receipt, JournalError>>);

impl Future for Ticket {
    type Output = Result<Receipt, JournalError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.0).poll(context));
        Poll::Ready(answer.unwrap_or(Err(JournalError::Closed)))
    }
}

/// One entry that waits, and who waits for it.
pub struct Pending {
    pub entry: Prepared,
    pub answer: oneshot::Sender<Result<Receipt, JournalError>>,
}

impl Pending {
    /// Returns a waiting entry and the ticket for it.
    pub fn new(entry: Prepared) -> (Self, Ticket) {
        let (answer, ticket) = oneshot::channel();
        (Self { entry, answer }, Ticket(ticket))
    }
}

/// A payload that is to be deleted.
pub struct Delete {
    pub digest: Digest,
    pub answer: oneshot::Sender<Result<bool, JournalError>>,
}

/// Everything that waited at one moment.
#[derive(Default)]
pub struct Work {
    pub entries: Vec<Pending>,
    pub deletes: Vec<Delete>,
    /// Nothing comes any more.
    pub closed: bool,
}

/// What waits for the writer, within bounds.
pub struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    entries_max: usize,
    bytes_max: usize,
}

/// How long entries wait for others that nobody waits for.
const PATIENCE: Duration = Duration::from_millis(2);

/// Entries that nobody waits for, and that are enough to be written all the same.
const PATIENT_MAX: usize = 256;

#[derive(Default)]
struct Waiting {
    work: Work,
    bytes: usize,
    /// Somebody waits for some of it.
    urgent: bool,
    /// The writer sleeps until so many wait.
    wanted: usize,
}

/// What the writer waits for, once something waits: those whom it has just answered are about to come again, and
/// one transaction for all costs hardly more than one for some.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gathering {
    pub entries: usize,
    pub time: Duration,
}

impl Queue {
    pub fn new(entries_max: usize, bytes_max: usize) -> Self {
        Self { waiting: Mutex::default(), changed: Condvar::new(), entries_max, bytes_max }
    }

    /// Adds entries that become neighbours, all or none.
    pub fn push(&self, entries: Vec<Pending>) -> Result<(), JournalError> {
        let bytes: usize = entries.iter().map(|pending| pending.entry.weight()).sum();
        if bytes > self.bytes_max {
            return Err(JournalError::TooLarge { bytes, max: self.bytes_max });
        }
        if entries.len() > self.entries_max {
            return Err(JournalError::BadEntry("there are more entries at once than the queue can hold"));
        }
        let mut waiting = self.open()?;
        let room = waiting.bytes + bytes <= self.bytes_max && waiting.len() + entries.len() <= self.entries_max;
        if !room {
            return Err(JournalError::Busy);
        }
        waiting.bytes += bytes;
        let urgent = entries.iter().any(|pending| !pending.entry.patient);
        waiting.work.entries.extend(entries);
        self.wake(&mut waiting, urgent);
        Ok(())
    }

    /// Adds a deletion.
    pub fn push_delete(&self, delete: Delete) -> Result<(), JournalError> {
        let mut waiting = self.open()?;
        if waiting.len() >= self.entries_max {
            return Err(JournalError::Busy);
        }
        waiting.work.deletes.push(delete);
        self.wake(&mut waiting, true);
        Ok(())
    }

    /// Lets nothing more in.
    pub fn close(&self) {
        self.lock().work.closed = true;
        self.changed.notify_one();
    }

    /// Takes everything, soon after there is something, and at `deadline` at the latest. Blocks.
    pub fn take(&self, mut deadline: Option<Instant>, gathering: Gathering) -> Work {
        let mut waiting = self.lock();
        waiting.wanted = 1;
        // Whether somebody was seen to wait.
        let mut seen = None;
        loop {
            let now = Instant::now();
            let enough = if waiting.urgent { gathering.entries.max(1) } else { PATIENT_MAX };
            if waiting.work.closed || waiting.len() >= enough || deadline.is_some_and(|d| d <= now) {
                let closed = waiting.work.closed;
                (waiting.bytes, waiting.urgent) = (0, false);
                return mem::replace(&mut waiting.work, Work { closed, ..Work::default() });
            }
            if waiting.len() > 0 && seen != Some(waiting.urgent) {
                seen = Some(waiting.urgent);
                waiting.wanted = enough;
                let until = now + if waiting.urgent { gathering.time } else { PATIENCE };
                deadline = Some(deadline.map_or(until, |deadline| deadline.min(until)));
            }
            waiting = match deadline {
                None => self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(now);
                    self.changed.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Returns how many entries wait.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    fn wake(&self, waiting: &mut Waiting, urgent: bool) {
        if waiting.len() >= waiting.wanted || (urgent && !waiting.urgent) {
            self.changed.notify_one();
        }
        waiting.urgent |= urgent;
    }

    fn open(&self) -> Result<MutexGuard<'_, Waiting>, JournalError> {
        let waiting = self.lock();
        if waiting.work.closed { Err(JournalError::Closed) } else { Ok(waiting) }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn len(&self) -> usize {
        self.work.entries.len() + self.work.deletes.len()
    }
}
