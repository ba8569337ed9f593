//! What the daemon keeps on disk: components, their compiled artifacts, workspaces, and what is registered.
//!
//! ```text
//! data_dir/lock                               one daemon at a time
//!          components/<hex>.wasm, <hex>.json  as pushed; what they are
//!          aliases/<alias>                    a digest
//!          artifacts/<engine>/<hex>.cwasm     compiled; can be deleted at any time
//!          agents/, tools/                    a file for each version: <name>@<version>.json
//!          journal/                           see `journal`
//!          memory/                            see `memory`
//!          revoked-credentials.json           names
//!          holds.json                         see `control`
//!          spool/                             half-done work, emptied at start
//!          tenants/<tenant>/workspaces/<id>/  the files of a workspace
//!          tenants/<tenant>/quotas/<id>.json  its quota
//! ```

mod components;
mod lock;
mod registry;
mod revocations;
#[cfg(test)]
mod tests;
mod versions;
pub mod workspace_files;
mod workspaces;

pub use components::{Component, ComponentError, Components};
pub use lock::{DataDir, DataDirError, TenantDir};
pub use registry::{Agent, Tool};
pub use revocations::Revocations;
pub use versions::{VersionError, Versioned, Versions};
pub use workspaces::{Lease, Workspace, WorkspaceError, Workspaces};

use crate::durable;

/// Returns 128 random bits as hex digits: a name that nobody can guess or has used.
pub fn random_id() -> String {
    random::<16>().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns 256 random bits: what a step's own random bytes are made of if its caller does not say.
pub fn random_seed() -> [u8; 32] {
    random()
}

fn random<const N: usize>() -> [u8; N] {
    let mut bits = [0; N];
    // Only a kernel without random numbers fails here; then uniqueness is left to the caller's checks.
    let _ = rustix::rand::getrandom(&mut bits, rustix::rand::GetRandomFlags::empty());
    bits
}
