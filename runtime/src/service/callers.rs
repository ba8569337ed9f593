//! Who may call: the daemon's own user, and the members of the configured group. And for which tenant.

use std::{ffi::CString, sync::Arc};

use nix::unistd::{Gid, Group, Uid, User, getgrouplist, getuid};
use tonic::{Code, Request, Status, service::Interceptor};

use super::{
    listen::Peer,
    status::{self, refuse},
};
use crate::lifecycle::{Lifecycle, Tenant};

/// Metadata in which a caller of several tenants says for which it asks.
const TENANT_METADATA: &str = "palisade-tenant";

/// What a tenant's callers may call; everything else changes, or shows, what is everybody's. A service of nobody's,
/// like health and reflection, is open to all who may call at all.
const TENANTS: &[&str] = &[
    "Agents/GetAgent",
    "Agents/ListAgents",
    "Audit/GetCheckpoint",
    "Audit/ListRecords",
    "Audit/ProveConsistency",
    "Audit/ProveInclusion",
    "Audit/StreamRecords",
    "Components/GetComponent",
    "Components/ListComponents",
    // Control itself asks for an operator.
    "Control/GetHold",
    "Control/ImposeHold",
    "Control/LiftHold",
    "Control/ListHolds",
    "Policies/ExplainDecision",
    "Steps/RunStep",
    "System/GetServerInfo",
    "Tools/GetTool",
    "Tools/ListTools",
    "Workspaces/CreateWorkspace",
    "Workspaces/DeleteWorkspace",
    "Workspaces/GetFile",
    "Workspaces/ListFiles",
    "Workspaces/ListWorkspaces",
    "Workspaces/PutFile",
];

/// The path of a request, kept for whoever sees its metadata only.
#[derive(Clone)]
pub struct Called(pub String);

/// Refuses every call of anybody else.
#[derive(Clone)]
pub struct Only {
    uid: Uid,
    group: Option<Gid>,
    /// There are tenants: what is everybody's is for the operator.
    tenants: bool,
}

impl Only {
    /// Returns the check of the daemon's configuration.
    pub fn new(lifecycle: &Lifecycle) -> Self {
        let group = lifecycle.config().listen.group.as_deref();
        Self {
            uid: getuid(),
            group: group.and_then(|name| Group::from_name(name).ok().flatten()).map(|group| group.gid),
            tenants: !lifecycle.config().tenants.is_empty(),
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
        let peer = peer(&request);
        if !self.allows(peer) {
            let message =
                "this user may not call: run as the daemon's user, or ask the operator to add you to `listen.group`";
            return Err(refuse(Code::PermissionDenied, "CALLER_NOT_ALLOWED", message));
        }
        if self.tenants && !is_operator(&request) && !is_tenants(&request) {
            let message = "this is for the daemon's own user: it concerns more than one tenant";
            return Err(refuse(Code::PermissionDenied, "CALLER_NOT_ALLOWED", message));
        }
        Ok(request)
    }
}

/// Returns who calls, as records and policies name it.
pub fn name<T>(request: &Request<T>) -> String {
    peer(request).to_string()
}

/// Returns whether the daemon's own user calls.
pub fn is_operator<T>(request: &Request<T>) -> bool {
    matches!(peer(request), Peer::Unix { uid, .. } if Uid::from_raw(uid) == getuid())
}

/// Returns the tenant for which the caller asks.
pub fn tenant<T>(lifecycle: &Lifecycle, request: &Request<T>) -> Result<Arc<Tenant>, Status> {
    lifecycle.tenant(&name(request), said_tenant(request)?).map_err(|error| status::tenant(&error))
}

/// Returns the tenant that the caller named; empty if it named none.
pub fn said_tenant<T>(request: &Request<T>) -> Result<&str, Status> {
    let mut said = request.metadata().get_all(TENANT_METADATA).iter();
    let first = said.next().map_or(Ok(""), |value| value.to_str());
    match (first, said.next()) {
        (Ok(name), None) => Ok(name),
        _ => {
            let message = format!("metadata `{TENANT_METADATA}`: name one tenant, in ASCII");
            Err(status::bad_field("FIELD_INVALID", TENANT_METADATA, message))
        }
    }
}

fn peer<T>(request: &Request<T>) -> Peer {
    request.extensions().get::<Peer>().copied().unwrap_or(Peer::Unknown)
}

/// Returns whether a tenant's caller may call what this request calls. Whatever is added later is not, until it is listed.
fn is_tenants(request: &Request<()>) -> bool {
    let called = request.extensions().get::<Called>().map(|called| called.0.as_str()).unwrap_or_default();
    match called.strip_prefix("/palisade.v1.") {
        Some(method) => TENANTS.contains(&method),
        None => called.starts_with("/grpc."),
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
