//! `filesystem`: what a step's descriptors stand for, and how a host call sees them.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::{
    filesystem::{Descriptor, WasiFilesystemCtx, WasiFilesystemCtxView},
    p2::{
        DynOutputStream, FsError, FsResult,
        bindings::filesystem::types::{DescriptorStat, DescriptorType, ErrorCode, HostDescriptor as _, PathFlags},
    },
};

use super::{
    file_stream::{FileWriter, Pace},
    quota::{Entry, FileId, Full, Handle, Tree},
};
use crate::step::Mount;

/// The writable trees of a step, by their paths on the host. A tool that the step calls shares them.
#[derive(Clone, Default)]
pub struct Trees(HashMap<PathBuf, Tree>);

impl Trees {
    /// Returns the writable trees of `mounts`: those that the caller has are the caller's.
    pub fn of(mounts: &[Mount], caller: Option<&Self>) -> Self {
        let tree = |mount: &Mount| {
            let quota = mount.writable?;
            let shared = caller.and_then(|caller| caller.0.get(&mount.host_path).cloned());
            Some((mount.host_path.clone(), shared.unwrap_or_else(|| Tree::new(quota, mount.shared))))
        };
        Self(mounts.iter().filter_map(tree).collect())
    }
}

/// What the guest's descriptors stand for. One for each step.
#[derive(Default)]
pub struct Files {
    /// Writable mounts by the path at which the guest sees them.
    pub(super) trees: HashMap<String, Tree>,
    /// Descriptors below a writable mount.
    pub(super) open: HashMap<u32, Open>,
    /// Live directory streams.
    pub(super) listings: usize,
    pace: Pace,
}

pub(super) struct Open {
    pub(super) tree: Tree,
    /// Set for a regular file.
    pub(super) handle: Option<Arc<Handle>>,
}

impl Files {
    /// Adds a mount, if it is writable.
    pub fn add(&mut self, mount: &Mount, trees: &Trees) {
        if mount.writable.is_some()
            && let Some(tree) = trees.0.get(&mount.host_path)
        {
            self.trees.insert(mount.guest_path.clone(), tree.clone());
        }
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

    /// Lets other steps run, and the clock be looked at, between two calls: files are read and written on the thread
    /// that runs the guest, and burn no fuel.
    pub(super) async fn pace(&mut self) {
        self.files.pace.step().await;
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
