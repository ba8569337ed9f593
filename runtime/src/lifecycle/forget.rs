//! Deletes the bytes of a payload. The records that name it stay, and one says that it was deleted.

use serde_json::json;
use tokio::task::{JoinError, spawn_blocking};

use super::Lifecycle;
use crate::{
    config::DEFAULT_TENANT,
    journal::{Entry, JournalError, Kind, ReadError},
    step::Digest,
};

/// A payload that is not deleted.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    #[error("there is no payload `{0}`: it was too large to keep, or was deleted, or never was")]
    NotFound(Digest),
    #[error("the journal cannot be read: {0}")]
    Read(#[from] ReadError),
    #[error("the deletion cannot be recorded: {0}")]
    Unrecorded(#[from] JournalError),
    #[error("the daemon failed: {0}")]
    Failed(#[from] JoinError),
}

impl Lifecycle {
    /// Deletes a payload; returns the number of the record that says so.
    pub async fn forget(&self, digest: Digest, reason: String) -> Result<u64, ForgetError> {
        let journal = self.journal().clone();
        self.whole(async move {
            let reading = journal.clone();
            let kept = spawn_blocking(move || reading.payload(digest)).await??;
            kept.ok_or(ForgetError::NotFound(digest))?;
            let body = json!({ "payload": digest.to_string(), "reason": reason });
            let receipt = journal.append(Entry::new(Kind::Deletion, DEFAULT_TENANT, body))?.await?;
            journal.delete_payload(digest).await?;
            Ok(receipt.sequence)
        })
        .await?
    }
}
