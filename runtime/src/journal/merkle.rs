//! The Merkle tree of RFC 6962: hashes, and the frontier that grows it without keeping its leaves.

use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};

/// A SHA-256 of the tree: of a record, of an inner node, or a root. Written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// What the first record has in place of the hash of the record before it.
    pub const ZERO: Self = Self([0; 32]);

    /// Returns the hash of a record. The first byte keeps records and inner nodes apart.
    pub fn leaf(bytes: &[u8]) -> Self {
        Self(Sha256::new().chain_update([0]).chain_update(bytes).finalize().into())
    }

    /// Returns the hash of an inner node.
    pub fn node(left: &Self, right: &Self) -> Self {
        Self(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
    }

    /// Returns the root of the tree without records.
    pub fn empty() -> Self {
        Self(Sha256::digest([]).into())
    }

    /// Returns the hash that 32 bytes hold.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = BadHash;

    fn from_str(text: &str) -> Result<Self, BadHash> {
        let digits = text.as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return Err(BadHash);
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

/// A text that is no hash.
#[derive(Debug, thiserror::Error)]
#[error("a hash has 64 lower-case hex digits")]
pub struct BadHash;

fn nibble(digit: u8) -> Result<u8, BadHash> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(BadHash),
    }
}

/// A complete subtree: its 2^`level` leaves start at leaf `position` · 2^`level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    pub level: u32,
    pub position: u64,
    pub hash: Hash,
}

/// The complete subtrees that a tree consists of, the largest first: all that is needed to add to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    hashes: Vec<Hash>,
}

impl Frontier {
    /// Returns the frontier of the tree without records.
    pub fn empty() -> Self {
        Self { size: 0, hashes: Vec::new() }
    }

    /// Returns the frontier of a tree of `size` records, if that many hashes belong to it.
    pub fn new(size: u64, hashes: Vec<Hash>) -> Option<Self> {
        (hashes.len() == size.count_ones() as usize).then_some(Self { size, hashes })
    }

    /// Returns the number of records.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a record. Reports each complete subtree above it that this finishes.
    pub fn push(&mut self, leaf: Hash, mut finished: impl FnMut(Node)) {
        let (mut level, mut position, mut hash) = (0, self.size, leaf);
        // As many subtrees merge as the size has one bits at its end.
        while position & 1 == 1 {
            let Some(left) = self.hashes.pop() else { break };
            hash = Hash::node(&left, &hash);
            level += 1;
            position >>= 1;
            finished(Node { level, position, hash });
        }
        self.hashes.push(hash);
        self.size += 1;
    }

    /// Returns the root of the tree.
    pub fn root(&self) -> Hash {
        fold(&self.hashes)
    }
}

/// Returns the level and position of the complete subtrees of the leaves `start..end`, the largest first. `start`
/// is a multiple of the largest one's size.
pub fn subtrees(start: u64, end: u64) -> impl Iterator<Item = (u32, u64)> {
    let count = end - start;
    let mut at = start;
    (0..u64::BITS).rev().filter(move |level| count >> level & 1 == 1).map(move |level| {
        let position = at >> level;
        at += 1 << level;
        (level, position)
    })
}

/// Returns the root above subtrees that get smaller to the right.
pub fn fold(hashes: &[Hash]) -> Hash {
    hashes.iter().rev().copied().reduce(|right, left| Hash::node(&left, &right)).unwrap_or_else(Hash::empty)
}
