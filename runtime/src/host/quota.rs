//! How much a step may still add to a writable tree: bytes by apparent size, and directory entries.
//!
//! Every change goes through here before it happens. Deleting gives back, but not while the file is still open: its
//! bytes are on the disk until the last handle is gone. A tree belongs to one step at a time, so sizes do not
//! change behind our back; for a mount that others write to as well, the count is of what this step did.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::step::Quota;

#[cfg(test)]
mod tests;

/// Identity of a file: wasi:filesystem's metadata hash.
pub type FileId = (u64, u64);

/// The quota that would be exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("disk quota exceeded")]
pub struct Full;

/// A writable tree and what may still be added to it.
#[derive(Clone)]
pub struct Tree(Arc<Mutex<State>>);

struct State {
    /// Others write to the tree as well: what this step did not add, it gets no credit for.
    shared: bool,
    left: Quota,
    start: Quota,
    files: HashMap<FileId, File>,
}

impl State {
    fn give_back(&mut self, bytes: u64, entries: u64) {
        let most = if self.shared { self.start } else { Quota { bytes: u64::MAX, entries: u64::MAX } };
        self.left.bytes = self.left.bytes.saturating_add(bytes).min(most.bytes);
        self.left.entries = self.left.entries.saturating_add(entries).min(most.entries);
    }
}

/// A file that is open.
struct File {
    bytes: u64,
    handles: usize,
    /// No directory names it any more: its bytes come back with its last handle.
    unlinked: bool,
}

/// One handle of a file that is open.
pub struct Handle {
    tree: Tree,
    id: FileId,
}

/// An entry that is charged and not made yet.
#[must_use]
pub struct Entry {
    tree: Tree,
    kept: bool,
}

impl Entry {
    /// Keeps the charge: the entry was made.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.kept {
            self.tree.remove_entry();
        }
    }
}

impl Tree {
    /// Returns a tree that can still take `left`. A shared one never takes more than that in all.
    pub fn new(left: Quota, shared: bool) -> Self {
        Self(Arc::new(Mutex::new(State { shared, left, start: left, files: HashMap::new() })))
    }

    /// Returns by how many bytes and entries the tree grew; negative if it shrank.
    pub fn growth(&self) -> (i64, i64) {
        let state = self.state();
        let difference = |start: u64, left: u64| start as i64 - left as i64;
        (difference(state.start.bytes, state.left.bytes), difference(state.start.entries, state.left.entries))
    }

    /// Returns whether `other` is the same tree.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Charges one new file, directory or link. It is given back unless it is kept.
    pub fn add_entry(&self) -> Result<Entry, Full> {
        let mut state = self.state();
        state.left.entries = state.left.entries.checked_sub(1).ok_or(Full)?;
        Ok(Entry { tree: self.clone(), kept: false })
    }

    /// Gives one entry back.
    pub fn remove_entry(&self) {
        self.state().give_back(0, 1);
    }

    /// Gives the bytes of a file back that lost its last name.
    pub fn unlink(&self, id: FileId, bytes: u64) {
        let mut state = self.state();
        match state.files.get_mut(&id) {
            Some(file) => file.unlinked = true,
            None => state.give_back(bytes, 0),
        }
    }

    /// Registers a file that is open and holds `bytes` now.
    pub fn open(&self, id: FileId, bytes: u64) -> Handle {
        let mut state = self.state();
        let file = state.files.entry(id).or_insert(File { bytes, handles: 0, unlinked: false });
        file.handles += 1;
        drop(state);
        Handle { tree: self.clone(), id }
    }

    /// Gives back what opening a file with `truncate` frees. `bytes` is what it held.
    pub fn truncated(&self, id: FileId, bytes: u64) {
        let mut state = self.state();
        let freed = match state.files.get_mut(&id) {
            Some(file) => std::mem::take(&mut file.bytes),
            None => bytes,
        };
        state.give_back(freed, 0);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way, so the numbers are good even if a holder panicked elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handle {
    /// Charges a write of `bytes` at `offset`, by how far it reaches beyond the end.
    pub fn write(&self, offset: u64, bytes: u64) -> Result<(), Full> {
        self.grow_to(offset.checked_add(bytes).ok_or(Full)?)
    }

    /// Charges `bytes` at the end.
    pub fn append(&self, bytes: u64) -> Result<(), Full> {
        let end = self.bytes();
        self.grow_to(end.checked_add(bytes).ok_or(Full)?)
    }

    /// Charges or gives back the difference to a new size.
    pub fn set_bytes(&self, bytes: u64) -> Result<(), Full> {
        if bytes > self.bytes() {
            return self.grow_to(bytes);
        }
        let mut state = self.tree.state();
        if let Some(file) = state.files.get_mut(&self.id) {
            let freed = file.bytes - bytes;
            file.bytes = bytes;
            state.give_back(freed, 0);
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.tree.state().files.get(&self.id).map_or(0, |file| file.bytes)
    }

    fn grow_to(&self, end: u64) -> Result<(), Full> {
        let mut state = self.tree.state();
        let left = state.left.bytes;
        if let Some(file) = state.files.get_mut(&self.id) {
            let growth = end.saturating_sub(file.bytes);
            let left = left.checked_sub(growth).ok_or(Full)?;
            file.bytes += growth;
            state.left.bytes = left;
        }
        Ok(())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.tree.state();
        let Some(file) = state.files.get_mut(&self.id) else { return };
        file.handles -= 1;
        if file.handles == 0 {
            let freed = if file.unlinked { file.bytes } else { 0 };
            state.files.remove(&self.id);
            state.give_back(freed, 0);
        }
    }
}
