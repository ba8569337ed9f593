//! A JSON text that has only one reading, and its canonical bytes.

use serde_json::Value;

use super::{place::Place, strict};
use crate::step::Digest;

/// How deep arrays and objects may be nested in a text.
pub const DEPTH_MAX: usize = 64;

/// The largest magnitude of a number, 2^53 − 1: above it, readers that use doubles see another number.
pub const INTEGER_MAX: u64 = (1 << 53) - 1;

/// A JSON value and its canonical bytes (RFC 8785). Parsing the bytes again gives the same value and the same bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Canonical {
    bytes: String,
    value: Value,
}

/// Why a text is refused. Places are JSON pointers, cut to a bounded length.
#[derive(Debug, thiserror::Error)]
pub enum BadJson {
    #[error("the JSON has more than {max} bytes, which is the limit")]
    TooLong { max: usize },
    #[error("the JSON starts with a byte order mark: leave it out")]
    ByteOrderMark,
    #[error("the key at {at} is there twice: write it once")]
    DuplicateKey { at: Place },
    #[error("the JSON at {at} is nested deeper than {DEPTH_MAX} levels, which is the limit")]
    TooDeep { at: Place },
    #[error("the number at {at} is beyond ±{INTEGER_MAX}, where readers disagree: send it as a string")]
    BigNumber { at: Place },
    #[error("not JSON, at {at}: {why}")]
    Syntax { at: Place, why: String },
}

impl Canonical {
    /// Parses a text.
    ///
    /// Neither the text nor its canonical bytes, which can be longer, may have more than `bytes_max` bytes. Numbers are
    /// rounded to doubles; one with an integral value becomes an integer, so that `1.0` and `1` are the same.
    pub fn parse(text: &str, bytes_max: usize) -> Result<Self, BadJson> {
        if text.len() > bytes_max {
            return Err(BadJson::TooLong { max: bytes_max });
        }
        if text.starts_with('\u{feff}') {
            return Err(BadJson::ByteOrderMark);
        }
        let value = strict::parse(text)?;
        let bytes = serde_json_canonicalizer::to_string(&value)
            .map_err(|error| BadJson::Syntax { at: Place::top(), why: error.to_string() })?;
        if bytes.len() > bytes_max {
            return Err(BadJson::TooLong { max: bytes_max });
        }
        Ok(Self { bytes, value })
    }

    /// Returns the canonical text.
    pub fn bytes(&self) -> &str {
        &self.bytes
    }

    /// Returns the value that both the text and the canonical bytes mean.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Returns the digest of the canonical bytes.
    pub fn digest(&self) -> Digest {
        Digest::of(self.bytes.as_bytes())
    }
}
