//! The journal as the daemon holds it.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::sync::{oneshot, watch};

use super::{
    checkpoint::PublicKey,
    entry::Entry,
    payload::PayloadPolicy,
    queue::{Delete, Gathering, Health, JournalError, Pending, Queue, Ticket},
    readers::Readers,
    record::Prepared,
    shared::Shared,
    startup::{self, Checked, OpenError},
    writer::{OnCommit, Writer},
};
use crate::step::Digest;

/// How a journal works.
pub struct Options {
    pub payloads: PayloadPolicy,
    /// How often a checkpoint is written if there are new records.
    pub checkpoint_interval: Duration,
    /// Entries that may wait for the disk, and their bytes.
    pub queue_entries: usize,
    pub queue_bytes: usize,
    /// Called by the writer after each commit, with the number of records and how long it took. Must be quick.
    pub on_commit: Option<OnCommit>,
}

impl Default for Options {
    /// A checkpoint each minute; 8,192 entries or 64 MiB may wait; payloads of up to 64 KiB are kept.
    fn default() -> Self {
        Self {
            payloads: PayloadPolicy::default(),
            checkpoint_interval: Duration::from_secs(60),
            queue_entries: 8_192,
            queue_bytes: 64 << 20,
            on_commit: None,
        }
    }
}

/// What was found when the journal was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Whether the last stop was not a clean one.
    pub recovered: bool,
    /// The number of records.
    pub records: u64,
}

/// The journal of a node. Only one may be open on a folder at a time.
pub struct Journal {
    pub(super) shared: Arc<Shared>,
    pub(super) readers: Readers,
    payloads: PayloadPolicy,
    writer: Mutex<Option<JoinHandle<Result<(), JournalError>>>>,
}

impl Journal {
    /// Opens the journal in a folder that exists, or creates it and its key. Checks the last 1,000 records and the
    /// last checkpoint. Blocks.
    pub fn open(folder: &Path, options: Options) -> Result<(Self, Opened), OpenError> {
        Self::start(folder, startup::open(folder)?, options)
    }

    /// Starts the writer and opens the readers of a journal that was checked.
    pub(super) fn start(folder: &Path, checked: Checked, options: Options) -> Result<(Self, Opened), OpenError> {
        let opened = Opened { recovered: checked.recovered, records: checked.frontier.size() };
        let path = folder.join("journal.db");
        let readers = Readers::open(&path).map_err(|error| OpenError::Database { path, error: error.to_string() })?;
        let queue = Queue::new(options.queue_entries, options.queue_bytes);
        let shared = Arc::new(Shared::new(queue, checked.key, checked.frontier));
        let writer = Writer {
            connection: checked.connection,
            shared: shared.clone(),
            last: checked.last,
            checkpointed: checked.checkpointed,
            checkpoint_interval: options.checkpoint_interval,
            on_commit: options.on_commit,
            logged: 0,
            gathering: Gathering::default(),
        };
        let writer = thread::Builder::new().name("journal".to_owned()).spawn(|| writer.run());
        let writer = Mutex::new(Some(writer.map_err(OpenError::Thread)?));
        Ok((Self { shared, readers, payloads: options.payloads, writer }, opened))
    }

    /// Queues an entry. Hashes its payloads, but never waits for the disk.
    pub fn append(&self, entry: Entry) -> Result<Ticket, JournalError> {
        self.shared.check()?;
        let (pending, ticket) = Pending::new(Prepared::new(entry, &self.payloads)?);
        self.shared.queue.push(vec![pending])?;
        Ok(ticket)
    }

    /// Queues entries that become neighbours and are recorded all or not at all. Their tickets are in their order.
    pub fn append_all(&self, entries: Vec<Entry>) -> Result<Vec<Ticket>, JournalError> {
        self.shared.check()?;
        let prepared = entries.into_iter().map(|entry| Prepared::new(entry, &self.payloads).map(Pending::new));
        let (pending, tickets) = prepared.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        self.shared.queue.push(pending)?;
        Ok(tickets)
    }

    /// Deletes the bytes of a payload, also where it was kept redacted. Returns whether there were any. The caller
    /// records the deletion.
    pub async fn delete_payload(&self, digest: Digest) -> Result<bool, JournalError> {
        self.shared.check()?;
        let (answer, deleted) = oneshot::channel();
        self.shared.queue.push_delete(Delete { digest, answer })?;
        deleted.await.unwrap_or(Err(JournalError::Closed))
    }

    /// Returns how the journal does.
    pub fn health(&self) -> Health {
        self.shared.health()
    }

    /// Returns how many entries wait for the disk.
    pub fn queued(&self) -> usize {
        self.shared.queue.len()
    }

    /// Returns the sequence number of the last durable record, and each one after it.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.durable.subscribe()
    }

    /// Returns a signed checkpoint of all durable records.
    pub fn checkpoint(&self) -> String {
        let frontier = self.shared.frontier();
        self.shared.key.sign(frontier.size(), frontier.root())
    }

    /// Returns the key that verifies checkpoints, as signed notes write it.
    pub fn public_key(&self) -> PublicKey {
        self.shared.key.public()
    }

    /// Records what waits, writes a last checkpoint and stops. Nothing can be appended or read after. Blocks.
    ///
    /// Fails if the journal was poisoned.
    pub fn close(&self) -> Result<(), JournalError> {
        self.shared.queue.close();
        self.readers.close();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        writer.map_or(Ok(()), |writer| writer.join().unwrap_or(Err(JournalError::Closed)))
    }
}

impl Drop for Journal {
    /// Lets the writer end, without waiting for it.
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}
