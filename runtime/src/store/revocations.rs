//! The names of revoked credentials, kept so that they stay revoked.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use super::{DataDir, durable};
use crate::step::Name;

/// Names in a file of JSON. One that the configuration does not have any more stays: if it comes back, it is revoked.
pub struct Revocations {
    file: PathBuf,
    spool: PathBuf,
    names: BTreeSet<Name>,
}

impl Revocations {
    /// Reads what is revoked. A file that is damaged is an error: to take it for empty would restore what was revoked.
    pub fn open(data_dir: &DataDir) -> io::Result<Self> {
        let (file, spool) = (data_dir.revocations(), data_dir.spool());
        let names = match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| damaged(&file, &error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { file, spool, names })
    }

    /// Returns what is revoked.
    pub fn names(&self) -> &BTreeSet<Name> {
        &self.names
    }

    /// Keeps a revocation, or forgets it, durably.
    pub fn set(&mut self, name: &Name, revoked: bool) -> io::Result<()> {
        let mut names = self.names.clone();
        let changed = if revoked { names.insert(name.clone()) } else { names.remove(name) };
        if changed {
            durable::write(&self.file, &serde_json::to_vec(&names)?, &self.spool)?;
            self.names = names;
        }
        Ok(())
    }
}

fn damaged(file: &Path, error: &serde_json::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("`{}` does not decode: {error}", file.display()))
}
