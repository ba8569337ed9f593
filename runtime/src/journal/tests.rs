//! Tests of the journal as a whole, on real files.

mod appending;
mod crashes;
mod exports;
mod failures;
mod mutations;
mod notes;
mod payloads;
mod proofs;
mod reading;
mod records;
mod tampering;

use std::{future::Future, path::Path};

use serde_json::json;
use tempfile::TempDir;

use super::{Entry, Journal, Kind, Options, Payload, Receipt, Stored, Ticket};

/// A journal in a folder of its own.
struct Fixture {
    journal: Journal,
    folder: TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self::with(Options::default())
    }

    fn with(options: Options) -> Self {
        let folder = TempDir::new().unwrap();
        let journal = Journal::open(folder.path(), options).unwrap().0;
        Self { journal, folder }
    }

    /// A journal that has `count` records.
    fn of(count: u64) -> Self {
        let fixture = Self::new();
        fixture.add(count);
        fixture
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Appends this many entries and returns their receipts.
    fn add(&self, count: u64) -> Vec<Receipt> {
        receipts((0..count).map(|n| self.journal.append(entry(n)).unwrap()).collect())
    }

    fn append(&self, entry: Entry) -> Receipt {
        wait(self.journal.append(entry).unwrap()).unwrap()
    }

    fn all(&self) -> Vec<Stored> {
        self.journal.scan(super::Filter::default()).collect::<Result<_, _>>().unwrap()
    }

    /// Closes the journal and returns its folder.
    fn closed(self) -> TempDir {
        self.journal.close().unwrap();
        self.folder
    }
}

fn entry(n: u64) -> Entry {
    Entry {
        step: Some(format!("step-{}", n % 7)),
        call: Some(n),
        ..Entry::new(Kind::Denial, "acme", json!({ "n": n }))
    }
}

fn text_payload(text: &str) -> Payload {
    Payload { bytes: text.as_bytes().to_vec(), media_type: "text/plain".to_owned() }
}

fn json_payload(text: &str) -> Payload {
    Payload { bytes: text.as_bytes().to_vec(), media_type: "application/json".to_owned() }
}

fn receipts(tickets: Vec<Ticket>) -> Vec<Receipt> {
    tickets.into_iter().map(|ticket| wait(ticket).unwrap()).collect()
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}
