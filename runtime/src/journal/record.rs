//! Records: the canonical bytes that are hashed, and how to read them again.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    entry::{Entry, Kind},
    merkle::Hash,
    payload::{PayloadNote, PayloadPolicy, judge},
    queue::JournalError,
};
use crate::step::Digest;

/// The largest record: 256 KiB of canonical JSON.
pub const RECORD_BYTES_MAX: usize = 256 << 10;

/// The version of the form of records.
pub const VERSION: u64 = 1;

/// The largest integer that every reader of JSON keeps exactly: 2^53 − 1.
pub const INTEGER_MAX: u64 = (1 << 53) - 1;

const DEPTH_MAX: u32 = 64;

/// What the writer fills in: two clocks, a sequence number and a hash, in digits.
const FILLED_BYTES_MAX: usize = 3 * 20 + 64;

/// A record as it is read. Its canonical bytes, not this, are what is hashed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Record {
    pub version: u64,
    pub sequence: u64,
    /// The hash of the record before, as hex digits.
    pub previous: String,
    /// Milliseconds since 1970, by a clock that can jump. Only `sequence` orders records.
    pub time_ms: u64,
    /// Microseconds since the machine was booted.
    pub boot_us: u64,
    /// A [`Kind`], or one of a newer version.
    pub kind: String,
    pub tenant: String,
    pub step: Option<String>,
    pub call: Option<u64>,
    pub job: Option<String>,
    pub agent: Option<String>,
    pub trace: Option<String>,
    pub span: Option<String>,
    pub body: Map<String, Value>,
}

impl Record {
    /// Returns what the record says about its payloads. None if that makes no sense.
    pub(super) fn payloads(&self) -> Option<Vec<PayloadNote>> {
        self.body.get("payloads").map_or(Some(Vec::new()), |notes| Vec::deserialize(notes).ok())
    }
}

/// An entry whose canonical bytes are finished except for what only the writer knows.
pub struct Prepared {
    pub kind: Kind,
    pub tenant: String,
    pub step: Option<String>,
    pub call: Option<u64>,
    pub job: Option<String>,
    pub agent: Option<String>,
    pub kept: Vec<KeptPayload>,
    pub checkpointed: bool,
    pub patient: bool,
    /// The canonical bytes without the values of `boot_us`, `previous`, `sequence` and `time_ms`.
    text: Vec<u8>,
    /// Where in `text` those go, in this order, which is the order of their names.
    gaps: [usize; 4],
}

/// A payload to keep.
pub struct KeptPayload {
    pub digest: Digest,
    pub kept_digest: Digest,
    pub bytes: Vec<u8>,
}

/// The clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub time_ms: u64,
    pub boot_us: u64,
}

impl Prepared {
    /// Checks an entry and writes its canonical bytes.
    pub fn new(entry: Entry, policy: &PayloadPolicy) -> Result<Self, JournalError> {
        let Entry { kind, tenant, step, call, job, agent, trace, span, body, payloads, checkpointed, patient } = entry;
        check_ids(kind, step.is_some(), call)?;
        let Value::Object(mut body) = body else {
            return Err(JournalError::BadEntry("its body is no JSON object"));
        };
        if body.contains_key("payloads") {
            return Err(JournalError::BadEntry("its body has the key `payloads`, which is reserved"));
        }
        body.values().try_for_each(|value| check_value(value, DEPTH_MAX - 1))?;
        let (notes, kept) = judge_all(payloads, policy);
        if !notes.is_empty() {
            let notes = serde_json::to_value(notes).map_err(|_| JournalError::BadEntry("its payloads are no JSON"))?;
            body.insert("payloads".to_owned(), notes);
        }

        // Canonical JSON sorts members by name.
        let mut text = Text(vec![b'{']);
        text.member_if("agent", &agent)?;
        text.member("body", &body)?;
        text.raw("\"boot_us\":");
        let boot_us = text.0.len();
        text.raw(",");
        text.member_if("call", &call)?;
        text.member_if("job", &job)?;
        text.member("kind", kind.as_str())?;
        text.raw("\"previous\":\"");
        let previous = text.0.len();
        text.raw("\",\"sequence\":");
        let sequence = text.0.len();
        text.raw(",");
        text.member_if("span", &span)?;
        text.member_if("step", &step)?;
        text.member("tenant", &tenant)?;
        text.raw("\"time_ms\":");
        let time_ms = text.0.len();
        text.raw(",");
        text.member_if("trace", &trace)?;
        text.raw(&format!("\"version\":{VERSION}}}"));
        let Text(text) = text;

        let bytes = text.len() + FILLED_BYTES_MAX;
        if bytes > RECORD_BYTES_MAX {
            return Err(JournalError::TooLarge { bytes, max: RECORD_BYTES_MAX });
        }
        let gaps = [boot_us, previous, sequence, time_ms];
        Ok(Self { kind, tenant, step, call, job, agent, kept, checkpointed, patient, text, gaps })
    }

    /// Returns the bytes that this holds in memory, about.
    pub fn weight(&self) -> usize {
        size_of::<Self>() + 2 * self.text.len() + self.kept.iter().map(|payload| payload.bytes.len()).sum::<usize>()
    }

    /// Returns the canonical bytes of the record.
    pub fn record(&self, sequence: u64, previous: &Hash, moment: Moment) -> Vec<u8> {
        let filled =
            [moment.boot_us.to_string(), previous.to_string(), sequence.to_string(), moment.time_ms.to_string()];
        let mut record = Vec::with_capacity(self.text.len() + FILLED_BYTES_MAX);
        let mut done = 0;
        for (gap, value) in self.gaps.into_iter().zip(filled) {
            record.extend_from_slice(&self.text[done..gap]);
            record.extend_from_slice(value.as_bytes());
            done = gap;
        }
        record.extend_from_slice(&self.text[done..]);
        record
    }
}

struct Text(Vec<u8>);

impl Text {
    fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    fn member(&mut self, name: &str, value: &(impl Serialize + ?Sized)) -> Result<(), JournalError> {
        self.raw(&format!("\"{name}\":"));
        serde_json_canonicalizer::to_writer(&value, &mut self.0)
            .map_err(|_| JournalError::BadEntry("it cannot be written as canonical JSON"))?;
        self.raw(",");
        Ok(())
    }

    fn member_if(&mut self, name: &str, value: &Option<impl Serialize>) -> Result<(), JournalError> {
        value.as_ref().map_or(Ok(()), |value| self.member(name, value))
    }
}

/// What is recovered after a crash is found by these ids.
fn check_ids(kind: Kind, step: bool, call: Option<u64>) -> Result<(), JournalError> {
    match kind {
        Kind::Step | Kind::Label | Kind::Result if !step => Err(JournalError::BadEntry("its kind needs `step`")),
        Kind::Intent | Kind::Outcome if !step || call.is_none() => {
            Err(JournalError::BadEntry("its kind needs `step` and `call`"))
        }
        _ if call.is_some_and(|call| call > INTEGER_MAX) => Err(JournalError::BadEntry("its `call` is above 2^53 - 1")),
        _ => Ok(()),
    }
}

/// Refuses what canonical JSON would change or a reader of the record would refuse.
fn check_value(value: &Value, depth: u32) -> Result<(), JournalError> {
    match value {
        Value::Number(number) => {
            let exact = match (number.as_u64(), number.as_i64()) {
                (Some(value), _) => value <= INTEGER_MAX,
                (_, Some(value)) => value.unsigned_abs() <= INTEGER_MAX,
                _ => true,
            };
            let problem = "its body has an integer beyond 2^53 - 1: write it as a text";
            if exact { Ok(()) } else { Err(JournalError::BadEntry(problem)) }
        }
        Value::Array(_) | Value::Object(_) if depth == 0 => {
            Err(JournalError::BadEntry("its body has more than 64 levels"))
        }
        Value::Array(items) => items.iter().try_for_each(|item| check_value(item, depth - 1)),
        Value::Object(members) => members.values().try_for_each(|member| check_value(member, depth - 1)),
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
    }
}

fn judge_all(payloads: Vec<super::payload::Payload>, policy: &PayloadPolicy) -> (Vec<PayloadNote>, Vec<KeptPayload>) {
    let mut kept = Vec::new();
    let notes = payloads.into_iter().map(|payload| {
        let (note, bytes) = judge(payload, policy);
        if let (Some(kept_digest), Some(bytes)) = (note.kept_as(), bytes) {
            kept.push(KeptPayload { digest: note.digest, kept_digest, bytes });
        }
        note
    });
    (notes.collect(), kept)
}
