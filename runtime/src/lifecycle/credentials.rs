//! How a credential is revoked and restored: recorded, kept, and then so.

use std::io;

use serde_json::json;
use tokio::{
    sync::Mutex,
    task::{JoinError, block_in_place},
};

use super::Lifecycle;
use crate::{
    config::DEFAULT_TENANT,
    credentials::{Credentials, Status},
    journal::{Entry, JournalError, Kind},
    store::Revocations,
};

/// A credential that is not revoked or restored.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error("there is no credential `{0}`: list what there is")]
    NotFound(String),
    #[error("the change cannot be recorded: {0}")]
    Unrecorded(#[from] JournalError),
    #[error("the change cannot be kept: {0}")]
    Unkept(#[from] io::Error),
    #[error("the daemon failed: {0}")]
    Failed(#[from] JoinError),
}

/// What is kept of revocations. Held while one is made.
pub struct Revoking(Mutex<Revocations>);

impl Revoking {
    /// Revokes again what was revoked before the daemon started.
    pub fn resume(revocations: Revocations, credentials: &Credentials) -> Self {
        for name in revocations.names() {
            credentials.revoke(name.as_str()); // one that is not configured now may be again, later
        }
        Self(Mutex::new(revocations))
    }
}

impl Lifecycle {
    /// Returns what can be said of a credential.
    pub fn credential(&self, name: &str) -> Result<Status, CredentialError> {
        let found = self.credentials().list().into_iter().find(|status| status.name.as_str() == name);
        found.ok_or_else(|| CredentialError::NotFound(name.chars().take(80).collect()))
    }

    /// Revokes a credential from the next call on, or takes that back. The same once more is a success, and no record.
    pub async fn set_credential_revoked(&self, name: &str, revoked: bool) -> Result<Status, CredentialError> {
        let (this, found) = (self.clone(), self.credential(name)?);
        self.whole(async move { this.revoke(found, revoked).await }).await?
    }

    async fn revoke(&self, found: Status, revoked: bool) -> Result<Status, CredentialError> {
        let name = found.name;
        let mut revocations = self.0.revoking.0.lock().await;
        let now = self.credential(name.as_str())?;
        if now.revoked == revoked && revocations.names().contains(&name) == revoked {
            return Ok(now);
        }
        let body = json!({ "change": if revoked { "revoked" } else { "restored" }, "credential": name });
        self.0.journal.append(Entry::new(Kind::Credential, DEFAULT_TENANT, body))?.await?;
        let kept = block_in_place(|| revocations.set(&name, revoked));
        if revoked {
            // What cannot be kept is revoked all the same, for as long as the daemon runs.
            self.credentials().revoke(name.as_str());
            kept?;
        } else {
            kept?;
            self.credentials().restore(name.as_str());
        }
        self.credential(name.as_str())
    }
}
