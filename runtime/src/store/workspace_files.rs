//! The files of a workspace, for callers. Guests plant links: the kernel resolves every path beneath the workspace,
//! and refuses any link on the way.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use cap_std::fs::Dir;
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, fstat, openat2, renameat, statat},
    io::Errno,
};

use super::{Lease, WorkspaceError};
use crate::step::Quota;

/// One file, directory or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Relative to the workspace.
    pub path: String,
    pub kind: FileKind,
    pub bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    Regular,
    Directory,
    SymbolicLink,
}

/// A file that is being written. It takes its place in the workspace when it is complete.
pub struct Upload {
    lease: Lease,
    left: Quota,
    path: PathBuf,
    spooled: tempfile::NamedTempFile,
    bytes: u64,
}

/// Directories within directories that are walked.
const DEPTH_MAX: usize = 128;

/// The folder of all workspaces, held open: what is in it is found by name from here, through no link. A worker can
/// write to this folder, so one that a guest broke could put a link in a workspace's place.
pub struct Folder(Dir);

/// When a directory last changed, by the kernel's own account: an entry made or removed, a time or an owner set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed(i64, u64);

impl Changed {
    /// Returns whether so much time has passed since that a change now has another time on any kernel.
    pub fn is_past(&self) -> bool {
        const TICKS: Duration = Duration::from_millis(100);
        let changed = SystemTime::UNIX_EPOCH + Duration::new(self.0.max(0).unsigned_abs(), self.1 as u32);
        SystemTime::now().duration_since(changed).is_ok_and(|age| age > TICKS)
    }
}

impl Folder {
    /// Opens the folder.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(Dir::from_std_file(fs::File::open(path)?)))
    }

    /// Makes an empty directory.
    pub fn create(&self, name: &str) -> io::Result<()> {
        self.0.create_dir(name)
    }

    /// Opens a workspace.
    pub fn workspace(&self, name: &str) -> Result<Dir, WorkspaceError> {
        let dir = beneath(&self.0, Path::new(name), OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(Dir::from_std_file(fs::File::from(dir)))
    }

    /// Returns when a directory last changed in any way. No guest can set this time.
    pub fn changed(&self, name: &str) -> Option<Changed> {
        let stat = statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(Changed(stat.st_ctime, stat.st_ctime_nsec))
    }

    /// Returns when a directory last changed, if it is empty.
    pub fn empty_since(&self, name: &str) -> Option<Changed> {
        let dir = self.workspace(name).ok()?;
        let stat = fstat(&dir).ok()?;
        let empty = dir.entries().ok()?.next().is_none();
        empty.then_some(Changed(stat.st_ctime, stat.st_ctime_nsec))
    }

    /// Returns when a directory was made, if nothing happened to it since; `since` says when, and whether that is past.
    pub fn untouched(&self, name: &str, since: Option<(Changed, bool)>) -> Option<Changed> {
        let (since, past) = since?;
        let now = if past { self.changed(name) } else { self.empty_since(name) };
        now.filter(|now| *now == since)
    }

    /// Returns the names of what is in the folder.
    pub fn names(&self) -> io::Result<Vec<String>> {
        self.0.entries()?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }
}

/// Opens a regular file of a workspace for reading. Blocks.
pub fn open(root: &Dir, path: &str) -> Result<fs::File, WorkspaceError> {
    let path = checked(path)?;
    // Non-blocking: the file may turn out to be a FIFO.
    let file = fs::File::from(beneath(root, &path, OFlags::RDONLY | OFlags::NONBLOCK)?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(WorkspaceError::BadPath(shown(&path), "is not a regular file"))
    }
}

/// Calls `each` with everything below `path`, by path, until it returns false. Blocks.
pub fn list(root: &Dir, path: &str, each: &mut dyn FnMut(FileEntry) -> bool) -> Result<(), WorkspaceError> {
    let (dir, prefix) = if path.is_empty() {
        (root.try_clone()?, PathBuf::new())
    } else {
        let path = checked(path)?;
        let dir = beneath(root, &path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        (Dir::from_std_file(fs::File::from(dir)), path)
    };
    walk(&dir, &prefix, each)?;
    Ok(())
}

/// Returns the bytes and entries of a workspace. Blocks.
pub fn used(root: &Dir) -> Result<Quota, WorkspaceError> {
    let mut used = Quota { bytes: 0, entries: 0 };
    list(root, "", &mut |entry| {
        used.entries += 1;
        if entry.kind == FileKind::Regular {
            used.bytes = used.bytes.saturating_add(entry.bytes);
        }
        true
    })?;
    Ok(used)
}

impl Folder {
    /// Removes a directory and all that is in it, however deep. Blocks.
    ///
    /// The standard library's removal holds a descriptor for each level, so a guest could nest directories until
    /// nothing removes them any more. This one moves every inner directory up to the top, level by level.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        if !self.0.symlink_metadata(name)?.is_dir() {
            return self.0.remove_file(name);
        }
        let root = self.workspace(name).map_err(io::Error::other)?;
        let unique = super::random_id();
        let mut moved = 0u64;
        let mut emptied = false;
        while !emptied {
            emptied = true;
            for entry in root.entries()?.collect::<io::Result<Vec<_>>>()? {
                if !entry.file_type()?.is_dir() {
                    root.remove_file(entry.file_name())?;
                    continue;
                }
                let dir = entry.open_dir()?;
                for inner in dir.entries()?.collect::<io::Result<Vec<_>>>()? {
                    if inner.file_type()?.is_dir() {
                        dir.rename(inner.file_name(), &root, format!("{unique}-{moved}"))?;
                        moved += 1;
                        emptied = false;
                    } else {
                        dir.remove_file(inner.file_name())?;
                    }
                }
                root.remove_dir(entry.file_name())?;
            }
        }
        self.0.remove_dir(name)
    }
}

impl Upload {
    /// Begins to write the file `path` of a leased workspace. Blocks.
    pub fn begin(lease: Lease, path: &str, spool: &Path) -> Result<Self, WorkspaceError> {
        let path = checked(path)?;
        let left = lease.left()?;
        let spooled = tempfile::NamedTempFile::new_in(spool)?;
        Ok(Self { lease, left, path, spooled, bytes: 0 })
    }

    /// Adds a chunk. Blocks.
    pub fn write(&mut self, chunk: &[u8]) -> Result<(), WorkspaceError> {
        self.bytes += chunk.len() as u64;
        if self.bytes > self.left.bytes {
            return Err(WorkspaceError::QuotaExceeded(self.lease.quota()));
        }
        Ok(io::Write::write_all(&mut self.spooled, chunk)?)
    }

    /// Puts the file in its place, with its parent directories. Blocks.
    pub fn finish(self) -> Result<FileEntry, WorkspaceError> {
        // At most: the file and all its parents are new.
        if self.path.components().count() as u64 > self.left.entries {
            return Err(WorkspaceError::QuotaExceeded(self.lease.quota()));
        }
        self.spooled.as_file().sync_all()?;
        let mut parent = self.lease.dir()?;
        let mut names: Vec<_> = self.path.iter().collect();
        let file = names.pop().ok_or_else(|| WorkspaceError::BadPath(shown(&self.path), "is empty"))?;
        for name in names {
            match parent.create_dir(name) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
                _ => {}
            }
            let next = beneath(&parent, Path::new(name), OFlags::RDONLY | OFlags::DIRECTORY)?;
            parent = Dir::from_std_file(fs::File::from(next));
        }
        // A rename follows no link: one that a guest planted here is replaced.
        renameat(CWD, self.spooled.path(), &parent, file).map_err(|errno| match errno {
            Errno::ISDIR | Errno::NOTEMPTY => WorkspaceError::BadPath(shown(&self.path), "is a directory"),
            errno => WorkspaceError::Io(errno.into()),
        })?;
        parent.into_std_file().sync_all()?;
        Ok(FileEntry { path: shown(&self.path), kind: FileKind::Regular, bytes: self.bytes })
    }
}

/// Returns a path that is relative, has only plain names, and is not absurdly long.
fn checked(path: &str) -> Result<PathBuf, WorkspaceError> {
    let bad = |why| Err(WorkspaceError::BadPath(path.chars().take(80).collect(), why));
    if path.is_empty() {
        return bad("is empty");
    }
    if path.len() >= 4096 || path.split('/').any(|name| name.len() > 255) {
        return bad("is longer than 4,096 bytes, or a name in it than 255");
    }
    if path.split('/').count() > DEPTH_MAX {
        return bad("is more than 128 directories deep");
    }
    if path.contains('\0') {
        return bad("holds a NUL");
    }
    if path.split('/').any(|name| matches!(name, "" | "." | "..")) {
        return bad("must be relative and without `.`, `..` or empty names");
    }
    Ok(path.into())
}

fn beneath(dir: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd, WorkspaceError> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(dir, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve).map_err(|errno| match errno {
        Errno::NOENT => WorkspaceError::NoFile(shown(path)),
        Errno::NOTDIR => WorkspaceError::NoFile(shown(path)),
        Errno::LOOP | Errno::XDEV => WorkspaceError::BadPath(shown(path), "leads through a symbolic link"),
        errno => WorkspaceError::Io(errno.into()),
    })
}

fn walk(dir: &Dir, prefix: &Path, each: &mut dyn FnMut(FileEntry) -> bool) -> Result<bool, WorkspaceError> {
    // Each level holds a descriptor and a stack frame, and a guest decides how many there are.
    if prefix.components().count() > DEPTH_MAX {
        return Err(WorkspaceError::TooDeep(DEPTH_MAX));
    }
    let mut entries = dir.entries()?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(cap_std::fs::DirEntry::file_name);
    for entry in entries {
        let path = prefix.join(entry.file_name());
        // A step may be at work: what is gone since the listing is not there.
        let Some(metadata) = still_there(entry.metadata())? else { continue };
        let kind = match metadata.file_type() {
            kind if kind.is_dir() => FileKind::Directory,
            kind if kind.is_symlink() => FileKind::SymbolicLink,
            _ => FileKind::Regular,
        };
        if !each(FileEntry { path: shown(&path), kind, bytes: metadata.len() }) {
            return Ok(false);
        }
        if kind == FileKind::Directory
            && let Some(dir) = still_there(entry.open_dir())?
            && !walk(&dir, &path, each)?
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn still_there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
            _ => Err(error),
        },
    }
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
