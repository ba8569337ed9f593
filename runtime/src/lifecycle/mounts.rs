//! Which directories of the host a step sees, and where.

use std::path::Path;

use super::{Lifecycle, RegisterError, RunError, request::StepRequest};
use crate::{
    manifest::Manifest,
    step::{FIXED, Mount, Name},
};

/// Where a step finds its workspace.
pub const WORKSPACE_PATH: &str = "/workspace";

impl Lifecycle {
    /// Returns the mounts of a step: its agent's, or those that the request names.
    pub(super) fn mounts(&self, request: &StepRequest, manifest: Option<&Manifest>) -> Result<Vec<Mount>, RunError> {
        let field = |problem: String| RunError::Field { field: "mounts", problem };
        if let Some(manifest) = manifest {
            if !request.mounts.is_empty() {
                return Err(field("cannot be named with `agent`: its manifest names them".into()));
            }
            let mount = |mount: &crate::manifest::MountGrant| self.mount_at(&mount.name, &mount.path, mount.writable);
            let mounts: Result<Vec<_>, _> = manifest.mounts.iter().map(mount).collect();
            return mounts.map_err(|error| match error {
                RegisterError::NoMount { name, known } => RunError::NoMount { name, known },
                other => field(other.to_string()),
            });
        }
        if request.mounts.len() as u64 > FIXED.mounts {
            return Err(field(format!("names {} mounts; at most {} are allowed", request.mounts.len(), FIXED.mounts)));
        }
        let mut mounts: Vec<Mount> = Vec::new();
        for used in &request.mounts {
            let mount = self.mount(&used.mount).ok_or_else(|| RunError::NoMount {
                name: used.mount.chars().take(80).collect(),
                known: self.mount_names(),
            })?;
            check_guest_path(&used.path).map_err(field)?;
            if let Some(other) = mounts.iter().find(|m| nested(&m.guest_path, &used.path)) {
                return Err(field(format!(
                    "puts two mounts at `{}` and `{}`: neither may hold the other",
                    other.guest_path, used.path
                )));
            }
            // One tree, two views, one of them writable: what is read-only could be changed through the other.
            let again = mounts.iter().any(|m| m.host_path == mount.path);
            let writable = mount.writable.filter(|_| !used.read_only);
            if again && mount.writable.is_some() {
                return Err(field(format!("names the writable mount `{}` twice", mount.name)));
            }
            mounts.push(Mount { guest_path: used.path.clone(), host_path: mount.path.clone(), writable, shared: true });
        }
        Ok(mounts)
    }

    /// Returns a mount as a manifest gives it.
    pub(super) fn mount_at(&self, name: &Name, path: &str, writable: bool) -> Result<Mount, RegisterError> {
        let bad = |problem| RegisterError::Mount { name: name.to_string(), problem };
        let mount = self
            .mount(name.as_str())
            .ok_or_else(|| RegisterError::NoMount { name: name.to_string(), known: self.mount_names() })?;
        check_guest_path(path).map_err(bad)?;
        if writable && mount.writable.is_none() {
            return Err(bad("is read-only here, and the manifest makes it writable".into()));
        }
        let writable = mount.writable.filter(|_| writable);
        Ok(Mount { guest_path: path.into(), host_path: mount.path.clone(), writable, shared: true })
    }

    /// Returns the labels of the mounts among `mounts`.
    pub(super) fn mount_labels<'a>(&'a self, mounts: &'a [Mount]) -> impl Iterator<Item = &'a Name> {
        let seen = |known: &&crate::config::Mount| mounts.iter().any(|mount| mount.host_path == known.path);
        self.config().mounts.iter().filter(seen).flat_map(|mount| &mount.labels)
    }

    fn mount_names(&self) -> Vec<String> {
        self.config().mounts.iter().map(|mount| mount.name.to_string()).collect()
    }
}

/// Checks that no mount of a manifest holds another.
pub fn check_together(mounts: &[Mount]) -> Result<(), String> {
    for (index, mount) in mounts.iter().enumerate() {
        for other in &mounts[index + 1..] {
            if nested(&mount.guest_path, &other.guest_path) {
                let (one, other) = (&mount.guest_path, &other.guest_path);
                return Err(format!("`{one}` and `{other}`: neither may hold the other"));
            }
        }
    }
    Ok(())
}

/// Returns whether one path holds the other.
fn nested(a: &str, b: &str) -> bool {
    Path::new(a).starts_with(b) || Path::new(b).starts_with(a)
}

/// A guest sees a mount at a plain absolute path that is not the workspace's.
fn check_guest_path(path: &str) -> Result<(), String> {
    let shown: String = path.chars().take(80).collect();
    let plain = |name: &str| !matches!(name, "" | "." | "..") && !name.contains(|c: char| c.is_control());
    match path.strip_prefix('/') {
        Some(rest) if path.len() <= 256 && rest.split('/').all(plain) => {}
        _ => {
            return Err(format!(
                "has the path `{shown}`: use an absolute path without `.`, `..` or empty names, of at most 256 bytes"
            ));
        }
    }
    if nested(path, WORKSPACE_PATH) {
        return Err(format!("has the path `{shown}`, which is the workspace's"));
    }
    Ok(())
}
