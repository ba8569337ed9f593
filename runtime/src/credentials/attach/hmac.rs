//! Requests that are signed with HMAC-SHA-256.
//!
//! What is signed are these lines, each but the last with a newline at its end:
//!
//! ```text
//! HMAC-SHA256
//! <seconds since 1970, as in the timestamp header>
//! <method>
//! <host header: without a port that the scheme implies>
//! <path, as on the wire>
//! <query, as on the wire, without `?`; may be empty>
//! <SHA-256 of the body in lower-case hex>
//! ```
//!
//! The signature is in lower-case hex.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderName;
use sha2_11::{Digest, Sha256};

use super::{Attach, Attached, Sets, Signing, check_sent, made::Made, marked, name, no_memory};
use crate::credentials::{
    cache::Clock,
    config::HmacHeaders,
    scrub::Scrubber,
    source::{Read, Unreadable},
};

/// Signs requests.
pub struct Signer {
    key_id: String,
    key_id_header: HeaderName,
    timestamp_header: HeaderName,
    signature_header: HeaderName,
    source: Arc<dyn Read>,
    clock: Clock,
    made: Made<Scrubber>,
}

impl Signer {
    /// Returns a signer with the key in `source`.
    pub fn new(key_id: String, headers: &HmacHeaders, source: Arc<dyn Read>, clock: Clock) -> Result<Self, String> {
        Ok(Self {
            key_id,
            key_id_header: name(&headers.key_id)?,
            timestamp_header: name(&headers.timestamp)?,
            signature_header: name(&headers.signature)?,
            source,
            clock,
            made: Made::default(),
        })
    }
}

#[async_trait]
impl Attach for Signer {
    fn sets(&self) -> Sets {
        let headers = [&self.key_id_header, &self.timestamp_header, &self.signature_header];
        Sets { headers: headers.map(HeaderName::clone).into(), parameters: Vec::new() }
    }

    fn needs_body(&self) -> bool {
        true
    }

    async fn attach(&self, to: &Signing<'_>) -> Result<(Attached, u64), Unreadable> {
        let key = self.source.read().await?;
        let (scrubber, version) = self.made.of(&[&key], || {
            check_sent(&key)?;
            Scrubber::of(&[key.expose()]).map_err(no_memory)
        })?;
        let seconds = (self.clock)().duration_since(SystemTime::UNIX_EPOCH).as_ref().map_or(0, Duration::as_secs);
        let seconds = seconds.to_string();
        let lines = [
            "HMAC-SHA256",
            &seconds,
            to.method.as_str(),
            &to.authority(),
            to.path,
            to.query.unwrap_or_default(),
            &hex(&Sha256::digest(to.body.unwrap_or_default())),
        ];
        let signature = hex(&mac(key.expose(), lines.join("\n").as_bytes()));
        let headers = vec![
            (self.key_id_header.clone(), marked(&self.key_id)?),
            (self.timestamp_header.clone(), marked(&seconds)?),
            (self.signature_header.clone(), marked(&signature)?),
        ];
        Ok((Attached { headers, scrubber, ..Attached::default() }, version))
    }

    fn forget(&self) -> bool {
        self.source.forget() | self.made.forget()
    }
}

/// Returns the HMAC-SHA-256 of a text.
pub fn mac(key: &[u8], text: &[u8]) -> [u8; 32] {
    // Its key may have any length: the error is for other kinds of MAC. No server would take the zeros.
    Hmac::<Sha256>::new_from_slice(key).map_or([0; 32], |mac| mac.chain_update(text).finalize().into_bytes().into())
}

/// Returns lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
