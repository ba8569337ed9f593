//! Many patterns, searched at once, without a copy of them on the heap.
//!
//! Automata such as Aho-Corasick copy what they search for into ordinary memory, which is dumped and never wiped. Here
//! the patterns stay in the pages of a [`Secret`], in order, and a small table of hashes of their beginnings says
//! where it is worth looking.

use std::{io, ops::Range};

use zeroize::Zeroizing;

use super::encodings;
use crate::credentials::secret::Secret;

/// Bytes of a pattern's beginning that are hashed.
const HEAD: usize = 4;

/// Bits of a hash. With 60 patterns, one position in 1,000 is looked at in vain.
const BITS: u32 = 16;

/// What is searched for.
pub struct Patterns {
    /// All patterns, in order, one after the other; then the table: a bit for each hash of a pattern's first bytes.
    pages: Secret,
    /// Where each pattern is.
    ranges: Vec<Range<usize>>,
    longest: usize,
    /// Some pattern is shorter than what is hashed: every position must be looked at.
    short: bool,
}

impl Patterns {
    /// Returns the encodings of the values.
    pub fn of(values: &[&[u8]]) -> io::Result<Self> {
        let mut patterns: Vec<Zeroizing<Vec<u8>>> = values.iter().flat_map(|value| encodings::all(value)).collect();
        patterns.sort_by(|a, b| a.as_slice().cmp(b));
        patterns.dedup_by(|a, b| a.as_slice() == b.as_slice());
        let mut ranges = Vec::with_capacity(patterns.len());
        let mut end = 0;
        for pattern in &patterns {
            ranges.push(end..end + pattern.len());
            end += pattern.len();
        }
        let table = vec![0; 1 << (BITS - 3)];
        let mut parts: Vec<&[u8]> = patterns.iter().map(|pattern| &pattern[..]).collect();
        parts.push(&table);
        let mut pages = Secret::of(&parts)?;
        let table = &mut pages.expose_mut()[end..];
        for hash in patterns.iter().filter_map(|pattern| hash(pattern)) {
            table[hash / 8] |= 1 << (hash % 8);
        }
        let longest = patterns.iter().map(|pattern| pattern.len()).max().unwrap_or(0);
        let short = patterns.iter().any(|pattern| pattern.len() < HEAD);
        Ok(Self { pages, ranges, longest, short })
    }

    /// Returns the length of the longest pattern.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// Returns how many bytes at the beginning of `text` begin no pattern for sure.
    pub fn skip(&self, text: &[u8]) -> usize {
        if self.short {
            return 0;
        }
        let table = self.table();
        let sure = text.windows(HEAD).position(|head| hash(head).is_some_and(|hash| may(table, hash)));
        sure.unwrap_or_else(|| text.len().saturating_sub(HEAD - 1))
    }

    /// Returns the length of the longest pattern that `text` begins with.
    pub fn longest_at(&self, text: &[u8]) -> Option<usize> {
        if !self.worth(text) {
            return None;
        }
        // Everything that `text` begins with is not above it, and shares with it more and more bytes, the nearer it
        // is. The search ends at the first pattern that differs from `text` in the first byte.
        let above = self.ranges.partition_point(|range| self.pattern(range) <= text);
        let below = self.ranges[..above].iter().rev().map(|range| self.pattern(range));
        let mut near = below.take_while(|pattern| pattern.first() == text.first());
        near.find(|pattern| text.starts_with(pattern)).map(<[u8]>::len)
    }

    /// Returns whether more bytes after `text` could make a pattern of it, beginning with its first byte.
    pub fn may_begin(&self, text: &[u8]) -> bool {
        if text.len() >= self.longest || !self.worth(text) {
            return false;
        }
        let above = self.ranges.partition_point(|range| self.pattern(range) <= text);
        self.ranges.get(above).is_some_and(|range| self.pattern(range).starts_with(text))
    }

    /// Returns whether a look at the patterns could find something.
    fn worth(&self, text: &[u8]) -> bool {
        self.short || hash(text).is_none_or(|hash| may(self.table(), hash))
    }

    fn pattern(&self, range: &Range<usize>) -> &[u8] {
        &self.pages.expose()[range.clone()]
    }

    fn table(&self) -> &[u8] {
        &self.pages.expose()[self.ranges.last().map_or(0, |range| range.end)..]
    }
}

fn may(table: &[u8], hash: usize) -> bool {
    table[hash / 8] >> (hash % 8) & 1 == 1
}

/// Returns the hash of the first bytes, if there are enough.
fn hash(text: &[u8]) -> Option<usize> {
    let head = u32::from_le_bytes(*text.first_chunk::<HEAD>()?);
    Some((head.wrapping_mul(0x9e37_79b1) >> (32 - BITS)) as usize)
}
