//! The self-test: attempts forbidden acts from inside the jail. A wall counts only if its act failed.
//!
//! What the filter of system calls would answer first is attempted before it is there.

mod before;
pub(super) mod calls;

use std::os::unix::net::UnixListener;

use landlock::RestrictionStatus;

use super::{Jail, descriptors, files, identity, namespaces::Namespaces, proc::Proc};
use crate::wire::{Wall, WallState};

/// What an attempt proved, or why there is no wall.
pub type Found = Result<String, String>;

/// What is of use to the self-test, and that Landlock keeps this process from: made and read before.
pub struct Outside {
    /// Made before Landlock, and so outside.
    listener: Option<UnixListener>,
    /// The groups that the process is in.
    groups: Option<String>,
    /// What it belongs to otherwise.
    stat: Option<String>,
}

impl Outside {
    /// Makes and reads it.
    pub fn new(proc: &Proc) -> Self {
        Self { listener: before::listen().ok(), groups: proc.read("cgroup").ok(), stat: proc.read("stat").ok() }
    }
}

/// Attempts everything but forbidden system calls. Returns what was found for each of [`super::WALLS`] but the last.
pub fn before_the_filter(
    jail: &Jail,
    proc: &Proc,
    namespaces: Namespaces,
    landlock: RestrictionStatus,
    outside: &Outside,
) -> Vec<Wall> {
    let Namespaces { user, network, mount, ids } = namespaces;
    let landlock = files::scoped(&landlock).and_then(|scoped| {
        let files = before::files(jail, mount.is_ok())?;
        let ports = before::ports()?;
        let scopes = if scoped { before::scopes(outside.listener.as_ref())? } else { "no scopes before Linux 6.12" };
        Ok(format!("{files}; {ports}; {scopes}"))
    });
    vec![
        wall("descriptors", descriptors::audit(proc)),
        wall("session", before::session(outside.stat.as_deref())),
        wall("no-new-privs", before::no_new_privs()),
        wall("user-namespace", user),
        wall("network-namespace", network.and_then(|other| before::no_way_out(&other))),
        wall("mount-namespace", mount.and_then(|_| before::empty_root(jail))),
        wall("ids", ids.and_then(before::no_way_back)),
        wall("capabilities", identity::capabilities_left().and_then(before::no_privilege)),
        wall("not-dumpable", before::not_dumpable()),
        wall("rlimits", before::rlimits(jail)),
        before::group(outside.groups.as_deref(), &jail.confinement.group),
        wall("landlock", landlock),
    ]
}

/// Attempts forbidden system calls.
pub fn behind_the_filter(jail: &Jail) -> Wall {
    wall("seccomp", calls::denied(jail.confinement.daemon))
}

/// Returns a wall that was found standing, or not.
fn wall(name: &str, found: Found) -> Wall {
    let (state, detail) = match found {
        Ok(detail) => (WallState::Verified, detail),
        Err(detail) => (WallState::Missing, detail),
    };
    Wall { name: name.into(), state, detail }
}
