//! The second wall: what the operating system denies a process that runs or compiles guest code.
//!
//! Only this module says `landlock` and `seccompiler`.

mod attempt;
mod enter;
mod files;
mod syscalls;

pub use enter::{Access, Jail, JailError, Role, enter};

/// The walls, in the order in which they are built.
pub const WALLS: [&str; 10] = [
    "descriptors",
    "session",
    "user-namespace",
    "network-namespace",
    "capabilities",
    "no-new-privs",
    "not-dumpable",
    "rlimits",
    "landlock",
    "seccomp",
];

/// Walls that a host may be unable to build, for want of a permission: `jail.allow_missing` takes these names. Any
/// Linux that is new enough can build the others, and there is no going on without them.
pub const WAIVABLE: [&str; 3] = ["user-namespace", "network-namespace", "capabilities"];

/// Keeps what this process holds out of core files, and from other processes of its user. For the daemon, which is in no
/// jail and holds credentials.
pub fn keep_memory_private() -> std::io::Result<()> {
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0)?;
    nix::sys::prctl::set_dumpable(false)?;
    Ok(())
}
