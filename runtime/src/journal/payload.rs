//! Payloads: bytes that records name by digest, kept beside them so that they can be deleted.

use std::{cell::Cell, fmt};

use serde::{
    Deserialize, Serialize,
    de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

use crate::step::Digest;

/// The largest payload that is kept, whatever the policy says: 1 MiB.
pub const PAYLOAD_BYTES_MAX: u64 = 1 << 20;

/// Bytes that a record names, such as the arguments or the output of a call.
#[derive(Debug, Clone)]
pub struct Payload {
    pub bytes: Vec<u8>,
    pub media_type: String,
}

/// Which payloads are kept, and what is taken out of them.
#[derive(Debug, Clone)]
pub struct PayloadPolicy {
    /// Whether any is kept. Records name them by digest in any case.
    pub keep: bool,
    /// The largest one that is kept, up to 1 MiB.
    pub bytes_max: u64,
    /// Keys of JSON objects, at any depth and in any case, whose values are replaced by `"[redacted]"`.
    pub redact: Vec<String>,
}

impl Default for PayloadPolicy {
    /// Keeps payloads of up to 64 KiB as they are.
    fn default() -> Self {
        Self { keep: true, bytes_max: 64 << 10, redact: Vec::new() }
    }
}

/// What a record says about a payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayloadNote {
    #[serde(with = "digest_text")]
    pub digest: Digest,
    pub size: u64,
    pub media_type: String,
    pub kept: Kept,
    /// The digest of what is kept, where that is not the payload itself.
    #[serde(default, with = "optional_digest_text", skip_serializing_if = "Option::is_none")]
    pub kept_digest: Option<Digest>,
}

impl PayloadNote {
    /// Returns the digest of the bytes that were kept, if any were.
    pub fn kept_as(&self) -> Option<Digest> {
        match self.kept {
            Kept::Whole => Some(self.digest),
            Kept::Redacted => self.kept_digest,
            Kept::None => None,
        }
    }
}

/// How much of a payload was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kept {
    Whole,
    Redacted,
    None,
}

/// Returns what the record says about a payload, and the bytes to keep.
pub fn judge(payload: Payload, policy: &PayloadPolicy) -> (PayloadNote, Option<Vec<u8>>) {
    let Payload { bytes, media_type } = payload;
    let digest = Digest::of(&bytes);
    let size = bytes.len() as u64;
    let fits = policy.keep && size <= policy.bytes_max.min(PAYLOAD_BYTES_MAX);
    let found = if fits { redact(&bytes, &media_type, &policy.redact) } else { Redaction::Impossible };
    let (kept, kept_digest, bytes) = match found {
        Redaction::NothingToHide => (Kept::Whole, None, Some(bytes)),
        Redaction::Done(redacted) => (Kept::Redacted, Some(Digest::of(&redacted)), Some(redacted)),
        Redaction::Impossible => (Kept::None, None, None),
    };
    (PayloadNote { digest, size, media_type, kept, kept_digest }, bytes)
}

enum Redaction {
    NothingToHide,
    Done(Vec<u8>),
    /// It seems to be JSON, but who knows what is in it.
    Impossible,
}

fn redact(bytes: &[u8], media_type: &str, keys: &[String]) -> Redaction {
    if keys.is_empty() {
        return Redaction::NothingToHide;
    }
    let keys: Vec<String> = keys.iter().map(|key| key.to_lowercase()).collect();
    let found = Cell::new(false);
    let mut source = serde_json::Deserializer::from_slice(bytes);
    let read = Redacting { keys: &keys, found: &found }.deserialize(&mut source);
    match read.and_then(|value| source.end().map(|()| value)) {
        Ok(_) if !found.get() => Redaction::NothingToHide,
        Ok(value) => serde_json::to_vec(&value).map_or(Redaction::Impossible, Redaction::Done),
        Err(_) if looks_like_json(bytes, media_type) => Redaction::Impossible,
        Err(_) => Redaction::NothingToHide,
    }
}

fn looks_like_json(bytes: &[u8], media_type: &str) -> bool {
    // A byte order mark and blanks come before the first sign of JSON in some documents.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    media_type.to_ascii_lowercase().contains("json") || matches!(bytes.first(), Some(b'{' | b'['))
}

/// Reads a value and leaves out what is secret. Sees each key, also one that the same object has twice, which a
/// plain [`Value`] would hide.
#[derive(Clone, Copy)]
struct Redacting<'a> {
    keys: &'a [String],
    found: &'a Cell<bool>,
}

impl<'de> DeserializeSeed<'de> for Redacting<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Redacting<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            let value = if self.keys.contains(&key.to_lowercase()) {
                self.found.set(true);
                members.next_value::<IgnoredAny>()?;
                Value::from("[redacted]")
            } else {
                members.next_value_seed(self)?
            };
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

/// Digests as people write them.
mod digest_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::step::Digest;

    pub fn serialize<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(digest)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

mod optional_digest_text {
    use serde::{Deserializer, Serializer};

    use super::digest_text;
    use crate::step::Digest;

    pub fn serialize<S: Serializer>(digest: &Option<Digest>, serializer: S) -> Result<S::Ok, S::Error> {
        match digest {
            Some(digest) => digest_text::serialize(digest, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Digest>, D::Error> {
        digest_text::deserialize(deserializer).map(Some)
    }
}
