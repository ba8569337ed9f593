//! Exports: the journal as lines of JSON that can be verified without it.
//!
//! ```text
//! {"frontier":[…],"from":1,"origin":"palisade/…","palisade_journal":1,"payloads":true,"to":3}
//! {"body":{…},…,"sequence":1,…}                  a record, byte for byte
//! {"base64":"…","payload":"sha256:…"}            a payload of that record, in the order in which it names them
//! {"absent":true,"payload":"sha256:…"}           one that was kept once and deleted since
//! {"body":{…},…,"sequence":2,…}
//! …
//! {"checkpoint":"palisade/…\n3\n…\n\n— palisade/… …\n"}
//! ```
//!
//! All lines are canonical JSON. `frontier` has the hashes of the complete subtrees of the records before `from`.

use std::io::{self, Write};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use super::{
    handle::Journal,
    merkle::subtrees,
    read::{Filter, subtree},
    readers::ReadError,
};
use crate::step::Digest;

/// The version of the form of exports.
pub const VERSION: u64 = 1;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    pub palisade_journal: u64,
    pub origin: String,
    pub from: u64,
    pub to: u64,
    pub frontier: Vec<String>,
    /// Whether records are followed by their payloads.
    pub payloads: bool,
}

/// The last line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Footer {
    pub checkpoint: String,
}

/// What an export has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exported {
    pub from: u64,
    pub to: u64,
}

/// Why an export is not complete.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("cannot write the export: {0}")]
    Write(#[from] io::Error),
}

impl Journal {
    /// Writes the records from `from` to the last durable one, with what is left of their payloads if asked, and a
    /// checkpoint of exactly those. Takes constant memory. Blocks.
    ///
    /// `from` is at least 1 and at most one more than there are records.
    pub fn export(&self, from: u64, payloads: bool, sink: &mut dyn Write) -> Result<Exported, ExportError> {
        let tree = self.shared.frontier();
        let to = tree.size();
        if from == 0 || from > to + 1 {
            return Err(ReadError::OutOfRange { asked: from, last: to }.into());
        }
        let frontier = self.readers.with(|connection| {
            subtrees(0, from - 1)
                .map(|(level, position)| subtree(connection, level, position).map(|hash| hash.to_string()))
                .collect::<Result<Vec<_>, _>>()
        })?;
        let origin = self.public_key().name().to_owned();
        write_line(sink, &Header { palisade_journal: VERSION, origin, from, to, frontier, payloads })?;

        let range = Filter { after_sequence: Some(from - 1), before: Some(to + 1), ..Filter::default() };
        let mut last = from - 1;
        for stored in self.scan(range) {
            let stored = stored?;
            last += 1;
            if stored.sequence != last {
                return Err(ReadError::Broken(last).into());
            }
            sink.write_all(&stored.bytes)?;
            sink.write_all(b"\n")?;
            if payloads {
                let notes = stored.record()?.payloads().ok_or(ReadError::Broken(last))?;
                for (digest, kept) in notes.iter().filter_map(|note| Some((note.digest, note.kept_as()?))) {
                    let line = match self.kept_payload(digest, kept)? {
                        Some(bytes) => {
                            let (before, after) = payload_frame(&kept);
                            [before, &STANDARD.encode(bytes), &after].concat()
                        }
                        None => absent_line(&kept),
                    };
                    sink.write_all(line.as_bytes())?;
                    sink.write_all(b"\n")?;
                }
            }
        }
        if last != to {
            return Err(ReadError::Broken(last + 1).into());
        }
        write_line(sink, &Footer { checkpoint: self.shared.key.sign(to, tree.root()) })?;
        sink.flush()?;
        Ok(Exported { from, to })
    }
}

/// Returns what the line of a payload has before and after the base64.
pub fn payload_frame(digest: &Digest) -> (&'static str, String) {
    (r#"{"base64":""#, format!(r#"","payload":"{digest}"}}"#))
}

/// Returns the line of a payload that was deleted.
pub fn absent_line(digest: &Digest) -> String {
    format!(r#"{{"absent":true,"payload":"{digest}"}}"#)
}

fn write_line(sink: &mut dyn Write, line: &impl Serialize) -> io::Result<()> {
    serde_json_canonicalizer::to_writer(line, &mut &mut *sink)?;
    sink.write_all(b"\n")
}
