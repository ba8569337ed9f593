//! The data directory: laid out, and locked for one daemon.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use crate::step::Name;

/// A data directory that this process holds. It is free again when this is dropped, or the process ends.
pub struct DataDir {
    root: PathBuf,
    _lock: File,
}

/// A data directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("`{}` is in use by the daemon with process id {pid}: stop it, talk to it with --endpoint, or use another `data_dir`", path.display())]
    InUse { path: PathBuf, pid: String },
    #[error("cannot use `{}` as `data_dir`: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl DataDir {
    /// Makes what is missing, takes the lock and removes half-done work of an earlier daemon.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let failed = |source| DataDirError::Io { path: path.into(), source };
        make_private(path).map_err(failed)?;
        let root = fs::canonicalize(path).map_err(failed)?;
        let lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(root.join("lock"))
            .map_err(failed)?;
        if let Err(errno) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            if errno != rustix::io::Errno::WOULDBLOCK {
                return Err(failed(errno.into()));
            }
            let mut pid = String::new();
            let _ = lock.take(20).read_to_string(&mut pid); // only for the message
            return Err(DataDirError::InUse { path: root, pid: pid.trim().into() });
        }
        let data_dir = Self { root, _lock: lock };
        data_dir.lay_out().map_err(failed)?;
        Ok(data_dir)
    }

    fn lay_out(&self) -> io::Result<()> {
        let mut lock = &self._lock;
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())?;
        match fs::remove_dir_all(self.spool()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let folders = [self.spool(), self.components(), self.aliases(), self.artifacts(), self.agents(), self.tools()];
        for folder in folders.into_iter().chain([self.journal(), self.memory()]) {
            make_private(&folder)?;
        }
        Ok(())
    }

    pub fn spool(&self) -> PathBuf {
        self.root.join("spool")
    }

    pub fn components(&self) -> PathBuf {
        self.root.join("components")
    }

    pub fn aliases(&self) -> PathBuf {
        self.root.join("aliases")
    }

    pub fn agents(&self) -> PathBuf {
        self.root.join("agents")
    }

    pub fn tools(&self) -> PathBuf {
        self.root.join("tools")
    }

    /// The file of what is revoked.
    pub fn revocations(&self) -> PathBuf {
        self.root.join("revoked-credentials.json")
    }

    /// The file of what is held.
    pub fn holds(&self) -> PathBuf {
        self.root.join("holds.json")
    }

    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    pub fn memory(&self) -> PathBuf {
        self.root.join("memory")
    }

    pub fn artifacts(&self) -> PathBuf {
        self.root.join("artifacts")
    }

    /// Makes the folders of a tenant, and returns where they are.
    pub fn tenant(&self, name: &Name) -> io::Result<TenantDir> {
        let root = self.root.join("tenants").join(name.as_str());
        let tenant =
            TenantDir { workspaces: root.join("workspaces"), quotas: root.join("quotas"), spool: self.spool() };
        make_private(&tenant.workspaces)?;
        make_private(&tenant.quotas)?;
        Ok(tenant)
    }
}

/// The folders of one tenant.
#[derive(Clone)]
pub struct TenantDir {
    /// All that its workers reach of `data_dir`, beside the artifacts.
    pub workspaces: PathBuf,
    pub quotas: PathBuf,
    /// Half-done work, of everybody.
    pub spool: PathBuf,
}

/// Makes a directory and its parents, for this user only.
fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}
