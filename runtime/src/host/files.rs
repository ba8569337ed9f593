//! `filesystem`: what a step's descriptors stand for, and how a host call sees them.

#[cfg(test)]
mod tests;

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::{
    filesystem::{Descriptor, WasiFilesystemCtx, WasiFilesystemCtxView},
    p2::{
        DynOutputStream, FsError, FsResult,
        bindings::{
            clocks::wall_clock::Datetime,
            filesystem::types::{
                DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode, HostDescriptor as _, MetadataHashValue,
                PathFlags,
            },
        },
    },
};

use super::{
    Exceeded,
    file_stream::FileWriter,
    objects::{Object, Objects},
    quota::{Entry, FileId, Full, Handle, Tree},
};
use crate::step::{FIXED, Mount};

/// The writable trees of a step, by their paths on the host, and the numbers of its files. A tool that the step calls
/// shares them.
#[derive(Clone, Default)]
pub struct Trees {
    writable: HashMap<PathBuf, Tree>,
    objects: Objects,
}

impl Trees {
    /// Returns the writable trees of `mounts`: those that the caller has are the caller's.
    pub fn of(mounts: &[Mount], caller: Option<&Self>) -> Self {
        let tree = |mount: &Mount| {
            let quota = mount.writable?;
            let shared = caller.and_then(|caller| caller.writable.get(&mount.host_path).cloned());
            Some((mount.host_path.clone(), shared.unwrap_or_else(|| Tree::new(quota, mount.shared))))
        };
        let objects = caller.map(|caller| caller.objects.clone()).unwrap_or_default();
        Self { writable: mounts.iter().filter_map(tree).collect(), objects }
    }
}

/// What the guest's descriptors stand for. One for each step.
pub struct Files {
    seed: [u8; 32],
    /// Of every file, to the guest.
    time: Datetime,
    objects: Objects,
    /// Writable mounts by the path at which the guest sees them.
    pub(super) trees: HashMap<String, Tree>,
    /// Descriptors below a writable mount.
    pub(super) open: HashMap<u32, Open>,
    /// Live directory streams.
    listings: u64,
    /// Entries of theirs, whether they were read or not.
    listed: u64,
}

pub(super) struct Open {
    pub(super) tree: Tree,
    /// Set for a regular file.
    pub(super) handle: Option<Arc<Handle>>,
}

/// A directory stream.
pub(super) struct Listing {
    /// How many there were.
    pub(super) entries: u64,
    /// What is left of them, from the end.
    pub(super) left: Vec<FsResult<DirectoryEntry>>,
}

impl Files {
    /// Returns the files of a step that begins at `time`.
    pub fn new(seed: [u8; 32], time: Datetime, trees: &Trees) -> Self {
        let objects = trees.objects.clone();
        Self { seed, time, objects, trees: HashMap::new(), open: HashMap::new(), listings: 0, listed: 0 }
    }

    /// Adds a mount, if it is writable.
    pub fn add(&mut self, mount: &Mount, trees: &Trees) {
        if mount.writable.is_some()
            && let Some(tree) = trees.writable.get(&mount.host_path)
        {
            self.trees.insert(mount.guest_path.clone(), tree.clone());
        }
    }

    /// Checks that there can be another directory stream.
    pub(super) fn check_listings(&self) -> Result<(), Exceeded> {
        let value = FIXED.directory_streams;
        if self.listings < value { Ok(()) } else { Err(Exceeded { limit: "directory_streams", value }) }
    }

    /// Counts a directory stream of so many entries, if all of them together are not too many.
    pub(super) fn add_listing(&mut self, entries: u64) -> Result<(), Exceeded> {
        let (listed, value) = (self.listed.saturating_add(entries), FIXED.listed_entries);
        if listed > value {
            return Err(Exceeded { limit: "listed_entries", value });
        }
        (self.listings, self.listed) = (self.listings + 1, listed);
        Ok(())
    }

    pub(super) fn remove_listing(&mut self, entries: u64) {
        self.listings = self.listings.saturating_sub(1);
        self.listed = self.listed.saturating_sub(entries);
    }

    /// Returns by how many bytes and entries all writable mounts grew.
    pub fn growth(&self) -> (i64, i64) {
        self.trees.values().map(Tree::growth).fold((0, 0), |sum, tree| (sum.0 + tree.0, sum.1 + tree.1))
    }
}

/// Marks the linked interfaces: their data is a [`View`].
pub struct Guest;

impl HasData for Guest {
    type Data<'a> = View<'a>;
}

/// One host call's access to the step's files.
pub struct View<'a> {
    pub ctx: &'a mut WasiFilesystemCtx,
    pub table: &'a mut ResourceTable,
    pub files: &'a mut Files,
}

pub(super) type Fd = Resource<Descriptor>;

impl View<'_> {
    pub(super) fn wasi(&mut self) -> WasiFilesystemCtxView<'_> {
        WasiFilesystemCtxView { ctx: self.ctx, table: self.table }
    }

    pub(super) fn tree(&self, fd: &Fd) -> Option<Tree> {
        self.files.open.get(&fd.rep()).map(|open| open.tree.clone())
    }

    pub(super) fn handle(&self, fd: &Fd) -> Option<Arc<Handle>> {
        self.files.open.get(&fd.rep()).and_then(|open| open.handle.clone())
    }

    /// Returns what a guest sees of a file: nothing that is another's doing, or its disk's.
    pub(super) fn shown(&self, stat: DescriptorStat) -> DescriptorStat {
        let is_directory = stat.type_ == DescriptorType::Directory;
        let (link_count, size) = if is_directory { (1, 0) } else { (stat.link_count, stat.size) };
        let time = Some(self.files.time);
        DescriptorStat {
            link_count,
            size,
            data_access_timestamp: time,
            data_modification_timestamp: time,
            status_change_timestamp: time,
            ..stat
        }
    }

    /// Returns what stands for a file that has this identity on the host.
    pub(super) fn object_hash(&self, id: FileId) -> FsResult<MetadataHashValue> {
        let number = self.files.objects.number(id).map_err(FsError::trap)?;
        Ok(self.hash(Object::Numbered(number)))
    }

    /// Returns what stands for a file that is open and that no directory names.
    pub(super) fn deleted_hash(&self, fd: &Fd) -> MetadataHashValue {
        self.hash(Object::Deleted(fd.rep()))
    }

    fn hash(&self, object: Object) -> MetadataHashValue {
        let (lower, upper) = object.hash(&self.files.seed);
        MetadataHashValue { lower, upper }
    }

    /// Forgets a file whose last name is gone.
    pub(super) fn forget(&self, id: FileId) {
        self.files.objects.forget(id);
    }

    /// Returns what stands at a path, or `None` if nothing does.
    pub(super) async fn found(&mut self, fd: &Fd, flags: PathFlags, path: &str) -> FsResult<Option<DescriptorStat>> {
        match self.wasi().stat_at(again(fd), flags, path.into()).await {
            Ok(stat) => Ok(Some(stat)),
            Err(error) => match error.downcast_ref() {
                Some(ErrorCode::NoEntry) => Ok(None),
                _ => Err(error),
            },
        }
    }

    pub(super) async fn id(&mut self, fd: &Fd, flags: PathFlags, path: &str) -> FsResult<FileId> {
        let hash = self.wasi().metadata_hash_at(again(fd), flags, path.into()).await?;
        Ok((hash.lower, hash.upper))
    }

    /// Gives back what a name freed that is no longer there. `stat` and `id` are of before.
    pub(super) fn freed(&mut self, tree: &Tree, stat: &DescriptorStat, id: FileId) {
        tree.remove_entry();
        if stat.type_ == DescriptorType::Directory || stat.link_count <= 1 {
            self.forget(id);
        }
        if stat.type_ == DescriptorType::RegularFile && stat.link_count <= 1 {
            tree.unlink(id, stat.size);
        }
    }

    pub(super) fn metered(
        &mut self,
        fd: &Fd,
        stream: Resource<DynOutputStream>,
        at: Option<u64>,
    ) -> FsResult<Resource<DynOutputStream>> {
        let inner = self.table.delete(stream)?;
        let metered: DynOutputStream = Box::new(FileWriter::new(inner, self.handle(fd), at));
        Ok(self.table.push(metered)?)
    }
}

/// Names the same descriptor once more: the methods of wasmtime-wasi take it by value and only look it up.
pub(super) fn again(fd: &Fd) -> Fd {
    Resource::new_borrow(fd.rep())
}

/// Charges one entry if the tree is metered. Dropped before it is kept, it is given back.
pub(super) fn entry(tree: Option<&Tree>) -> FsResult<Option<Entry>> {
    tree.map(Tree::add_entry).transpose().map_err(full)
}

pub(super) fn keep(entry: Option<Entry>) {
    if let Some(entry) = entry {
        entry.keep();
    }
}

pub(super) fn full(_: Full) -> FsError {
    ErrorCode::Quota.into()
}
