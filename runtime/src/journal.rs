//! The journal: every decision and every effect, in an order that nobody can change unnoticed.
//!
//! Records are chained by hash, are the leaves of an RFC 6962 Merkle tree, and lie in one SQLite file that one
//! thread writes. An [`Entry`] becomes a record; its [`Ticket`] resolves once the record is durable. Signed
//! checkpoints commit to the whole tree, and [`verify`] checks an export with the public key alone.
//!
//! ```text
//! folder/journal.db    the records, in WAL mode
//!        journal.key   the signing key and the journal's name
//! ```

mod checkpoint;
mod entry;
mod export;
mod handle;
mod key;
mod merkle;
mod payload;
mod proof;
mod queue;
mod read;
mod readers;
mod record;
mod schema;
mod shared;
mod startup;
#[cfg(test)]
mod tests;
mod transaction;
mod verify;
mod writer;

pub use checkpoint::{BadCheckpoint, BadPublicKey, Checkpoint, PublicKey};
pub use entry::{Entry, Kind, UnknownKind};
pub use export::{ExportError, Exported};
pub use handle::{Journal, Opened, Options};
pub use key::KeyError;
pub use merkle::{BadHash, Hash};
pub use payload::{Payload, PayloadPolicy};
pub use queue::{Health, JournalError, Receipt, Ticket};
pub use read::{Filter, LIST_MAX, Scan, Stored, Unfinished};
pub use readers::ReadError;
pub use record::{RECORD_BYTES_MAX, Record};
pub use startup::OpenError;
pub use verify::{BadExport, Verified, verify};
