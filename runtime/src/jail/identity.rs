//! Who the process is: another user than the daemon's, without any capability.

use nix::{
    errno::Errno,
    unistd::{self, Gid, Uid},
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

use crate::wire::Ids;

/// Whom the processes of a daemon that was started as root become, if the configuration does not say.
const NOBODY: &str = "nobody";

/// Its ids where no file says who that is.
const NOBODY_IDS: Ids = Ids { uid: 65534, gid: 65534 };

/// A user that jailed processes cannot become.
#[derive(Debug, thiserror::Error)]
pub enum BadUser {
    #[error("`jail.user` names `{0}`, which is no user of this host")]
    Unknown(String),
    #[error("`jail.user` needs a daemon that is started as root: this one can become nobody else")]
    NotRoot,
}

/// Returns whom jailed processes become: the user `name`, or nobody if there is no name. `None` is who the daemon is,
/// because it is not root, or because the operator wants root.
pub fn user_of(name: Option<&str>) -> Result<Option<Ids>, BadUser> {
    match (unistd::geteuid().is_root(), name) {
        (false, None) => return Ok(None),
        (false, Some(_)) => return Err(BadUser::NotRoot),
        (true, _) => {}
    }
    match unistd::User::from_name(name.unwrap_or(NOBODY)) {
        Ok(Some(user)) if user.uid.is_root() => Ok(None),
        Ok(Some(user)) => Ok(Some(Ids { uid: user.uid.as_raw(), gid: user.gid.as_raw() })),
        _ => name.map_or(Ok(Some(NOBODY_IDS)), |name| Err(BadUser::Unknown(name.into()))),
    }
}

/// Becomes `ids`, with no group beside it. Without `ids` there is nothing to drop, unless the daemon is root; nor if root
/// is the only user of a user namespace, and another one outside, which `uid_map` says.
pub fn become_user(ids: Option<Ids>, uid_map: &str) -> Result<String, String> {
    if let ["0", outside, "1"] = uid_map.split_whitespace().collect::<Vec<_>>()[..]
        && outside != "0"
    {
        return Ok(format!("root of a user namespace only, and user {outside} outside of it"));
    }
    let Some(Ids { uid, gid }) = ids else {
        let uid = unistd::getuid();
        if uid.is_root() {
            return Err("runs as root: set `jail.user`, or start the daemon as another user".into());
        }
        return Ok(format!("user {uid}, as the daemon: not root"));
    };
    let failed = |errno: Errno| format!("cannot become user {uid}: {}", errno.desc());
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    // While this is still possible: what is not in this set comes back by no means.
    shed_bounding_set();
    unistd::setgroups(&[]).map_err(failed)?;
    unistd::setresgid(gid, gid, gid).map_err(failed)?;
    unistd::setresuid(uid, uid, uid).map_err(failed)?;
    Ok(format!("user {uid} and group {gid}, which the daemon is not; no other groups"))
}

/// Gives all capabilities up.
pub fn shed_capabilities() {
    // A new user namespace comes with a bounding set of its own.
    shed_bounding_set();
    let none = CapabilitySet::empty();
    // What could not be given up is found when all sets are looked at.
    let _ = clear_ambient_capability_set();
    let _ = set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none });
}

/// Returns the capabilities that are left in any set. The bounding set grants nothing by itself: only who had a
/// capability at the start can empty it.
pub fn capabilities_left() -> Result<String, String> {
    let sets = capabilities(None).map_err(|e| e.to_string())?;
    let held = sets.effective | sets.permitted | sets.inheritable;
    if !held.is_empty() {
        return Err(format!("{held:?}"));
    }
    let bounding = every().filter(|one| capability_is_in_bounding_set(*one).unwrap_or(false)).count();
    Ok(if bounding == 0 { "none in any set".into() } else { "none; no-new-privs covers the bounding set".into() })
}

fn shed_bounding_set() {
    for one in every() {
        let _ = remove_capability_from_bounding_set(one); // needs a capability itself
    }
}

/// Returns each capability, also those that this kernel does not have.
fn every() -> impl Iterator<Item = CapabilitySet> {
    (0..64).map(|bit| CapabilitySet::from_bits_retain(1 << bit))
}
