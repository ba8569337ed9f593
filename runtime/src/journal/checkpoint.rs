//! Checkpoints: signed statements of how long the journal is and what its root is, in the C2SP tlog-checkpoint
//! and signed-note forms.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha256};

use super::merkle::Hash;

/// The signature type of Ed25519 in signed notes.
const ED25519: u8 = 1;

/// The largest checkpoint that is read, with the signatures of others: 64 KiB.
const NOTE_BYTES_MAX: usize = 64 << 10;

/// What a checkpoint says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The name of the journal.
    pub origin: String,
    /// The number of records.
    pub size: u64,
    pub root: Hash,
}

/// A journal's name and the key that signs for it. Written as `<name>+<hash of key>+<key>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    key: VerifyingKey,
}

/// A text that is no public key of a journal.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no public key of a journal: write `<name>+<8 hex digits>+<base64>`")]
pub struct BadPublicKey(String);

/// A checkpoint that cannot be relied on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCheckpoint {
    #[error("it is no checkpoint: {0}")]
    Malformed(&'static str),
    #[error("it is of `{found}`, not of `{expected}`: use the public key that belongs to it")]
    OtherOrigin { found: String, expected: String },
    #[error("it has no signature of `{0}`")]
    Unsigned(String),
    #[error("its signature is not by the key of `{0}`")]
    BadSignature(String),
}

impl Checkpoint {
    /// Returns the text that is signed.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.0))
    }

    /// Reads a signed checkpoint and verifies that `key` signed it. Signatures of others are not looked at.
    pub fn open(note: &str, key: &PublicKey) -> Result<Self, BadCheckpoint> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(BadCheckpoint::Malformed("it is too long"));
        }
        let end = note.find("\n\n").ok_or(BadCheckpoint::Malformed("there is no blank line before its signatures"))?;
        let (text, signatures) = (&note[..end + 1], &note[end + 2..]);
        let checkpoint = Self::parse(text)?;
        if checkpoint.origin != key.name {
            let found = checkpoint.origin.chars().take(80).collect();
            return Err(BadCheckpoint::OtherOrigin { found, expected: key.name.clone() });
        }
        let signatures = signatures.strip_suffix('\n').ok_or(BadCheckpoint::Malformed("its last line does not end"))?;
        let mut signed = false;
        for line in signatures.split('\n') {
            let (name, bytes) = parse_signature(line).ok_or(BadCheckpoint::Malformed("a signature line is broken"))?;
            if name == key.name && bytes.starts_with(&key.id()) {
                key.verify(text.as_bytes(), &bytes[4..])?;
                signed = true;
            }
        }
        if signed { Ok(checkpoint) } else { Err(BadCheckpoint::Unsigned(key.name.clone())) }
    }

    fn parse(text: &str) -> Result<Self, BadCheckpoint> {
        let malformed = BadCheckpoint::Malformed;
        let mut lines = text.strip_suffix('\n').unwrap_or(text).split('\n');
        let origin = lines.next().filter(|line| !line.is_empty()).ok_or(malformed("it names no origin"))?;
        let size = lines.next().ok_or(malformed("it has no size"))?;
        let root = lines.next().ok_or(malformed("it has no root"))?;
        if lines.next().is_some() {
            return Err(malformed("it has more than three lines"));
        }
        let canonical = size.parse().ok().filter(|number: &u64| number.to_string() == size);
        let size = canonical.ok_or(malformed("its size is no number"))?;
        let root = STANDARD.decode(root).ok().and_then(|bytes| Hash::from_bytes(&bytes));
        Ok(Self { origin: origin.to_owned(), size, root: root.ok_or(malformed("its root is no hash"))? })
    }
}

impl PublicKey {
    /// Returns the public key of the journal `name`.
    pub(super) fn new(name: String, key: VerifyingKey) -> Self {
        Self { name, key }
    }

    /// Returns the name of the journal, which is the origin of its checkpoints.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what signature lines name the key by.
    pub(super) fn id(&self) -> [u8; 4] {
        key_id(&self.name, &self.key)
    }

    fn verify(&self, text: &[u8], signature: &[u8]) -> Result<(), BadCheckpoint> {
        let bad = || BadCheckpoint::BadSignature(self.name.clone());
        let signature = Signature::from_slice(signature).map_err(|_| bad())?;
        self.key.verify_strict(text, &signature).map_err(|_| bad())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[ED25519], self.key.as_bytes().as_slice()].concat();
        write!(f, "{}+{:08x}+{}", self.name, u32::from_be_bytes(self.id()), STANDARD.encode(key))
    }
}

impl FromStr for PublicKey {
    type Err = BadPublicKey;

    fn from_str(text: &str) -> Result<Self, BadPublicKey> {
        let bad = || BadPublicKey(text.chars().take(120).collect());
        let mut parts = text.trim().splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad());
        };
        let bytes = STANDARD.decode(key).map_err(|_| bad())?;
        let [ED25519, bytes @ ..] = bytes.as_slice() else { return Err(bad()) };
        let key = bytes.try_into().ok().and_then(|bytes| VerifyingKey::from_bytes(bytes).ok()).ok_or_else(bad)?;
        let public = Self { name: name.to_owned(), key };
        let named = is_name(name) && id == format!("{:08x}", u32::from_be_bytes(public.id()));
        if named { Ok(public) } else { Err(bad()) }
    }
}

/// Returns the signature line of a note.
pub(super) fn signature_line(name: &str, id: [u8; 4], signature: &[u8]) -> String {
    format!("\u{2014} {name} {}\n", STANDARD.encode([id.as_slice(), signature].concat()))
}

/// Returns the id of a key, as signed notes compute it.
pub(super) fn key_id(name: &str, key: &VerifyingKey) -> [u8; 4] {
    let hash = Sha256::new().chain_update(name).chain_update([b'\n', ED25519]).chain_update(key.as_bytes()).finalize();
    [hash[0], hash[1], hash[2], hash[3]]
}

/// Returns whether signed notes allow the name of a key.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c == '+')
}

fn parse_signature(line: &str) -> Option<(&str, Vec<u8>)> {
    let (name, signature) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    let bytes = STANDARD.decode(signature).ok()?;
    (is_name(name) && bytes.len() > 4).then_some((name, bytes))
}
