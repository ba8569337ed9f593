//! Verifies an export with nothing but the public key. Trusts no byte of it, and keeps one line of it at a time.

use std::io::{BufRead, Read as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    checkpoint::{Checkpoint, PublicKey},
    export::{self, Footer, Header, absent_line, payload_frame},
    merkle::{Frontier, Hash},
    payload::{PAYLOAD_BYTES_MAX, PayloadNote},
    record::{self, INTEGER_MAX, RECORD_BYTES_MAX, Record},
};
use crate::step::Digest;

/// The longest line: a payload in base64, and its digest.
const LINE_BYTES_MAX: usize = (PAYLOAD_BYTES_MAX as usize).div_ceil(3) * 4 + 256;

/// What an export was found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    pub from: u64,
    pub to: u64,
    /// The number of records.
    pub records: u64,
    /// The number of payloads that are there and are what their records name.
    pub payloads: u64,
    /// The number of payloads that were kept once and are said to be deleted.
    pub absent: u64,
    /// Whether a held checkpoint was given, and is of the same journal. Without one, this proves integrity only up
    /// to the checkpoint in the export: an export that was cut short and ends with an older checkpoint cannot be
    /// told from a whole one.
    pub anchored: bool,
}

/// The first thing that is wrong with an export.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}", place(*line, *sequence))]
pub struct BadExport {
    /// The line, from 1. 0 if it is the held checkpoint.
    pub line: u64,
    /// The record that is wrong, or after which something is.
    pub sequence: Option<u64>,
    pub problem: String,
}

/// Verifies the export `input` with the journal's public key, and that it continues what the checkpoint `held`,
/// which somebody kept since, commits to.
///
/// Checks that each record is canonical, has the next number and the hash of the one before; that the payloads are
/// those that the records name; and that the checkpoint at the end is signed and is of this tree.
pub fn verify(mut input: impl BufRead, key: &PublicKey, held: Option<&str>) -> Result<Verified, BadExport> {
    let held = held.map(|note| Checkpoint::open(note, key)).transpose().map_err(|error| BadExport {
        line: 0,
        sequence: None,
        problem: format!("{error}"),
    })?;
    let mut lines = Lines { input: &mut input, line: 0, sequence: None };
    let header = lines.header(key)?;
    let mut run = Run::new(&lines, &header)?;
    if let Some(held) = &held {
        lines.check_reach(held, &header)?;
        lines.check_held(held, &run.tree)?;
    }
    for sequence in header.from..=header.to {
        match run.entry(&mut lines, &header, sequence) {
            Ok(()) => {}
            Err(Flaw::Plain(bad)) => return Err(bad),
            Err(Flaw::Link(broken)) => return Err(run.blame(*broken, lines, &header, key)),
        }
        if let Some(held) = &held {
            lines.check_held(held, &run.tree)?;
        }
    }
    lines.footer(key, &run.tree)?;
    let records = header.to + 1 - header.from;
    let anchored = held.is_some();
    Ok(Verified { from: header.from, to: header.to, records, payloads: run.payloads, absent: run.absent, anchored })
}

struct Lines<'a, R> {
    input: &'a mut R,
    line: u64,
    sequence: Option<u64>,
}

impl<R: BufRead> Lines<'_, R> {
    /// Returns the next line without its end.
    fn next(&mut self) -> Result<Vec<u8>, BadExport> {
        self.line += 1;
        let mut bytes = Vec::new();
        let read = self.input.by_ref().take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut bytes);
        read.map_err(|error| self.bad(format!("it cannot be read: {error}")))?;
        match bytes.pop() {
            Some(b'\n') => Ok(bytes),
            None => Err(self.bad("the export ends here: it was cut short")),
            Some(_) if bytes.len() >= LINE_BYTES_MAX => Err(self.bad("the line is too long")),
            Some(_) => Err(self.bad("the export ends within this line: it was cut short")),
        }
    }

    fn header(&mut self, key: &PublicKey) -> Result<Header, BadExport> {
        let line = self.next()?;
        let header: Header = self.parse(&line, "this is not the first line of an export")?;
        if header.palisade_journal != export::VERSION {
            return Err(self.bad("the export is of another version: verify it with the palisade that wrote it"));
        }
        if header.origin != key.name() {
            let origin: String = header.origin.chars().take(80).collect();
            return Err(self.bad(format!("the export is of `{origin}`, but the public key is of `{}`", key.name())));
        }
        // An export without records ends before it begins.
        let sound = header.from >= 1 && header.to <= INTEGER_MAX && header.from <= header.to + 1;
        if sound { Ok(header) } else { Err(self.bad("its `from` and `to` are no range")) }
    }

    fn footer(&mut self, key: &PublicKey, tree: &Frontier) -> Result<(), BadExport> {
        let line = self.next()?;
        let footer: Footer = self.parse(&line, "after the last record, this is not the checkpoint")?;
        let checkpoint = Checkpoint::open(&footer.checkpoint, key)
            .map_err(|error| self.bad(format!("the checkpoint at the end: {error}")))?;
        if checkpoint.size != tree.size() {
            let (says, has) = (checkpoint.size, tree.size());
            return Err(self.bad(format!("the checkpoint at the end is of {says} records, but the export has {has}")));
        }
        if checkpoint.root != tree.root() {
            return Err(self.bad("the checkpoint at the end is of other records than these"));
        }
        let rest = self.input.fill_buf().map(|rest| rest.is_empty());
        self.line += 1;
        match rest {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.bad("something follows the checkpoint")),
            Err(error) => Err(self.bad(format!("it cannot be read: {error}"))),
        }
    }

    /// Checks that the export can be compared with the held checkpoint.
    fn check_reach(&self, held: &Checkpoint, header: &Header) -> Result<(), BadExport> {
        let (size, before) = (held.size, header.from - 1);
        if size > header.to {
            let missing = size - header.to;
            let problem = format!("truncated: {missing} records that the held checkpoint commits to are missing");
            return Err(BadExport { line: self.line, sequence: Some(header.to + 1), problem });
        }
        if size < before {
            return Err(self.bad(format!(
                "the held checkpoint is of {size} records, before the first one here: export from record {} or before",
                size + 1
            )));
        }
        Ok(())
    }

    /// Compares the tree with the held checkpoint when it has that size.
    fn check_held(&self, held: &Checkpoint, tree: &Frontier) -> Result<(), BadExport> {
        if held.size != tree.size() || held.root == tree.root() {
            return Ok(());
        }
        Err(self.bad(format!("the first {} records are not those that the held checkpoint commits to", held.size)))
    }

    /// Reads a line that must be canonical.
    fn parse<T: DeserializeOwned + Serialize>(&self, line: &[u8], problem: &str) -> Result<T, BadExport> {
        let value: T = serde_json::from_slice(line).map_err(|_| self.bad(problem))?;
        match serde_json_canonicalizer::to_vec(&value) {
            Ok(canonical) if canonical == line => Ok(value),
            _ => Err(self.bad(problem)),
        }
    }

    fn bad(&self, problem: impl Into<String>) -> BadExport {
        BadExport { line: self.line, sequence: self.sequence, problem: problem.into() }
    }
}

/// What is wrong with a record.
enum Flaw {
    Plain(BadExport),
    /// It does not follow the one before.
    Link(Box<BrokenLink>),
}

/// Two records of which one was changed.
struct BrokenLink {
    bad: BadExport,
    /// The hash of the one before, as the later one has it.
    claimed: Hash,
    /// The later one's own hash, and what it says about its payloads.
    hash: Hash,
    notes: Vec<PayloadNote>,
}

impl From<BadExport> for Flaw {
    fn from(bad: BadExport) -> Self {
        Self::Plain(bad)
    }
}

/// What the lines so far add up to.
struct Run {
    tree: Frontier,
    /// The tree without the last record, and the line of that one.
    before: Option<(Frontier, u64)>,
    /// The hash of the record before. Unknown before the first one here, if that is not the journal's first.
    previous: Option<Hash>,
    payloads: u64,
    absent: u64,
}

impl Run {
    fn new<R: BufRead>(lines: &Lines<'_, R>, header: &Header) -> Result<Self, BadExport> {
        let hashes = header.frontier.iter().map(|hash| hash.parse()).collect::<Result<Vec<Hash>, _>>();
        let tree = hashes.ok().and_then(|hashes| Frontier::new(header.from - 1, hashes));
        let tree = tree.ok_or_else(|| lines.bad("its `frontier` does not belong to its `from`"))?;
        let previous = (header.from == 1).then_some(Hash::ZERO);
        Ok(Self { tree, before: None, previous, payloads: 0, absent: 0 })
    }

    /// Reads a record and its payloads.
    fn entry<R: BufRead>(&mut self, lines: &mut Lines<'_, R>, header: &Header, sequence: u64) -> Result<(), Flaw> {
        lines.sequence = Some(sequence);
        let notes = self.record(lines, sequence)?;
        Ok(self.kept(lines, header, &notes)?)
    }

    /// Reads the payloads of a record.
    fn kept<R: BufRead>(
        &mut self,
        lines: &mut Lines<'_, R>,
        header: &Header,
        notes: &[PayloadNote],
    ) -> Result<(), BadExport> {
        let kept = notes.iter().filter_map(PayloadNote::kept_as).filter(|_| header.payloads);
        kept.into_iter().try_for_each(|digest| self.payload(lines, &digest))
    }

    /// Says which of two records was changed: the first, if with the hash that the second has of it everything else is
    /// as the checkpoint says.
    fn blame<R: BufRead>(
        self,
        broken: BrokenLink,
        mut lines: Lines<'_, R>,
        header: &Header,
        key: &PublicKey,
    ) -> BadExport {
        let BrokenLink { bad, claimed, hash, notes } = broken;
        let (Some((mut tree, line)), Some(second)) = (self.before, bad.sequence) else { return bad };
        tree.push(claimed, |_| ());
        tree.push(hash, |_| ());
        let mut rest = Self { tree, before: None, previous: Some(hash), payloads: 0, absent: 0 };
        let mut sound = rest.kept(&mut lines, header, &notes).is_ok();
        for sequence in second + 1..=header.to {
            sound = sound && rest.entry(&mut lines, header, sequence).is_ok();
        }
        if sound && lines.footer(key, &rest.tree).is_ok() {
            let problem = "the record was changed: those after it and the checkpoint say so".into();
            return BadExport { line, sequence: Some(second - 1), problem };
        }
        bad
    }

    /// Reads a record. Returns what it says about its payloads.
    fn record<R: BufRead>(&mut self, lines: &mut Lines<'_, R>, sequence: u64) -> Result<Vec<PayloadNote>, Flaw> {
        let line = lines.next()?;
        if line.len() > RECORD_BYTES_MAX {
            return Err(lines.bad("the record is too long").into());
        }
        let value: serde_json::Value = lines.parse(&line, "this is no record in canonical form")?;
        let record: Record = serde_json::from_value(value).map_err(|_| lines.bad("this is no record"))?;
        if record.version != record::VERSION {
            return Err(lines
                .bad("the record is of another version: verify it with the palisade that wrote it")
                .into());
        }
        if record.sequence != sequence {
            let found = record.sequence;
            return Err(lines.bad(format!("here should be record {sequence}, but it is record {found}")).into());
        }
        let hash = Hash::leaf(&line);
        let notes = record.payloads();
        let notes = notes.ok_or_else(|| lines.bad("what the record says about its payloads makes no sense"))?;
        if self.previous.is_some_and(|previous| previous.to_string() != record.previous) {
            let bad = lines.bad("the record does not follow the one before: one of the two was changed");
            return Err(match record.previous.parse() {
                Ok(claimed) => Flaw::Link(Box::new(BrokenLink { bad, claimed, hash, notes })),
                Err(_) => Flaw::Plain(bad),
            });
        }
        self.before = Some((self.tree.clone(), lines.line));
        self.tree.push(hash, |_| ());
        self.previous = Some(hash);
        Ok(notes)
    }

    /// Reads the payload that the record before names.
    fn payload<R: BufRead>(&mut self, lines: &mut Lines<'_, R>, digest: &Digest) -> Result<(), BadExport> {
        let line = lines.next()?;
        if line == absent_line(digest).as_bytes() {
            self.absent += 1;
            return Ok(());
        }
        let (before, after) = payload_frame(digest);
        let base64 = line.strip_prefix(before.as_bytes()).and_then(|rest| rest.strip_suffix(after.as_bytes()));
        let bytes = base64.and_then(|base64| STANDARD.decode(base64).ok());
        let bytes = bytes.ok_or_else(|| lines.bad(format!("here should be the payload `{digest}` of the record")))?;
        if Digest::of(&bytes) != *digest {
            return Err(lines.bad(format!("these are not the bytes of the payload `{digest}`")));
        }
        self.payloads += 1;
        Ok(())
    }
}

fn place(line: u64, sequence: Option<u64>) -> String {
    match (line, sequence) {
        (0, _) => "the held checkpoint".to_owned(),
        (_, None) => format!("line {line}"),
        (_, Some(sequence)) => format!("line {line}, record {sequence}"),
    }
}
