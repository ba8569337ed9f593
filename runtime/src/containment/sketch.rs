//! How often the same was asked, of more different things than anybody can keep.

use std::hash::{BuildHasher, RandomState};

use crate::step::Digest;

/// Cells of a row. So many different calls in the time make each count about one too high.
const COLUMNS: usize = 512;

/// Rows: the least of them counts.
const ROWS: usize = 3;

/// Parts of the time. What is too old leaves part by part: it holds all of the time, and at most two parts more.
const SLICES: u64 = 8;

const LAYERS: usize = SLICES as usize + 1;

/// A count-min sketch over a time that slides. It may say more than was asked and never less: whoever loops cannot hide
/// behind other calls, and many other calls make it look worse. Where a call counts depends on a key that no guest knows.
pub struct Sketch {
    slice_ms: u64,
    newest: u64,
    /// One for each slice, each with its rows one after the other.
    layers: Box<[[u16; ROWS * COLUMNS]; LAYERS]>,
}

impl Sketch {
    pub fn new(within_ms: u64) -> Self {
        Self { slice_ms: within_ms.div_ceil(SLICES), newest: 0, layers: Box::new([[0; ROWS * COLUMNS]; LAYERS]) }
    }

    /// Counts a call; returns how often it was made, or more.
    pub fn add(&mut self, at_ms: u64, call: Digest, key: &RandomState) -> u64 {
        self.advance(at_ms / self.slice_ms);
        let hash = key.hash_one(call);
        let newest = (self.newest % LAYERS as u64) as usize;
        let counts = (0..ROWS).map(|row| {
            let column = (hash >> (16 * row)) as usize % COLUMNS;
            let cell = row * COLUMNS + column;
            self.layers[newest][cell] = self.layers[newest][cell].saturating_add(1);
            self.layers.iter().map(|layer| u64::from(layer[cell])).sum()
        });
        counts.min().unwrap_or(0)
    }

    pub fn clear(&mut self) {
        self.layers.as_flattened_mut().fill(0);
    }

    fn advance(&mut self, slice: u64) {
        if slice.abs_diff(self.newest) > SLICES {
            self.clear(); // nothing of it is recent, or the clock was set back
            self.newest = slice;
        }
        while self.newest < slice {
            self.newest += 1;
            self.layers[(self.newest % LAYERS as u64) as usize].fill(0);
        }
    }
}
