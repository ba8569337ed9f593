//! Who may call: the daemon's own user, and the members of the configured group.

use std::ffi::CString;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist, getuid};
use tonic::{Code, Request, Status, service::Interceptor};

use super::{listen::Peer, status::refuse};
use crate::lifecycle::Lifecycle;

/// Refuses every call of anybody else.
#[derive(Clone)]
pub struct Only {
    uid: Uid,
    group: Option<Gid>,
}

impl Only {
    /// Returns the check of the daemon's configuration.
    pub fn new(lifecycle: &Lifecycle) -> Self {
        let group = lifecycle.config().listen.group.as_deref();
        Self {
            uid: getuid(),
            group: group.and_then(|name| Group::from_name(name).ok().flatten()).map(|group| group.gid),
        }
    }

    fn allows(&self, peer: Peer) -> bool {
        match peer {
            Peer::Unix { uid, gid } => {
                Uid::from_raw(uid) == self.uid || self.group.is_some_and(|group| is_member(uid, gid, group))
            }
            // The operator opened the address to every local user.
            Peer::Loopback => true,
            Peer::Unknown => false,
        }
    }
}

impl Interceptor for Only {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let peer = request.extensions().get::<Peer>().copied().unwrap_or(Peer::Unknown);
        if self.allows(peer) {
            return Ok(request);
        }
        let message =
            "this user may not call: run as the daemon's user, or ask the operator to add you to `listen.group`";
        Err(refuse(Code::PermissionDenied, "CALLER_NOT_ALLOWED", message))
    }
}

fn is_member(uid: u32, gid: u32, group: Gid) -> bool {
    if Gid::from_raw(gid) == group {
        return true;
    }
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) else { return false };
    let Ok(name) = CString::new(user.name) else { return false };
    getgrouplist(&name, user.gid).is_ok_and(|groups| groups.contains(&group))
}
