//! What the kernel shows of this process in `/proc`, held open: the jail has no `/proc`.

use std::{
    fs, io,
    mem::MaybeUninit,
    os::fd::{AsRawFd as _, OwnedFd},
    path::PathBuf,
};

use rustix::fs::{Mode, OFlags, RawDir, SeekFrom, open, openat, readlinkat, seek};

/// The directory `/proc/self`, and the one in it that lists descriptors: Landlock governs opening it, not reading.
pub struct Proc {
    folder: OwnedFd,
    descriptors: OwnedFd,
}

impl Proc {
    /// Opens the directory.
    pub fn open() -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = open("/proc/self", OFlags::PATH | flags, Mode::empty())?;
        let descriptors = openat(&folder, "fd", OFlags::RDONLY | flags, Mode::empty())?;
        Ok(Self { folder, descriptors })
    }

    /// Returns where a link leads.
    pub fn link(&self, name: &str) -> io::Result<PathBuf> {
        let target = readlinkat(&self.folder, name, Vec::new())?;
        Ok(PathBuf::from(target.to_string_lossy().into_owned()))
    }

    /// Returns the text of a file.
    pub fn read(&self, name: &str) -> io::Result<String> {
        let file = openat(&self.folder, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        io::read_to_string(fs::File::from(file))
    }

    /// Writes to a file.
    pub fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let file = openat(&self.folder, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        io::Write::write_all(&mut fs::File::from(file), text.as_bytes())
    }

    /// Returns every open descriptor but the two of this, and what it refers to.
    pub fn descriptors(&self) -> io::Result<Vec<(i32, String)>> {
        let own = [self.folder.as_raw_fd(), self.descriptors.as_raw_fd()];
        let mut open = Vec::new();
        seek(&self.descriptors, SeekFrom::Start(0))?;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut entries = RawDir::new(&self.descriptors, &mut buffer);
        while let Some(entry) = entries.next() {
            let Ok(number) = entry?.file_name().to_string_lossy().parse::<i32>() else { continue };
            if !own.contains(&number) {
                open.push((number, self.link(&format!("fd/{number}"))?.to_string_lossy().into_owned()));
            }
        }
        Ok(open)
    }
}
