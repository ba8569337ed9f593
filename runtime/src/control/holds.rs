//! All holds: in memory, where every call looks, and in a file, so that a restart lifts none.

use std::{
    fs, io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::watch;

use super::{
    hold::{BadHold, Hold},
    matching::{self, Standing, Subject, Target},
    scope::Scope,
};
use crate::durable;

/// Holds at a time.
pub const HOLDS_MAX: usize = 1_000;

/// Of these, holds of containment rules. The rest is left for operators: what a crowd of agents does must not keep
/// anybody from stopping it.
pub const CONTAINMENT_HOLDS_MAX: usize = 900;

/// A hold that is not imposed, or not kept.
#[derive(Debug, thiserror::Error)]
pub enum ImposeError {
    #[error(transparent)]
    Bad(#[from] BadHold),
    #[error("there are {0} holds, which is the limit `holds`: lift one, or hold a wider scope")]
    Full(usize),
    #[error("it holds only until the daemon ends, because it cannot be kept: {0}")]
    Unkept(#[from] io::Error),
}

/// What is held. Times are given by whoever asks, as milliseconds since 1970.
pub struct Holds {
    file: PathBuf,
    spool: PathBuf,
    /// Held while something changes.
    changing: Mutex<()>,
    /// There is at least one hold: who sees none looks no further.
    any: AtomicBool,
    /// By the time since when they hold.
    in_force: RwLock<Arc<Vec<Arc<Hold>>>>,
    changed: watch::Sender<u64>,
}

impl Holds {
    /// Reads what is held. A file that is damaged is an error: to take it for empty would lift what is held.
    pub fn open(file: PathBuf, spool: PathBuf) -> io::Result<Self> {
        let holds: Vec<Arc<Hold>> = match fs::read(&file) {
            Ok(bytes) => read(&bytes).map_err(|problem| {
                io::Error::new(io::ErrorKind::InvalidData, format!("`{}` does not decode: {problem}", file.display()))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let (any, in_force) = (AtomicBool::new(!holds.is_empty()), RwLock::new(Arc::new(holds)));
        Ok(Self { file, spool, changing: Mutex::new(()), any, in_force, changed: watch::Sender::new(0) })
    }

    /// Imposes a hold: in force at once, and then kept. One that cannot be kept is in force until the daemon ends, or until
    /// the next change, which keeps it as well. A hold whose id there is stays as it is, and is returned: who asks twice
    /// has one. Blocks for the disk.
    pub fn impose(&self, hold: Hold) -> Result<Arc<Hold>, ImposeError> {
        hold.check()?;
        let _changing = self.changing();
        let mut holds = self.all().to_vec();
        // One of the same id that has ended is another.
        holds.retain(|known| known.id != hold.id || known.in_force(hold.since_ms));
        let hold = match holds.iter().find(|known| known.id == hold.id) {
            Some(known) => known.clone(),
            None => {
                check_room(&holds, &hold)?;
                let hold = Arc::new(hold);
                holds.push(hold.clone());
                self.publish(holds.clone());
                hold
            }
        };
        self.keep(&holds)?;
        Ok(hold)
    }

    /// Lifts a hold, once that is kept. None if there is none of that id. Blocks for the disk.
    pub fn lift(&self, id: &str) -> io::Result<Option<Arc<Hold>>> {
        let _changing = self.changing();
        let (lifted, rest): (Vec<_>, Vec<_>) = self.all().iter().cloned().partition(|hold| hold.id == id);
        if lifted.is_empty() {
            return Ok(None);
        }
        self.keep(&rest)?;
        self.publish(rest);
        Ok(lifted.into_iter().next())
    }

    /// Removes what holds no more, its time being up or its step not running, and returns it. Whether or not that is done, it does not hold. Blocks for the disk if
    /// there is something to remove.
    pub fn expire(&self, now_ms: u64, runs: &dyn Fn(&str) -> bool) -> io::Result<Vec<Arc<Hold>>> {
        let goes_on =
            |hold: &Arc<Hold>| hold.in_force(now_ms) && !matches!(&hold.scope, Scope::Step(step) if !runs(step));
        if self.all().iter().all(goes_on) {
            return Ok(Vec::new());
        }
        let _changing = self.changing();
        let (rest, expired): (Vec<_>, Vec<_>) = self.all().iter().cloned().partition(goes_on);
        self.keep(&rest)?;
        self.publish(rest);
        Ok(expired)
    }

    /// Returns all of them, also those that hold no more and are not removed yet.
    pub fn all(&self) -> Arc<Vec<Arc<Hold>>> {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the hold of an id.
    pub fn get(&self, id: &str) -> Option<Arc<Hold>> {
        self.all().iter().find(|hold| hold.id == id).cloned()
    }

    /// Returns the strictest hold that keeps `subject` from beginning.
    pub fn step(&self, subject: &Subject, now_ms: u64) -> Option<Arc<Hold>> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        matching::step(&self.all(), subject, now_ms)
    }

    /// Returns what becomes of a call of `subject` about `target`. `reads`: it changes nothing.
    pub fn call(&self, subject: &Subject, target: &Target, reads: bool, now_ms: u64) -> Standing {
        if !self.any.load(Ordering::Acquire) {
            return Standing::Free;
        }
        matching::call(&self.all(), subject, target, reads, now_ms)
    }

    /// Returns a number that changes with what is held, for whoever waits.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, holds: Vec<Arc<Hold>>) {
        let any = !holds.is_empty();
        let mut in_force = self.in_force.write().unwrap_or_else(PoisonError::into_inner);
        *in_force = Arc::new(holds);
        self.any.store(any, Ordering::Release);
        drop(in_force);
        self.changed.send_modify(|version| *version += 1);
    }

    fn keep(&self, holds: &[Arc<Hold>]) -> io::Result<()> {
        let holds: Vec<&Hold> = holds.iter().map(AsRef::as_ref).collect();
        durable::write(&self.file, &serde_json::to_vec(&holds)?, &self.spool)
    }
}

fn read(bytes: &[u8]) -> Result<Vec<Arc<Hold>>, String> {
    let holds: Vec<Hold> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    holds.iter().try_for_each(|hold| hold.check().map_err(|problem| format!("`{}`: {problem}", hold.id)))?;
    Ok(holds.into_iter().map(Arc::new).collect())
}

fn check_room(holds: &[Arc<Hold>], hold: &Hold) -> Result<(), ImposeError> {
    let of_containment = holds.iter().filter(|hold| hold.of_containment()).count();
    if holds.len() >= HOLDS_MAX || (hold.of_containment() && of_containment >= CONTAINMENT_HOLDS_MAX) {
        return Err(ImposeError::Full(holds.len()));
    }
    Ok(())
}
