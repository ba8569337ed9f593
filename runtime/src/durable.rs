//! Files that appear whole or not at all, also after a power cut.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

/// Writes `bytes` to `path`: to a temporary file in `spool` first, which then takes its place.
pub fn write(path: &Path, bytes: &[u8], spool: &Path) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(spool)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    sync_parent(path)
}

/// Moves a durable file to `path`, durably.
pub fn rename(from: &Path, path: &Path) -> io::Result<()> {
    fs::rename(from, path)?;
    sync_parent(path)
}

/// Removes a file, durably. One that is not there is removed.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_parent(path),
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
