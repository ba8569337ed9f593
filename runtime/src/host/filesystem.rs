//! `filesystem`: wasmtime-wasi's own, with a quota before each change and no way to devices, FIFOs and sockets.

use std::{collections::HashMap, sync::Arc};

use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::{
    filesystem::{Descriptor, WasiFilesystemCtx, WasiFilesystemCtxView},
    p2::{
        DynInputStream, DynOutputStream, FsError, FsResult, ReaddirIterator,
        bindings::filesystem::{preopens, types},
    },
};

use super::{
    file_stream::FileStream,
    quota::{Entry, FileId, Full, Handle, Tree},
};
use crate::step::Quota;
use types::{
    DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode, HostDescriptor as _, MetadataHashValue,
    NewTimestamp, OpenFlags, PathFlags,
};

/// What the guest's descriptors stand for. One for each step.
#[derive(Default)]
pub struct Files {
    /// Writable mounts by the path at which the guest sees them.
    trees: HashMap<String, Tree>,
    /// Descriptors below a writable mount.
    open: HashMap<u32, Open>,
}

struct Open {
    tree: Tree,
    /// Set for a file that is open for writing.
    handle: Option<Arc<Handle>>,
}

impl Files {
    /// Adds a writable mount.
    pub fn add(&mut self, guest_path: String, quota: Quota) {
        self.trees.insert(guest_path, Tree::new(quota));
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

type Fd = Resource<Descriptor>;

impl View<'_> {
    fn wasi(&mut self) -> WasiFilesystemCtxView<'_> {
        WasiFilesystemCtxView { ctx: self.ctx, table: self.table }
    }

    fn tree(&self, fd: &Fd) -> Option<Tree> {
        self.files.open.get(&fd.rep()).map(|open| open.tree.clone())
    }

    fn handle(&self, fd: &Fd) -> Option<Arc<Handle>> {
        self.files.open.get(&fd.rep()).and_then(|open| open.handle.clone())
    }

    /// Returns what stands at a path, or `None` if nothing does.
    async fn found(&mut self, fd: &Fd, flags: PathFlags, path: &str) -> FsResult<Option<DescriptorStat>> {
        match self.wasi().stat_at(again(fd), flags, path.into()).await {
            Ok(stat) => Ok(Some(stat)),
            Err(error) => match error.downcast_ref() {
                Some(ErrorCode::NoEntry) => Ok(None),
                _ => Err(error),
            },
        }
    }

    async fn id(&mut self, fd: &Fd, flags: PathFlags, path: &str) -> FsResult<FileId> {
        let hash = self.wasi().metadata_hash_at(again(fd), flags, path.into()).await?;
        Ok((hash.lower, hash.upper))
    }

    /// Gives back what a name freed that is no longer there. `stat` and `id` are of before.
    fn freed(&mut self, tree: &Tree, stat: &DescriptorStat, id: FileId) {
        tree.remove_entry();
        if stat.type_ == DescriptorType::RegularFile && stat.link_count <= 1 {
            tree.unlink(id, stat.size);
        }
    }

    fn metered(
        &mut self,
        fd: &Fd,
        stream: Resource<DynOutputStream>,
        at: Option<u64>,
    ) -> FsResult<Resource<DynOutputStream>> {
        let Some(handle) = self.handle(fd) else { return Ok(stream) };
        let inner = self.table.delete(stream)?;
        let metered: DynOutputStream = Box::new(FileStream::new(inner, handle, at));
        Ok(self.table.push(metered)?)
    }
}

/// Names the same descriptor once more: the methods of wasmtime-wasi take it by value and only look it up.
fn again(fd: &Fd) -> Fd {
    Resource::new_borrow(fd.rep())
}

/// Charges one entry if the tree is metered. Dropped before it is kept, it is given back.
fn entry(tree: Option<&Tree>) -> FsResult<Option<Entry>> {
    tree.map(Tree::add_entry).transpose().map_err(full)
}

fn keep(entry: Option<Entry>) {
    if let Some(entry) = entry {
        entry.keep();
    }
}

fn full(_: Full) -> FsError {
    ErrorCode::Quota.into()
}

impl preopens::Host for View<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Fd, String)>> {
        let directories = self.wasi().get_directories()?;
        for (fd, path) in &directories {
            if let Some(tree) = self.files.trees.get(path) {
                self.files.open.insert(fd.rep(), Open { tree: tree.clone(), handle: None });
            }
        }
        Ok(directories)
    }
}

impl types::Host for View<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn filesystem_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        if self.table.get(&error)?.downcast_ref::<Full>().is_some() {
            return Ok(Some(ErrorCode::Quota));
        }
        self.wasi().filesystem_error_code(error)
    }
}

impl types::HostDescriptor for View<'_> {
    async fn open_at(
        &mut self,
        fd: Fd,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Fd> {
        let before = self.found(&fd, path_flags, &path).await?;
        // Opening a FIFO would block this thread; a device or a socket is a way out.
        let special = |stat: &DescriptorStat| {
            !matches!(
                stat.type_,
                DescriptorType::RegularFile | DescriptorType::Directory | DescriptorType::SymbolicLink
            )
        };
        if before.as_ref().is_some_and(special) {
            return Err(ErrorCode::NotPermitted.into());
        }
        let tree = self.tree(&fd);
        let makes = before.is_none() && open_flags.contains(OpenFlags::CREATE);
        let entry = entry(tree.as_ref().filter(|_| makes))?;
        let opened = self.wasi().open_at(fd, path_flags, path, open_flags, flags).await?;
        keep(entry);
        let Some(tree) = tree else { return Ok(opened) };
        let handle = if flags.contains(DescriptorFlags::WRITE) {
            let hash = self.wasi().metadata_hash(again(&opened)).await?;
            let id = (hash.lower, hash.upper);
            if open_flags.contains(OpenFlags::TRUNCATE) {
                tree.truncated(id, before.map_or(0, |stat| stat.size));
            }
            let size = self.wasi().stat(again(&opened)).await?.size;
            Some(Arc::new(tree.open(id, size)))
        } else {
            None
        };
        self.files.open.insert(opened.rep(), Open { tree, handle });
        Ok(opened)
    }

    fn drop(&mut self, fd: Fd) -> wasmtime::Result<()> {
        self.files.open.remove(&fd.rep());
        types::HostDescriptor::drop(&mut self.wasi(), fd)
    }

    async fn write(&mut self, fd: Fd, data: Vec<u8>, offset: u64) -> FsResult<u64> {
        if let Some(handle) = self.handle(&fd) {
            handle.write(offset, data.len() as u64).map_err(full)?;
        }
        self.wasi().write(fd, data, offset).await
    }

    fn write_via_stream(&mut self, fd: Fd, offset: u64) -> FsResult<Resource<DynOutputStream>> {
        let stream = self.wasi().write_via_stream(again(&fd), offset)?;
        self.metered(&fd, stream, Some(offset))
    }

    fn append_via_stream(&mut self, fd: Fd) -> FsResult<Resource<DynOutputStream>> {
        let stream = self.wasi().append_via_stream(again(&fd))?;
        self.metered(&fd, stream, None)
    }

    async fn set_size(&mut self, fd: Fd, size: u64) -> FsResult<()> {
        if let Some(handle) = self.handle(&fd) {
            handle.set_bytes(size).map_err(full)?;
        }
        self.wasi().set_size(fd, size).await
    }

    async fn create_directory_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        let entry = entry(self.tree(&fd).as_ref())?;
        self.wasi().create_directory_at(fd, path).await?;
        keep(entry);
        Ok(())
    }

    async fn symlink_at(&mut self, fd: Fd, target: String, path: String) -> FsResult<()> {
        let entry = entry(self.tree(&fd).as_ref())?;
        self.wasi().symlink_at(fd, target, path).await?;
        keep(entry);
        Ok(())
    }

    async fn link_at(&mut self, fd: Fd, flags: PathFlags, path: String, new_fd: Fd, new_path: String) -> FsResult<()> {
        let (tree, new_tree) = (self.tree(&fd), self.tree(&new_fd));
        if let (Some(tree), Some(new_tree)) = (&tree, &new_tree)
            && !tree.is(new_tree)
        {
            return Err(ErrorCode::CrossDevice.into());
        }
        let entry = entry(new_tree.as_ref())?;
        self.wasi().link_at(fd, flags, path, new_fd, new_path).await?;
        keep(entry);
        Ok(())
    }

    async fn unlink_file_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        let Some(tree) = self.tree(&fd) else { return self.wasi().unlink_file_at(fd, path).await };
        let stat = self.wasi().stat_at(again(&fd), PathFlags::empty(), path.clone()).await?;
        let id = self.id(&fd, PathFlags::empty(), &path).await?;
        self.wasi().unlink_file_at(fd, path).await?;
        self.freed(&tree, &stat, id);
        Ok(())
    }

    async fn remove_directory_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        let tree = self.tree(&fd);
        self.wasi().remove_directory_at(fd, path).await?;
        if let Some(tree) = tree {
            tree.remove_entry();
        }
        Ok(())
    }

    async fn rename_at(&mut self, fd: Fd, path: String, new_fd: Fd, new_path: String) -> FsResult<()> {
        let (Some(tree), Some(new_tree)) = (self.tree(&fd), self.tree(&new_fd)) else {
            return self.wasi().rename_at(fd, path, new_fd, new_path).await;
        };
        let replaced = match self.found(&new_fd, PathFlags::empty(), &new_path).await? {
            Some(stat) => Some((stat, self.id(&new_fd, PathFlags::empty(), &new_path).await?)),
            None => None,
        };
        let moved = self.id(&fd, PathFlags::empty(), &path).await?;
        // Two mounts have two quotas: what moves between them would have to be counted out and in.
        if !tree.is(&new_tree) {
            return Err(ErrorCode::CrossDevice.into());
        }
        self.wasi().rename_at(fd, path, new_fd, new_path).await?;
        match replaced {
            // Renaming one name of a file to another name of it does nothing at all.
            Some((stat, id)) if id != moved => self.freed(&new_tree, &stat, id),
            _ => {}
        }
        Ok(())
    }

    // What changes no quota is wasmtime-wasi's alone.

    async fn advise(&mut self, fd: Fd, offset: u64, length: u64, advice: types::Advice) -> FsResult<()> {
        self.wasi().advise(fd, offset, length, advice).await
    }

    async fn sync_data(&mut self, fd: Fd) -> FsResult<()> {
        self.wasi().sync_data(fd).await
    }

    async fn sync(&mut self, fd: Fd) -> FsResult<()> {
        self.wasi().sync(fd).await
    }

    async fn get_flags(&mut self, fd: Fd) -> FsResult<DescriptorFlags> {
        self.wasi().get_flags(fd).await
    }

    async fn get_type(&mut self, fd: Fd) -> FsResult<DescriptorType> {
        self.wasi().get_type(fd).await
    }

    async fn set_times(&mut self, fd: Fd, accessed: NewTimestamp, modified: NewTimestamp) -> FsResult<()> {
        self.wasi().set_times(fd, accessed, modified).await
    }

    async fn set_times_at(
        &mut self,
        fd: Fd,
        flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        self.wasi().set_times_at(fd, flags, path, accessed, modified).await
    }

    async fn read(&mut self, fd: Fd, length: u64, offset: u64) -> FsResult<(Vec<u8>, bool)> {
        self.wasi().read(fd, length, offset).await
    }

    fn read_via_stream(&mut self, fd: Fd, offset: u64) -> FsResult<Resource<DynInputStream>> {
        self.wasi().read_via_stream(fd, offset)
    }

    async fn read_directory(&mut self, fd: Fd) -> FsResult<Resource<ReaddirIterator>> {
        self.wasi().read_directory(fd).await
    }

    async fn stat(&mut self, fd: Fd) -> FsResult<DescriptorStat> {
        self.wasi().stat(fd).await
    }

    async fn stat_at(&mut self, fd: Fd, flags: PathFlags, path: String) -> FsResult<DescriptorStat> {
        self.wasi().stat_at(fd, flags, path).await
    }

    async fn readlink_at(&mut self, fd: Fd, path: String) -> FsResult<String> {
        self.wasi().readlink_at(fd, path).await
    }

    async fn is_same_object(&mut self, a: Fd, b: Fd) -> wasmtime::Result<bool> {
        self.wasi().is_same_object(a, b).await
    }

    async fn metadata_hash(&mut self, fd: Fd) -> FsResult<MetadataHashValue> {
        self.wasi().metadata_hash(fd).await
    }

    async fn metadata_hash_at(&mut self, fd: Fd, flags: PathFlags, path: String) -> FsResult<MetadataHashValue> {
        self.wasi().metadata_hash_at(fd, flags, path).await
    }
}

impl types::HostDirectoryEntryStream for View<'_> {
    async fn read_directory_entry(&mut self, stream: Resource<ReaddirIterator>) -> FsResult<Option<DirectoryEntry>> {
        self.wasi().read_directory_entry(stream).await
    }

    fn drop(&mut self, stream: Resource<ReaddirIterator>) -> wasmtime::Result<()> {
        types::HostDirectoryEntryStream::drop(&mut self.wasi(), stream)
    }
}
