//! All holds: in memory, where every call looks, and in a file, so that a restart lifts none.

use std::{
    fs, io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
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

/// A hold that is not imposed.
#[derive(Debug, thiserror::Error)]
pub enum ImposeError {
    #[error(transparent)]
    Bad(#[from] BadHold),
    #[error("there are {0} holds, which is the limit `holds`: lift one, or hold a wider scope")]
    Full(usize),
}

/// What is held. Times are given by whoever asks, as milliseconds since 1970.
pub struct Holds {
    file: PathBuf,
    spool: PathBuf,
    /// Held while the file is written: the version that is in it. Nobody waits for it who only imposes.
    kept: Mutex<u64>,
    /// There is at least one hold: who sees none looks no further.
    any: AtomicBool,
    in_force: RwLock<InForce>,
    changed: watch::Sender<u64>,
}

struct InForce {
    /// Changes with what is held.
    version: u64,
    /// By the time since when they hold.
    holds: Arc<Vec<Arc<Hold>>>,
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
        let any = AtomicBool::new(!holds.is_empty());
        let in_force = RwLock::new(InForce { version: 0, holds: Arc::new(holds) });
        Ok(Self { file, spool, kept: Mutex::new(0), any, in_force, changed: watch::Sender::new(0) })
    }

    /// Imposes a hold: in force when this returns, until the daemon ends. [`Holds::keep`] makes it survive that. A hold
    /// whose id there is stays as it is, and is returned: who asks twice has one. Only one of a containment rule is
    /// replaced by one that ends later. Waits for nothing.
    pub fn impose(&self, hold: Hold) -> Result<Arc<Hold>, ImposeError> {
        hold.check()?;
        let mut in_force = self.write();
        let mut holds = in_force.holds.to_vec();
        // One of the same id that has ended is another.
        holds.retain(|known| known.id != hold.id || known.in_force(hold.since_ms));
        let hold = match holds.iter_mut().find(|known| known.id == hold.id) {
            Some(known) if known.of_containment() && hold.ends_after(known) => {
                *known = Arc::new(Hold { since_ms: known.since_ms, ..hold });
                known.clone()
            }
            Some(known) => return Ok(known.clone()),
            None => {
                check_room(&holds, &hold)?;
                let hold = Arc::new(hold);
                holds.push(hold.clone());
                hold
            }
        };
        self.publish(&mut in_force, holds);
        Ok(hold)
    }

    /// Writes down what is held, unless somebody else has meanwhile. What cannot be written down is in force until the
    /// daemon ends, or until the next change, which writes it down as well. Blocks for the disk.
    pub fn keep(&self) -> io::Result<()> {
        let asked = self.read().version;
        let mut kept = self.kept();
        if *kept >= asked {
            return Ok(());
        }
        let (version, holds) = self.newest();
        self.save(&holds)?;
        *kept = version;
        Ok(())
    }

    /// Lifts a hold, once that is kept. None if there is none of that id. Blocks for the disk.
    pub fn lift(&self, id: &str) -> io::Result<Option<Arc<Hold>>> {
        Ok(self.remove(|hold| hold.id == id)?.into_iter().next())
    }

    /// Removes what holds no more, its time being up or its step not running, and returns it. Whether or not that is
    /// done, it does not hold. Blocks for the disk if there is something to remove.
    pub fn expire(&self, now_ms: u64, runs: &dyn Fn(&str) -> bool) -> io::Result<Vec<Arc<Hold>>> {
        self.remove(|hold| !hold.in_force(now_ms) || matches!(&hold.scope, Scope::Step(step) if !runs(step)))
    }

    /// Returns all of them, also those that hold no more and are not removed yet.
    pub fn all(&self) -> Arc<Vec<Arc<Hold>>> {
        self.read().holds.clone()
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

    /// Removes holds: from the file first, and then from what is in force. What is imposed meanwhile stays.
    fn remove(&self, ended: impl Fn(&Hold) -> bool) -> io::Result<Vec<Arc<Hold>>> {
        if !self.all().iter().any(|hold| ended(hold)) {
            return Ok(Vec::new());
        }
        let mut kept = self.kept();
        let (version, holds) = self.newest();
        let (removed, rest): (Vec<_>, Vec<_>) = holds.iter().cloned().partition(|hold| ended(hold));
        if removed.is_empty() {
            return Ok(removed);
        }
        self.save(&rest)?;
        // Not the version that begins below: what was imposed meanwhile is still to be written down.
        *kept = version;
        let mut in_force = self.write();
        let stays = |hold: &&Arc<Hold>| !removed.iter().any(|removed| Arc::ptr_eq(removed, hold));
        let rest = in_force.holds.iter().filter(stays).cloned().collect();
        self.publish(&mut in_force, rest);
        Ok(removed)
    }

    fn newest(&self) -> (u64, Arc<Vec<Arc<Hold>>>) {
        let in_force = self.read();
        (in_force.version, in_force.holds.clone())
    }

    pub(super) fn kept(&self) -> MutexGuard<'_, u64> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, InForce> {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, InForce> {
        self.in_force.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, in_force: &mut InForce, holds: Vec<Arc<Hold>>) {
        self.any.store(!holds.is_empty(), Ordering::Release);
        *in_force = InForce { version: in_force.version + 1, holds: Arc::new(holds) };
        self.changed.send_replace(in_force.version);
    }

    fn save(&self, holds: &[Arc<Hold>]) -> io::Result<()> {
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
    // The agents of one tenant leave as many to the others as they have.
    let own =
        holds.iter().filter(|known| known.of_containment() && known.scope.tenant() == hold.scope.tenant()).count();
    if hold.of_containment() && own >= CONTAINMENT_HOLDS_MAX - of_containment {
        return Err(ImposeError::Full(holds.len()));
    }
    Ok(())
}
