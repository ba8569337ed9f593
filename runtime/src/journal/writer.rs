//! The writer: one thread that makes everything that waits durable in one transaction.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, ffi};

use super::{
    merkle::Hash,
    queue::{Delete, Gathering, JournalError, Pending, Queue, Receipt},
    schema,
    shared::Shared,
    transaction::{self, Next},
};

/// Bytes that the write-ahead log grows by, about, before they are moved into the database.
const LOG_BYTES: usize = 4 << 20;

/// What a transaction and each of its records add to the log beside their bytes, about: pages of indices.
const TRANSACTION_BYTES: usize = 32 << 10;
const RECORD_BYTES: usize = 4 << 10;

/// The longest time that entries wait for others, so that one slow commit does not slow down the next.
const GATHERING_MAX: Duration = Duration::from_millis(1);

/// Called after each commit with the number of records and how long the transaction took.
pub type OnCommit = Box<dyn Fn(usize, Duration) + Send>;

pub struct Writer {
    pub connection: Connection,
    pub shared: Arc<Shared>,
    /// The hash of the last record.
    pub last: Hash,
    /// The size of the last checkpoint that was written.
    pub checkpointed: u64,
    pub checkpoint_interval: Duration,
    pub on_commit: Option<OnCommit>,
    /// Bytes in the log, about.
    pub logged: usize,
    pub gathering: Gathering,
}

impl Writer {
    /// Writes until the queue is closed and empty. Then writes a checkpoint and empties the log.
    pub fn run(mut self) -> Result<(), JournalError> {
        let shared = self.shared.clone();
        // Whatever ends this thread, nobody waits for it in vain.
        let _stopped = Stopped(&shared.queue);
        // What the last run left in the log goes into the file, with the name of the key.
        self.empty_log("PASSIVE");
        let mut due = self.next_checkpoint();
        loop {
            let work = shared.queue.take(due.filter(|_| self.uncommitted()), self.gathering);
            let idle = work.entries.is_empty() && work.deletes.is_empty();
            if !work.entries.is_empty() {
                self.append(work.entries);
            }
            for delete in work.deletes {
                self.delete(delete);
            }
            if self.uncommitted() && due.is_some_and(|due| Instant::now() >= due) {
                let _ = self.write_checkpoint("open"); // told by the health
                due = self.next_checkpoint();
            }
            if self.logged > LOG_BYTES {
                self.empty_log("PASSIVE");
            }
            if work.closed && idle {
                break;
            }
        }
        self.write_checkpoint("closed")?;
        self.empty_log("TRUNCATE");
        shared.check()
    }

    /// Returns when the next checkpoint is due. Never, if that is beyond what clocks can say.
    fn next_checkpoint(&self) -> Option<Instant> {
        Instant::now().checked_add(self.checkpoint_interval)
    }

    /// Returns whether there are records that no written checkpoint commits to.
    fn uncommitted(&self) -> bool {
        *self.shared.durable.borrow() > self.checkpointed
    }

    fn append(&mut self, pending: Vec<Pending>) {
        let started = Instant::now();
        let written = self.shared.check().and_then(|()| self.commit(&pending));
        let next = match written {
            Ok(next) => next,
            Err(error) => {
                for pending in pending {
                    let _ = pending.answer.send(Err(error.clone())); // fails if nobody waits any more
                }
                return;
            }
        };
        let took = started.elapsed();
        let entries = pending.len() + self.shared.queue.len();
        self.gathering = Gathering { entries, time: (took / 8).min(GATHERING_MAX) };
        let checkpoint = pending.iter().any(|pending| pending.entry.checkpointed).then(|| {
            let note = self.shared.key.sign(next.frontier.size(), next.frontier.root());
            Arc::<str>::from(note)
        });
        self.last = next.last;
        self.shared.advance(next.frontier);
        if let Some(on_commit) = &self.on_commit {
            on_commit(pending.len(), took);
        }
        for (pending, (sequence, hash)) in pending.into_iter().zip(next.places) {
            let checkpoint = checkpoint.clone().filter(|_| pending.entry.checkpointed);
            let _ = pending.answer.send(Ok(Receipt { sequence, hash, checkpoint })); // fails if nobody waits any more
        }
    }

    /// Makes entries durable. Numbers are given only here: what is rolled back leaves no gap.
    fn commit(&mut self, pending: &[Pending]) -> Result<Next, JournalError> {
        let before = Next { frontier: self.shared.frontier(), last: self.last, places: Vec::new() };
        let written = transaction::write(&mut self.connection, pending, before);
        let (next, bytes) = written.map_err(|error| self.failed(&error))?;
        self.logged += bytes + TRANSACTION_BYTES + RECORD_BYTES * pending.len();
        self.shared.succeeded();
        Ok(next)
    }

    fn delete(&mut self, delete: Delete) {
        let digest = delete.digest.hex();
        let sql = "DELETE FROM payloads WHERE digest = ?1";
        let deleted = self
            .shared
            .check()
            .and_then(|()| self.connection.execute(sql, [digest]).map_err(|error| self.failed(&error)));
        if deleted == Ok(0) || deleted.is_err() {
            let _ = delete.answer.send(deleted.map(|_| false)); // fails if nobody waits any more
            return;
        }
        self.shared.succeeded();
        // The log may hold the bytes, too.
        self.empty_log("TRUNCATE");
        let _ = delete.answer.send(Ok(true)); // fails if nobody waits any more
    }

    /// Writes a checkpoint if there is anything new, and whether the journal is in use or closed.
    fn write_checkpoint(&mut self, state: &str) -> Result<(), JournalError> {
        self.shared.check()?;
        let frontier = self.shared.frontier();
        let new = frontier.size() > self.checkpointed;
        let note = self.shared.key.sign(frontier.size(), frontier.root());
        let written = self.connection.transaction().and_then(|transaction| {
            if new {
                schema::add_checkpoint(&transaction, frontier.size(), &note)?;
            }
            schema::set_meta(&transaction, "state", state)?;
            transaction.commit()
        });
        written.map_err(|error| self.failed(&error))?;
        self.checkpointed = frontier.size();
        self.logged += TRANSACTION_BYTES;
        self.shared.succeeded();
        Ok(())
    }

    /// Moves the log into the database. Readers may keep a part of it from being moved: then the next time does.
    fn empty_log(&mut self, how: &str) {
        if self.shared.check().is_err() {
            return;
        }
        self.logged = 0;
        let sql = format!("PRAGMA wal_checkpoint({how})");
        // Effects wait for this thread, so it does not wait for readers.
        let moved = (self.connection.busy_timeout(Duration::ZERO))
            .and_then(|()| self.connection.query_row(&sql, [], |_| Ok(())));
        let restored = self.connection.busy_timeout(schema::BUSY_TIMEOUT);
        if let Err(error) = moved.and(restored) {
            self.failed(&error);
        }
    }

    /// Returns what a failure means for those who wait, after noting what it means for the journal.
    fn failed(&self, error: &rusqlite::Error) -> JournalError {
        let failure = classify(error);
        self.shared.failed(&failure);
        failure
    }
}

/// Ends the wait of everybody when the writer is gone.
struct Stopped<'a>(&'a Queue);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.close();
        drop(self.0.take(None, Gathering::default()));
    }
}

/// A failed write or fsync may have lost what was written before it, so only failures that certainly changed
/// nothing let the journal go on.
fn classify(error: &rusqlite::Error) -> JournalError {
    match error.sqlite_error() {
        Some(error) if error.code == ErrorCode::DiskFull => JournalError::Full,
        // There was no room for the index of the log, which is not kept.
        Some(error) if error.extended_code == ffi::SQLITE_IOERR_SHMSIZE => JournalError::Full,
        // Another program holds a lock, such as somebody's `sqlite3`.
        Some(error) if matches!(error.code, ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => JournalError::Busy,
        _ => JournalError::Poisoned(error.to_string().into()),
    }
}
