//! `filesystem`: which file is which. To a guest, files are numbered in the order in which it first looked: the numbers
//! that a host gives them are different on each disk.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sha2::{Digest as _, Sha256};

use super::{Exceeded, quota::FileId};
use crate::step::FIXED;

/// The numbers of the files that a step has looked at. The tools that it calls share them: they change the same files.
#[derive(Clone, Default)]
pub struct Objects(Arc<Mutex<Numbers>>);

#[derive(Default)]
struct Numbers {
    next: u64,
    of: HashMap<FileId, u64>,
}

impl Objects {
    /// Returns the number of a file, a new one if it has none.
    pub fn number(&self, id: FileId) -> Result<u64, Exceeded> {
        let mut numbers = self.numbers();
        if let Some(number) = numbers.of.get(&id) {
            return Ok(*number);
        }
        if numbers.of.len() as u64 == FIXED.objects {
            return Err(Exceeded { limit: "objects", value: FIXED.objects });
        }
        numbers.next += 1;
        let number = numbers.next;
        numbers.of.insert(id, number);
        Ok(number)
    }

    /// Forgets a file that no directory names any more: the host will call another file the same.
    pub fn forget(&self, id: FileId) {
        self.numbers().of.remove(&id);
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a file is to its guest.
#[derive(Clone, Copy)]
pub enum Object {
    Numbered(u64),
    /// No directory names it; it is open as this descriptor.
    Deleted(u32),
}

impl Object {
    /// Returns 128 bits that stand for it, other ones for each seed.
    pub fn hash(self, seed: &[u8; 32]) -> (u64, u64) {
        let (kind, number) = match self {
            Self::Numbered(number) => (0, number),
            Self::Deleted(descriptor) => (1, u64::from(descriptor)),
        };
        let hash = Sha256::new().chain_update(b"palisade object\0").chain_update(seed).chain_update([kind]);
        let hash = hash.chain_update(number.to_be_bytes()).finalize();
        let half = |from: usize| hash[from..from + 8].iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte));
        (half(0), half(8))
    }
}
