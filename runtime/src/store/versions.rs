//! Things that are registered in versions: each version is immutable, but for whether it is disabled.

use std::{
    collections::BTreeMap,
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard},
    time::SystemTime,
};

use serde::{Serialize, de::DeserializeOwned};

use super::durable;
use crate::step::Version;

/// Something with versions.
pub trait Versioned: Clone + Serialize + DeserializeOwned {
    fn name(&self) -> &str;
    fn version(&self) -> &Version;
    fn create_time(&self) -> SystemTime;
    /// Returns whether `other` is the same registration, whenever it was made and whether it is disabled.
    fn same(&self, other: &Self) -> bool;
    fn set_disabled(&mut self, disabled: bool);
}

/// All versions of all things of one kind, a file each: `<name>@<version>.json`.
pub struct Versions<T> {
    kind: &'static str,
    folder: PathBuf,
    spool: PathBuf,
    max: u64,
    /// By name; the versions of one name in the order of their registration.
    index: RwLock<BTreeMap<String, Vec<Arc<T>>>>,
    /// Held while files change, so that readers of the index do not wait for the disk.
    changing: Mutex<()>,
}

/// What went wrong with a registration.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    #[error("there is no {kind} `{name}`: register it first, or list what there is")]
    NotFound { kind: &'static str, name: String },
    #[error("{kind} `{name}` is registered already, with another content: choose another version")]
    Exists { kind: &'static str, name: String },
    #[error("there are {max} versions of {kind}s already, which is the limit `{kind}s`")]
    TooMany { kind: &'static str, max: u64 },
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl<T: Versioned> Versions<T> {
    /// Reads what is in `folder`. `kind` is the word for messages.
    pub fn open(kind: &'static str, folder: PathBuf, spool: PathBuf, max: u64) -> io::Result<Self> {
        let mut index: BTreeMap<String, Vec<Arc<T>>> = BTreeMap::new();
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let thing: T = serde_json::from_slice(&fs::read(&path)?).map_err(|e| {
                io::Error::new(io::ErrorKind::InvalidData, format!("`{}` does not decode: {e}", path.display()))
            })?;
            index.entry(thing.name().to_owned()).or_default().push(Arc::new(thing));
        }
        for versions in index.values_mut() {
            versions.sort_by_key(|thing| (thing.create_time(), thing.version().clone()));
        }
        Ok(Self { kind, folder, spool, max, index: RwLock::new(index), changing: Mutex::default() })
    }

    /// Returns a version, or the newest one.
    pub fn find(&self, name: &str, version: Option<&str>) -> Result<Arc<T>, VersionError> {
        let index = self.index();
        let versions = index.get(name).map(Vec::as_slice).unwrap_or_default();
        let found = match version {
            None => versions.last(),
            Some(version) => versions.iter().find(|thing| thing.version().as_str() == version),
        };
        found.cloned().ok_or_else(|| VersionError::NotFound { kind: self.kind, name: reference(name, version) })
    }

    /// Returns every version of everything; of one name, the newest last.
    pub fn all(&self) -> Vec<Arc<T>> {
        self.index().values().flatten().cloned().collect()
    }

    /// Returns up to `limit` versions after the first `skip`, by name and age, and whether there are more.
    pub fn list(&self, skip: usize, limit: usize) -> (Vec<Arc<T>>, bool) {
        let index = self.index();
        let mut rest = index.values().flatten().skip(skip);
        let listed = rest.by_ref().take(limit).cloned().collect();
        (listed, rest.next().is_some())
    }

    /// Says what [`Versions::add`] would say, and adds nothing.
    pub fn check(&self, thing: &T) -> Result<(), VersionError> {
        let index = self.index();
        let of_name = index.get(thing.name()).map(Vec::as_slice).unwrap_or_default();
        match of_name.iter().find(|known| known.version() == thing.version()) {
            Some(known) if known.same(thing) => Ok(()),
            Some(_) => {
                let name = reference(thing.name(), Some(thing.version().as_str()));
                Err(VersionError::Exists { kind: self.kind, name })
            }
            None if index.values().map(Vec::len).sum::<usize>() as u64 >= self.max => {
                Err(VersionError::TooMany { kind: self.kind, max: self.max })
            }
            None => Ok(()),
        }
    }

    /// Registers a version, durably. The same once more is a success; returns what is registered.
    pub fn add(&self, thing: T) -> Result<Arc<T>, VersionError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.check(&thing)?;
        if let Ok(known) = self.find(thing.name(), Some(thing.version().as_str())) {
            return Ok(known);
        }
        self.write(&thing)?;
        let thing = Arc::new(thing);
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        index.entry(thing.name().to_owned()).or_default().push(thing.clone());
        Ok(thing)
    }

    /// Disables or enables a version, durably.
    pub fn set_disabled(&self, name: &str, version: &str, disabled: bool) -> Result<Arc<T>, VersionError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut thing = T::clone(&*self.find(name, Some(version))?);
        thing.set_disabled(disabled);
        self.write(&thing)?;
        let thing = Arc::new(thing);
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        for known in index.get_mut(name).into_iter().flatten().filter(|known| known.version().as_str() == version) {
            *known = thing.clone();
        }
        Ok(thing)
    }

    fn write(&self, thing: &T) -> io::Result<()> {
        let path = self.folder.join(format!("{}.json", reference(thing.name(), Some(thing.version().as_str()))));
        durable::write(&path, &serde_json::to_vec(thing)?, &self.spool)
    }

    fn index(&self) -> RwLockReadGuard<'_, BTreeMap<String, Vec<Arc<T>>>> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns `name@version`, cut to what a message can bear.
fn reference(name: &str, version: Option<&str>) -> String {
    let name: String = name.chars().take(80).collect();
    match version {
        Some(version) => format!("{name}@{}", version.chars().take(40).collect::<String>()),
        None => name,
    }
}
