//! The jail as one ordered function, from top to bottom.

use std::{fs::File, io, os::fd::AsRawFd as _, path::PathBuf};

use nix::{
    sys::{
        prctl,
        resource::{Resource, getrlimit, setrlimit},
        signal::{SigHandler, Signal, signal},
    },
    unistd::{self, Pid},
};
use rustix::fs::{Access as Permission, access};

use super::{
    NICE,
    attempt::{self, Outside},
    descriptors, files, identity, namespaces,
    proc::Proc,
    syscalls,
};
use crate::wire::{Confinement, Wall};

/// Which process enters: it decides what system calls are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Worker,
    Compiler,
}

/// What a jailed process may still do.
pub struct Jail {
    pub role: Role,
    pub confinement: Confinement,
    /// All that it may see of the file system.
    pub files: Vec<(PathBuf, Access)>,
    /// Bytes of the largest file that it may write.
    pub file_bytes_max: u64,
    /// Bytes of private writable memory.
    pub memory_bytes_max: u64,
    /// Open files, sockets and epoll included; fewer if the daemon itself may have no more.
    pub descriptors_max: u64,
    /// Seconds of processor time, for a process that does one thing and ends.
    pub cpu_seconds_max: Option<u64>,
}

/// What may be done below a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    ReadOnly,
    /// Read-only, and what is read may be run.
    Code,
    ReadWrite,
}

/// A wall that must stand and could not be built. There is no going on without it.
#[derive(Debug, thiserror::Error)]
pub enum JailError {
    #[error("cannot close inherited descriptors: {0}")]
    Descriptors(io::Error),
    #[error("a descriptor came along: {0}")]
    Inherited(String),
    #[error("cannot open /proc/self: {0}")]
    Proc(io::Error),
    #[error("the daemon died meanwhile")]
    Orphan,
    #[error(
        "`{path}` cannot be {act} by user {uid}, which a worker is: {why}; give it to that user, or start the daemon as \
         a user who may"
    )]
    Unreachable { path: String, act: &'static str, uid: u32, why: io::Error },
    #[error("cannot set {0:?}: {1}")]
    Rlimit(Resource, nix::Error),
    #[error("landlock: {0}")]
    Landlock(String),
    #[error("seccomp: {0}")]
    Seccomp(String),
}

/// Threads, of a process that is in a user namespace of its own: elsewhere the kernel would count those of everybody
/// who is the same user.
const THREADS_MAX: u64 = 4096;

impl Jail {
    pub(super) fn rlimits(&self) -> impl Iterator<Item = (Resource, u64)> {
        let cpu = self.cpu_seconds_max.map(|seconds| (Resource::RLIMIT_CPU, seconds));
        [
            (Resource::RLIMIT_CORE, 0),
            (Resource::RLIMIT_NOFILE, self.descriptors_max),
            (Resource::RLIMIT_FSIZE, self.file_bytes_max),
            (Resource::RLIMIT_DATA, self.memory_bytes_max),
            (Resource::RLIMIT_MEMLOCK, 0),
        ]
        .into_iter()
        .chain(cpu)
    }
}

/// Walks into the jail and returns what stands, as found by attempting forbidden acts from inside.
///
/// Must be called with one thread, and with descriptors 0 to 2 as the only ones that matter. `prepare` runs once
/// nothing is inherited any more and while files can still be opened: an engine opens its page map there. `start` runs
/// behind every wall but the filter of system calls: what it starts, threads above all, need not be on the list.
pub fn enter(jail: &Jail, prepare: &mut dyn FnMut(), start: &mut dyn FnMut()) -> Result<Vec<Wall>, JailError> {
    // Nothing of the parent's but standard input (the socket), output and error.
    descriptors::close_inherited().map_err(JailError::Descriptors)?;
    let proc = Proc::open().map_err(JailError::Proc)?;
    descriptors::audit(&proc).map_err(JailError::Inherited)?;
    prepare();

    // Not the daemon's terminal, and no program that could give a privilege back.
    leave_terminal();
    let _ = prctl::set_no_new_privs();
    // Behind the daemon, who answers everybody. For that it stays in the daemon's session: the kernel may schedule sessions
    // as groups, and then nothing of this counts between two of them.
    let _ = rustix::process::nice(NICE);

    // A root directory, a network and a user of its own. A container runtime may forbid them: then the walls are
    // reported missing, and the operator decides.
    let namespaces = namespaces::enter(jail, &proc);
    // No capability in any namespace.
    identity::shed_capabilities();
    // Not alive without the daemon. Another user clears this, so it comes after; and whoever died before it was set
    // sends no signal.
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    if unistd::getppid().as_raw() as u32 != jail.confinement.daemon {
        return Err(JailError::Orphan);
    }
    // No debugger of the same user, no core file.
    let _ = prctl::set_dumpable(false);
    reach(jail)?;

    let threads = namespaces.user.is_ok().then_some((Resource::RLIMIT_NPROC, THREADS_MAX));
    for (resource, bound) in jail.rlimits().chain(threads) {
        // A bound that is lower already cannot be raised, and need not be.
        let bound = getrlimit(resource).map_or(bound, |(_, hard)| bound.min(hard));
        setrlimit(resource, bound, bound).map_err(|e| JailError::Rlimit(resource, e))?;
    }
    // A file at its bound is an error that the guest sees, not a signal that takes the worker along.
    // SAFETY: ignoring a signal installs no handler.
    let _ = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) };

    let outside = Outside::new(&proc);
    let landlock = files::restrict(&jail.files).map_err(|e| JailError::Landlock(e.to_string()))?;
    // Landlock binds the thread that calls it and those that it starts.
    start();
    let mut walls = attempt::before_the_filter(jail, &proc, namespaces, landlock, &outside);
    drop((proc, outside));
    syscalls::restrict(jail.role).map_err(JailError::Seccomp)?;
    walls.push(attempt::behind_the_filter(jail));
    Ok(walls)
}

/// Looks whether what the process is for can be reached by whom it is now.
fn reach(jail: &Jail) -> Result<(), JailError> {
    for (path, granted) in &jail.files {
        let (permission, act) = match granted {
            Access::ReadOnly | Access::Code => (Permission::READ_OK | Permission::EXEC_OK, "read"),
            Access::ReadWrite => (Permission::READ_OK | Permission::EXEC_OK | Permission::WRITE_OK, "written"),
        };
        access(path, permission).map_err(|errno| JailError::Unreachable {
            path: path.display().to_string(),
            act,
            uid: unistd::getuid().as_raw(),
            why: errno.into(),
        })?;
    }
    Ok(())
}

/// Has no terminal any more, and gets no signal from one.
fn leave_terminal() {
    let _ = unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0)); // fails for a session leader, who leads a group as well
    if let Ok(terminal) = File::open("/dev/tty") {
        // SAFETY: takes no argument.
        unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCNOTTY) };
    }
}
