//! The second wall: what the operating system denies a process that runs or compiles guest code.
//!
//! Only this module says `landlock` and `seccompiler`.

mod attempt;
mod enter;
mod files;
mod syscalls;

pub use enter::{Access, Jail, JailError, Role, enter};

/// The walls, in the order in which they are built. `jail.allow_missing` takes these names.
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
