//! What passes in one direction of an exchange: counted, hashed, and its beginning kept.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{journal::Payload, step::Digest};

/// The bytes of one body, as they pass.
pub struct Flow {
    bytes: u64,
    hash: Sha256,
    /// All of them, as long as they are few.
    kept: Option<Vec<u8>>,
    kept_bytes_max: usize,
}

impl Flow {
    /// Returns a flow of nothing yet, of which at most so many bytes are kept.
    pub fn new(kept_bytes_max: usize) -> Self {
        Self { bytes: 0, hash: Sha256::new(), kept: Some(Vec::new()), kept_bytes_max }
    }

    /// Takes note of what passes.
    pub fn pass(&mut self, data: &[u8]) {
        self.bytes += data.len() as u64;
        self.hash.update(data);
        let max = self.kept_bytes_max;
        self.kept = self.kept.take().filter(|kept| kept.len() + data.len() <= max).map(|mut kept| {
            kept.extend_from_slice(data);
            kept
        });
    }

    /// Returns how much passed.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns what is recorded of it.
    pub fn record(&self) -> Value {
        if self.bytes == 0 {
            return json!({ "bytes": 0 });
        }
        json!({ "bytes": self.bytes, "digest": Digest::from(self.hash.clone()).to_string() })
    }

    /// Returns all that passed, if it was little.
    pub fn payload(self, media_type: String) -> Option<Payload> {
        let bytes = self.kept.filter(|kept| !kept.is_empty())?;
        let media_type = if media_type.is_empty() { "application/octet-stream".into() } else { media_type };
        Some(Payload { bytes, media_type })
    }
}
