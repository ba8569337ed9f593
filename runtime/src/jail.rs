//! The second wall: what the operating system denies a process that runs or compiles guest code.
//!
//! Only this module says `landlock` and `seccompiler`.

mod attempt;
mod descriptors;
mod enter;
mod files;
mod identity;
mod namespaces;
mod proc;
mod root;
mod syscalls;

pub use enter::{Access, Jail, JailError, Role, enter};
pub use identity::{BadUser, user_of};

/// How far guests and compilers stand behind the daemon when the kernel shares out processors.
pub const NICE: i32 = 5;

/// The walls, in the order in which they are built.
pub const WALLS: [&str; 13] = [
    "descriptors",
    "session",
    "no-new-privs",
    "user-namespace",
    "network-namespace",
    "mount-namespace",
    "ids",
    "capabilities",
    "not-dumpable",
    "rlimits",
    "cgroup",
    "landlock",
    "seccomp",
];

/// Walls that a host may be unable to build, for want of a permission: `jail.allow_missing` takes these names. Any
/// Linux that is new enough can build the others, and there is no going on without them.
pub const WAIVABLE: [&str; 4] = ["user-namespace", "network-namespace", "mount-namespace", "ids"];

/// Leaves this thread, and those that it will start, the system calls of a daemon, and attempts others. Returns what was
/// not denied.
pub fn restrict_daemon() -> Result<(), String> {
    syscalls::restrict_daemon().map_err(|why| format!("no filter of system calls for the daemon: {why}"))?;
    attempt::calls::denied_to_daemon()
        .map(drop)
        .map_err(|why| format!("the daemon's filter of system calls does not hold: {why}"))
}

/// Keeps what this process holds out of core files, and from other processes of its user. For the daemon, which is in no
/// jail and holds credentials.
pub fn keep_memory_private() -> std::io::Result<()> {
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0)?;
    nix::sys::prctl::set_dumpable(false)?;
    Ok(())
}
