//! `filesystem`: wasmtime-wasi's own, with a quota before each change, no way to devices, FIFOs and sockets, and nothing in
//! its answers that is another on another disk or another day.

use std::sync::Arc;

use wasmtime::component::Resource;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, FsError, FsResult, ReaddirIterator,
    bindings::filesystem::{preopens, types},
};

use super::{
    file_stream::FileReader,
    files::{Fd, Listing, Open, View, again, entry, full, keep},
    quota::Full,
};
use types::{
    DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode, MetadataHashValue, NewTimestamp,
    OpenFlags, PathFlags,
};

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
        // Whatever the flags say, wasmtime-wasi writes through any descriptor of a writable mount; and a file that was
        // deleted stays on the disk while any descriptor, also of a reader, is open.
        let stat = self.wasi().stat(again(&opened)).await?;
        let handle = if stat.type_ == DescriptorType::RegularFile {
            let hash = self.wasi().metadata_hash(again(&opened)).await?;
            let id = (hash.lower, hash.upper);
            if open_flags.contains(OpenFlags::TRUNCATE) {
                tree.truncated(id, before.map_or(0, |stat| stat.size));
            }
            Some(Arc::new(tree.open(id, stat.size)))
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

    fn read_via_stream(&mut self, fd: Fd, offset: u64) -> FsResult<Resource<DynInputStream>> {
        let stream = self.wasi().read_via_stream(again(&fd), offset)?;
        let inner = self.table.delete(stream)?;
        let held: DynInputStream = Box::new(FileReader::new(inner, self.handle(&fd)));
        Ok(self.table.push(held)?)
    }

    async fn read_directory(&mut self, fd: Fd) -> FsResult<Resource<ReaddirIterator>> {
        // Each holds its whole listing.
        self.files.check_listings().map_err(FsError::trap)?;
        let stream = self.wasi().read_directory(fd).await?;
        let mut entries: Vec<_> = self.table.delete(stream)?.into_iter().collect();
        // By their bytes, the last first; what has no name in UTF-8 comes at the end.
        entries.sort_by(|a, b| match (a, b) {
            (Ok(a), Ok(b)) => b.name.cmp(&a.name),
            (a, b) => a.is_ok().cmp(&b.is_ok()),
        });
        let count = entries.len() as u64;
        self.files.add_listing(count).map_err(FsError::trap)?;
        let listing = self.table.push(Listing { entries: count, left: entries })?;
        // To the guest's side of it they are all directory streams; what it holds is for `read_directory_entry` to know.
        Ok(Resource::new_own(listing.rep()))
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
        let Some(tree) = self.tree(&fd) else { return self.wasi().remove_directory_at(fd, path).await };
        let id = self.id(&fd, PathFlags::empty(), &path).await?;
        self.wasi().remove_directory_at(fd, path).await?;
        tree.remove_entry();
        self.forget(id);
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
        // Opened as any file is, and with the same refusals: by its path, wasmtime-wasi would open it itself, and wait for
        // whoever writes to a FIFO. The jail lets times be set of what is open only. Links have none to set.
        let opened = self.open_at(fd, flags, path, OpenFlags::empty(), DescriptorFlags::READ).await?;
        let set = self.set_times(again(&opened), accessed, modified).await;
        types::HostDescriptor::drop(self, opened).map_err(FsError::trap)?;
        set
    }

    async fn read(&mut self, fd: Fd, length: u64, offset: u64) -> FsResult<(Vec<u8>, bool)> {
        self.wasi().read(fd, length, offset).await
    }

    async fn stat(&mut self, fd: Fd) -> FsResult<DescriptorStat> {
        let stat = self.wasi().stat(fd).await?;
        Ok(self.shown(stat))
    }

    async fn stat_at(&mut self, fd: Fd, flags: PathFlags, path: String) -> FsResult<DescriptorStat> {
        let stat = self.wasi().stat_at(fd, flags, path).await?;
        Ok(self.shown(stat))
    }

    async fn readlink_at(&mut self, fd: Fd, path: String) -> FsResult<String> {
        self.wasi().readlink_at(fd, path).await
    }

    async fn is_same_object(&mut self, a: Fd, b: Fd) -> wasmtime::Result<bool> {
        self.wasi().is_same_object(a, b).await
    }

    async fn metadata_hash(&mut self, fd: Fd) -> FsResult<MetadataHashValue> {
        if self.wasi().stat(again(&fd)).await?.link_count == 0 {
            return Ok(self.deleted_hash(&fd));
        }
        let hash = self.wasi().metadata_hash(fd).await?;
        self.object_hash((hash.lower, hash.upper))
    }

    async fn metadata_hash_at(&mut self, fd: Fd, flags: PathFlags, path: String) -> FsResult<MetadataHashValue> {
        let id = self.id(&fd, flags, &path).await?;
        self.object_hash(id)
    }
}

impl types::HostDirectoryEntryStream for View<'_> {
    async fn read_directory_entry(&mut self, stream: Resource<ReaddirIterator>) -> FsResult<Option<DirectoryEntry>> {
        let listing = Resource::<Listing>::new_borrow(stream.rep());
        self.table.get_mut(&listing)?.left.pop().transpose()
    }

    fn drop(&mut self, stream: Resource<ReaddirIterator>) -> wasmtime::Result<()> {
        let listing = self.table.delete(Resource::<Listing>::new_own(stream.rep()))?;
        self.files.remove_listing(listing.entries);
        Ok(())
    }
}
