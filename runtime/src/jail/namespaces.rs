//! Namespaces and the user in them: a root directory of its own, a network without a way out, another user.

use std::path::PathBuf;

use nix::{
    sched::{CloneFlags, unshare},
    sys::prctl,
    unistd,
};

use super::{Jail, attempt::Found, identity, proc::Proc, root};

/// What became of each of these walls.
pub struct Namespaces {
    pub user: Found,
    pub network: Found,
    pub mount: Found,
    pub ids: Found,
}

/// Enters namespaces of its own and drops the user, each where that is permitted.
///
/// Root makes the namespaces first, owned by the host's root, so that no capability of the new user namespace means
/// anything in them. Another user has to be in a user namespace of its own to make them.
pub fn enter(jail: &Jail, proc: &Proc) -> Namespaces {
    let before = Kinds::of(proc);
    let mut mount = unshare(Kinds::FLAGS).map_err(|errno| errno.desc().to_owned());
    let by_root = mount.is_ok();
    if by_root {
        mount = root::build(&jail.files, jail.confinement.user).map_err(|e| e.to_string());
    }
    let ids = identity::become_user(jail.confinement.user, &proc.read("uid_map").unwrap_or_default());
    let user = own_user(proc, if by_root { CloneFlags::empty() } else { Kinds::FLAGS });
    if !by_root && user.is_ok() {
        mount = root::build(&jail.files, None).map_err(|e| e.to_string());
    }
    let now = Kinds::of(proc);
    Namespaces {
        user: user.and_then(|()| Kinds::other(&before.user, &now.user, "user")),
        network: Kinds::other(&before.network, &now.network, "network")
            .and_then(|_| Kinds::other(&before.ipc, &now.ipc, "IPC")),
        mount: mount.and_then(|()| Kinds::other(&before.mount, &now.mount, "mount")),
        ids,
    }
}

/// Enters a user namespace in which nobody but this user exists, and `others` with it.
fn own_user(proc: &Proc, others: CloneFlags) -> Result<(), String> {
    let (uid, gid) = (unistd::getuid(), unistd::getgid());
    unshare(CloneFlags::CLONE_NEWUSER | others).map_err(|errno| format!("unshare failed: {}", errno.desc()))?;
    // Whoever changed its user is not dumpable, and then its maps belong to root. It holds nothing yet.
    let _ = prctl::set_dumpable(true);
    proc.write("setgroups", "deny")
        .and_then(|()| proc.write("uid_map", &format!("{uid} {uid} 1")))
        .and_then(|()| proc.write("gid_map", &format!("{gid} {gid} 1")))
        .map_err(|e| format!("the user cannot be mapped: {e}"))
}

/// What identifies the namespaces of this process.
struct Kinds {
    user: Option<PathBuf>,
    network: Option<PathBuf>,
    mount: Option<PathBuf>,
    ipc: Option<PathBuf>,
}

impl Kinds {
    /// All but the user namespace.
    const FLAGS: CloneFlags = CloneFlags::CLONE_NEWNET.union(CloneFlags::CLONE_NEWNS).union(CloneFlags::CLONE_NEWIPC);

    fn of(proc: &Proc) -> Self {
        let of = |kind| proc.link(kind).ok();
        Self { user: of("ns/user"), network: of("ns/net"), mount: of("ns/mnt"), ipc: of("ns/ipc") }
    }

    fn other(before: &Option<PathBuf>, now: &Option<PathBuf>, kind: &str) -> Found {
        match (before, now) {
            (Some(before), Some(now)) if before != now => Ok("another than the daemon's".into()),
            _ => Err(format!("still the daemon's own {kind} namespace; allow unprivileged user namespaces")),
        }
    }
}
