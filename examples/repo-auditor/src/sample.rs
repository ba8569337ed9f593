//! A list that neither a large nor a hostile repository can grow without limit.

use serde::Serialize;

/// So many findings of one kind are listed: more than a person reads in one go.
pub const LISTED_MAX: usize = 200;

/// Counts everything that it is given, and keeps the first of it.
#[derive(Serialize)]
pub struct Sample<T> {
    pub total: u64,
    pub first: Vec<T>,
}

impl<T> Sample<T> {
    pub fn add(&mut self, item: T) {
        self.total += 1;
        if self.first.len() < LISTED_MAX {
            self.first.push(item);
        }
    }

    /// Returns whether there is more than `first` holds.
    pub fn is_cut(&self) -> bool {
        self.total > self.first.len() as u64
    }
}

// A derived one would ask for `T: Default`.
impl<T> Default for Sample<T> {
    fn default() -> Self {
        Self { total: 0, first: Vec::new() }
    }
}
