//! The jail as one ordered function, from top to bottom.

use std::{fs, io, os::fd::RawFd, path::PathBuf};

use nix::{
    sched::{CloneFlags, unshare},
    sys::{
        prctl,
        resource::{Resource, getrlimit, setrlimit},
        signal::{SigHandler, Signal, signal},
    },
    unistd,
};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use super::{attempt, files, syscalls};
use crate::wire::{Wall, WallState};

/// Which process enters: it decides what system calls are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Worker,
    Compiler,
}

/// What a jailed process may still do.
pub struct Jail {
    pub role: Role,
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
    ReadWrite,
}

/// A wall that must stand and could not be built. There is no going on without it.
#[derive(Debug, thiserror::Error)]
pub enum JailError {
    #[error("cannot close inherited descriptors: {0}")]
    Descriptors(io::Error),
    #[error("cannot set {0:?}: {1}")]
    Rlimit(Resource, nix::Error),
    #[error("landlock: {0}")]
    Landlock(String),
    #[error("seccomp: {0}")]
    Seccomp(String),
}

impl Jail {
    pub(super) fn rlimits(&self) -> impl Iterator<Item = (Resource, u64)> {
        let cpu = self.cpu_seconds_max.map(|seconds| (Resource::RLIMIT_CPU, seconds));
        [
            (Resource::RLIMIT_CORE, 0),
            (Resource::RLIMIT_NOFILE, self.descriptors_max),
            (Resource::RLIMIT_FSIZE, self.file_bytes_max),
            (Resource::RLIMIT_DATA, self.memory_bytes_max),
        ]
        .into_iter()
        .chain(cpu)
    }
}

/// Walks into the jail and returns what stands, as found by attempting forbidden acts from inside.
///
/// Must be called with one thread, and with descriptors 0 to 2 as the only ones that matter. `prepare` runs once
/// nothing is inherited any more and while files can still be opened: an engine opens its page map there.
pub fn enter<T>(jail: &Jail, prepare: impl FnOnce() -> T) -> Result<(T, Vec<Wall>), JailError> {
    // Nothing of the parent's but standard input (the socket), output and error.
    close_descriptors_from(3).map_err(JailError::Descriptors)?;
    let prepared = prepare();

    // Not the parent's terminal; not alive without the parent.
    let _ = unistd::setsid(); // fails for a session leader, which is what is wanted
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);

    // A user of its own, and a network that has no way out. A container runtime may forbid both: then the walls
    // are reported missing, and the operator decides.
    let namespaces = enter_namespaces();

    // No capability in any namespace, and no program that could give one back.
    let _ = set_capabilities(None, none());
    let _ = prctl::set_no_new_privs();
    // No debugger of the same user, no core file. After the namespaces: their maps are not writable once
    // `/proc/self` belongs to root.
    let _ = prctl::set_dumpable(false);

    for (resource, bound) in jail.rlimits() {
        // A bound that is lower already cannot be raised, and need not be.
        let bound = getrlimit(resource).map_or(bound, |(_, hard)| bound.min(hard));
        setrlimit(resource, bound, bound).map_err(|e| JailError::Rlimit(resource, e))?;
    }
    // A file at its bound is an error that the guest sees, not a signal that takes the worker along.
    // SAFETY: ignoring a signal installs no handler.
    let _ = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) };

    let landlock = files::restrict(&jail.files).map_err(|e| JailError::Landlock(e.to_string()))?;
    syscalls::restrict(jail.role).map_err(JailError::Seccomp)?;

    let walls = attempt::all(jail, namespaces, landlock);
    Ok((prepared, walls))
}

fn close_descriptors_from(first: RawFd) -> io::Result<()> {
    // SAFETY: the caller owns no descriptor from `first` on; the call touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Returns why there is no user and no network namespace, where that is so.
fn enter_namespaces() -> [Result<(), String>; 2] {
    let (uid, gid) = (unistd::getuid(), unistd::getgid());
    let before = [namespace("user"), namespace("net")];
    let alone = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    let mut mapped = Ok(());
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWUSER | alone) {
        // A daemon that runs as root in a container may still make a network namespace.
        let _ = unshare(alone);
        mapped = Err(format!("unshare failed: {}", errno.desc()));
    } else {
        // The same user inside as outside: files keep their owner, and nothing else is mapped.
        let written = fs::write("/proc/self/setgroups", "deny")
            .and_then(|()| fs::write("/proc/self/uid_map", format!("{uid} {uid} 1")))
            .and_then(|()| fs::write("/proc/self/gid_map", format!("{gid} {gid} 1")));
        mapped = mapped.and(written.map_err(|e| format!("the user cannot be mapped: {e}")));
    }
    let [user, network] =
        [("user", &before[0]), ("net", &before[1])].map(|(kind, before)| match (before, namespace(kind)) {
            (Some(before), Some(now)) if *before != now => Ok(()),
            _ => Err(format!("still the daemon's own {kind} namespace; allow unprivileged user namespaces")),
        });
    [user.and(mapped), network]
}

/// Returns what identifies this process's namespace.
fn namespace(kind: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/self/ns/{kind}")).ok()
}

fn none() -> CapabilitySets {
    let none = CapabilitySet::empty();
    CapabilitySets { effective: none, permitted: none, inheritable: none }
}

/// Returns a wall that was found standing, or not.
pub(super) fn wall(name: &str, found: Result<String, String>) -> Wall {
    let (state, detail) = match found {
        Ok(detail) => (WallState::Verified, detail),
        Err(detail) => (WallState::Missing, detail),
    };
    Wall { name: name.into(), state, detail }
}
