//! Components by digest, aliases, and where their compiled artifacts are.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use super::{DataDir, durable};
use crate::{
    step::{Digest, Kind, Name},
    wire::Inspection,
};

/// A component that is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Component {
    pub digest: Digest,
    pub kind: Kind,
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    pub adapted: bool,
    pub size_bytes: u64,
    pub create_time: SystemTime,
}

/// The components of a data directory.
pub struct Components {
    folder: PathBuf,
    alias_folder: PathBuf,
    artifact_folder: PathBuf,
    spool: PathBuf,
    max: u64,
    index: RwLock<Index>,
    /// Held while files change, so that readers of the index do not wait for the disk.
    changing: Mutex<()>,
}

#[derive(Default)]
struct Index {
    components: BTreeMap<Digest, Arc<Component>>,
    aliases: BTreeMap<Name, Digest>,
}

/// What went wrong with a component.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    #[error("there is no component `{0}`: push it first, or list what there is")]
    NotFound(String),
    #[error("`{0}` is neither `components/sha256:…`, `sha256:…` nor an alias")]
    BadReference(String),
    #[error("there are {0} components already, which is the limit `components`: delete some first")]
    TooMany(u64),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Components {
    /// Reads the index of what is kept.
    pub fn open(data_dir: &DataDir, max: u64) -> io::Result<Self> {
        let components = Self {
            folder: data_dir.components(),
            alias_folder: data_dir.aliases(),
            artifact_folder: data_dir.artifacts(),
            spool: data_dir.spool(),
            max,
            index: RwLock::default(),
            changing: Mutex::default(),
        };
        let mut index = Index::default();
        for entry in fs::read_dir(&components.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "json") {
                let component: Component = serde_json::from_slice(&fs::read(&path)?)?;
                index.components.insert(component.digest, Arc::new(component));
            }
        }
        for entry in fs::read_dir(&components.alias_folder)? {
            let entry = entry?;
            let alias = entry.file_name().to_string_lossy().parse::<Name>();
            let digest = fs::read_to_string(entry.path())?.trim().parse::<Digest>();
            if let (Ok(alias), Ok(digest)) = (alias, digest)
                && index.components.contains_key(&digest)
            {
                index.aliases.insert(alias, digest);
            }
        }
        *components.write() = index;
        Ok(components)
    }

    /// Returns the component that `reference` names: `components/<digest>`, a digest or an alias.
    pub fn find(&self, reference: &str) -> Result<Arc<Component>, ComponentError> {
        let name = reference.strip_prefix("components/").unwrap_or(reference);
        let index = self.read();
        let digest = if name.starts_with("sha256:") {
            name.parse().map_err(|_| ComponentError::BadReference(shown(reference)))?
        } else {
            let alias: Name = name.parse().map_err(|_| ComponentError::BadReference(shown(reference)))?;
            *index.aliases.get(&alias).ok_or_else(|| ComponentError::NotFound(shown(reference)))?
        };
        index.components.get(&digest).cloned().ok_or_else(|| ComponentError::NotFound(shown(reference)))
    }

    /// Returns the component with this digest, if it is kept.
    pub fn get(&self, digest: Digest) -> Option<Arc<Component>> {
        self.read().components.get(&digest).cloned()
    }

    /// Returns up to `count` components after `after`, by digest.
    pub fn list(&self, after: Option<Digest>, count: usize) -> Vec<Arc<Component>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.read().components.range((from, Unbounded)).take(count).map(|(_, component)| component.clone()).collect()
    }

    /// Returns the aliases of a component.
    pub fn aliases(&self, digest: Digest) -> Vec<String> {
        self.read().aliases.iter().filter(|(_, d)| **d == digest).map(|(alias, _)| alias.to_string()).collect()
    }

    /// Returns whether there is room for one more.
    pub fn check_room(&self) -> Result<(), ComponentError> {
        let full = self.read().components.len() as u64 >= self.max;
        if full { Err(ComponentError::TooMany(self.max)) } else { Ok(()) }
    }

    /// Keeps the component in the durable file `spooled`, and its artifact in `artifact`. Blocks.
    pub fn add(
        &self,
        digest: Digest,
        inspection: Inspection,
        engine: &str,
        spooled: &Path,
        artifact: &Path,
    ) -> Result<Arc<Component>, ComponentError> {
        let Inspection { kind, imports, exports, adapted } = inspection;
        let size_bytes = fs::metadata(spooled)?.len();
        let _changing = self.changing();
        self.check_room()?;
        let component =
            Component { digest, kind, imports, exports, adapted, size_bytes, create_time: SystemTime::now() };
        self.add_artifact(digest, engine, artifact)?;
        durable::rename(spooled, &self.wasm(digest))?;
        // The record comes last: without it, there is no component.
        let record = serde_json::to_vec_pretty(&component).map_err(io::Error::other)?;
        durable::write(&self.record(digest), &record, &self.spool)?;
        let component = Arc::new(component);
        self.write().components.insert(digest, component.clone());
        Ok(component)
    }

    /// Keeps a compiled artifact. Blocks.
    pub fn add_artifact(&self, digest: Digest, engine: &str, artifact: &Path) -> io::Result<()> {
        let path = self.artifact(digest, engine);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        durable::rename(artifact, &path)
    }

    /// Deletes the artifacts of other engines: of versions before an upgrade. Blocks.
    pub fn forget_other_engines(&self, engine: &str) -> io::Result<()> {
        for folder in fs::read_dir(&self.artifact_folder)? {
            let folder = folder?;
            if folder.file_name() != engine {
                fs::remove_dir_all(folder.path())?;
            }
        }
        Ok(())
    }

    /// Points an alias to a component. Blocks.
    pub fn alias(&self, alias: Name, digest: Digest) -> Result<(), ComponentError> {
        let _changing = self.changing();
        if self.get(digest).is_none() {
            return Err(ComponentError::NotFound(digest.to_string()));
        }
        durable::write(&self.alias_folder.join(alias.as_str()), digest.to_string().as_bytes(), &self.spool)?;
        self.write().aliases.insert(alias, digest);
        Ok(())
    }

    /// Forgets a component, its aliases and its artifacts. Blocks.
    pub fn remove(&self, digest: Digest) -> io::Result<()> {
        let _changing = self.changing();
        durable::remove(&self.record(digest))?;
        for alias in self.aliases(digest) {
            durable::remove(&self.alias_folder.join(alias))?;
        }
        let mut index = self.write();
        index.components.remove(&digest);
        index.aliases.retain(|_, named| *named != digest);
        drop(index);
        durable::remove(&self.wasm(digest))?;
        for engine in fs::read_dir(&self.artifact_folder)? {
            durable::remove(&engine?.path().join(artifact_name(digest)))?;
        }
        Ok(())
    }

    /// Returns the path of the bytes that were pushed.
    pub fn wasm(&self, digest: Digest) -> PathBuf {
        self.folder.join(format!("{}.wasm", digest.hex()))
    }

    /// Returns the path that the artifact of a component has for an engine, whether it exists or not.
    pub fn artifact(&self, digest: Digest, engine: &str) -> PathBuf {
        self.artifact_folder.join(engine).join(artifact_name(digest))
    }

    /// Returns a path in the spool for half-done work.
    pub fn spool(&self) -> io::Result<tempfile::NamedTempFile> {
        tempfile::NamedTempFile::new_in(&self.spool)
    }

    fn record(&self, digest: Digest) -> PathBuf {
        self.folder.join(format!("{}.json", digest.hex()))
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn artifact_name(digest: Digest) -> String {
    format!("{}.cwasm", digest.hex())
}

/// Cuts a caller's text for an error message.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}
