//! What the kernel is told of a worker: by its control group, if it has one, or else by its threads.

use std::{fs, io, time::Duration};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    time::{clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};

use super::ranks::Rank;
use crate::worker::process::ProcessRef;

/// The processors of the node, as far as the daemon may use them.
pub struct Processors {
    all: Set,
    /// One that is kept for whoever does not come last, and all others. All, if there is only one.
    kept: Set,
    others: Set,
}

/// The kernel's classes of threads.
#[derive(Clone, Copy)]
#[repr(i32)]
enum Class {
    Usual = libc::SCHED_OTHER,
    /// Runs where nobody else of its group wants to.
    Idle = libc::SCHED_IDLE,
}

/// Some of the processors, and what control groups call them.
struct Set {
    mask: CpuSet,
    list: String,
}

impl Processors {
    /// Those that this process may use.
    pub fn of_this_process() -> Self {
        let mask = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
        let own: Vec<_> = (0..CpuSet::count()).filter(|at| mask.is_set(*at).unwrap_or(false)).collect();
        let (others, kept) = match own.split_last() {
            Some((last, others)) if !others.is_empty() => (others, std::slice::from_ref(last)),
            _ => (&own[..], &own[..]),
        };
        Self { all: Set::of(&own), kept: Set::of(kept), others: Set::of(others) }
    }

    pub fn count(&self) -> usize {
        self.all.list.split(',').count()
    }

    /// Tells the kernel when a worker comes. Returns whether it comes first: threads that came last need a privilege for
    /// that.
    pub fn give(&self, process: &ProcessRef, rank: Rank) -> io::Result<bool> {
        let first = match rank {
            Rank::First => set_class(process, Class::Usual).is_ok(),
            Rank::Last | Rank::LastConfined => set_class(process, Class::Idle).map(|()| false)?,
        };
        if rank == Rank::First && !first {
            // It leaves those at once who want the others. Then it may go wherever a processor is idle.
            self.kept.give(process)?;
        }
        (if rank == Rank::LastConfined { &self.others } else { &self.all }).give(process)?;
        Ok(first)
    }
}

impl Set {
    fn of(processors: &[usize]) -> Self {
        let mut mask = CpuSet::new();
        for processor in processors {
            let _ = mask.set(*processor); // a mask has them all
        }
        Self { mask, list: processors.iter().map(usize::to_string).collect::<Vec<_>>().join(",") }
    }

    fn give(&self, process: &ProcessRef) -> io::Result<()> {
        match &process.group {
            Some(group) if group.confines() => group.confine(&self.list),
            _ => threads(process.id)?.into_iter().try_for_each(|id| Ok(sched_setaffinity(id, &self.mask)?)),
        }
    }
}

/// Returns the processor time that a process used; none of one that is gone.
pub fn used(process: u32) -> Duration {
    let time = clock_getcpuclockid(Pid::from_raw(process as i32)).and_then(clock_gettime);
    time.map_or(Duration::ZERO, Duration::from)
}

/// Returns the threads of a process. A worker cannot make any once it is ready.
fn threads(process: u32) -> io::Result<Vec<Pid>> {
    let number = |name: &str| name.parse().map(Pid::from_raw).map_err(io::Error::other);
    fs::read_dir(format!("/proc/{process}/task"))?.map(|entry| number(&entry?.file_name().to_string_lossy())).collect()
}

fn set_class(process: &ProcessRef, class: Class) -> io::Result<()> {
    match (&process.group, class) {
        (Some(group), Class::Usual) => group.comes_as_others(),
        (Some(group), Class::Idle) => group.comes_last(),
        (None, _) => threads(process.id)?.into_iter().try_for_each(|id| schedule(id, class)),
    }
}

fn schedule(thread: Pid, class: Class) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: reads the parameters during the call.
    match unsafe { libc::sched_setscheduler(thread.as_raw(), class as i32, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
