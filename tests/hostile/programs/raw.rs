//! Acts on files in raw system calls: from the mount's own directory, with nothing that resolves the path beneath it.

use std::{
    ffi::{CString, OsString},
    fs::File,
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::{
            ffi::{OsStrExt as _, OsStringExt as _},
            fs::FileExt as _,
        },
    },
};

use palisade::step::Mount;

use crate::case::{Act, BYTES_READ, Case, ENTRIES_READ, WRITTEN};

/// Performs all cases, and returns what became of each.
pub fn all(mounts: &[Mount], cases: &[Case]) -> Vec<String> {
    cases
        .iter()
        .map(|case| match perform(mounts, case) {
            Ok(said) => format!("ok: {said}"),
            Err(error) => format!("error: {error}"),
        })
        .collect()
}

fn perform(mounts: &[Mount], case: &Case) -> io::Result<String> {
    let mount = |name: &str| -> io::Result<OwnedFd> {
        let mount = mounts.iter().find(|mount| mount.guest_path == name).ok_or(io::ErrorKind::NotFound)?;
        open_at(libc::AT_FDCWD, &text(mount.host_path.as_os_str().as_bytes())?, libc::O_RDONLY | libc::O_DIRECTORY)
    };
    let at = mount(&case.at)?;
    let at = at.as_raw_fd();
    let path = text(case.path.as_bytes())?;
    let nofollow = if case.follow { 0 } else { libc::O_NOFOLLOW };
    let nofollow_at = if case.follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
    let open = |flags| open_at(at, &path, flags | nofollow).map(File::from);
    let with_write = |flags| open(libc::O_RDWR | flags).or_else(|_| open(libc::O_WRONLY | flags));
    let to = || -> io::Result<(OwnedFd, CString)> { Ok((mount(&case.to.0)?, text(case.to.1.as_bytes())?)) };
    match case.act {
        Act::OpenRead => taken(&open(libc::O_RDONLY)?),
        Act::OpenWrite | Act::OpenReadWrite => taken(&with_write(0)?),
        Act::Create => taken(&with_write(libc::O_CREAT)?),
        Act::Exclusive => taken(&with_write(libc::O_CREAT | libc::O_EXCL)?),
        Act::CreateUnasked => taken(&open(libc::O_RDONLY | libc::O_CREAT)?),
        Act::Truncate => taken(&with_write(libc::O_TRUNC)?),
        Act::TruncateUnasked => taken(&open(libc::O_RDONLY | libc::O_TRUNC)?),
        Act::Append => {
            io::Write::write_all(&mut open(libc::O_WRONLY | libc::O_APPEND)?, WRITTEN).map(|()| "appended".into())
        }
        Act::OpenDirectory | Act::OpenMutable => taken(&open(libc::O_RDONLY | libc::O_DIRECTORY)?),
        Act::Stat | Act::MetadataHash => {
            // SAFETY: all zeros is a valid `statx`.
            let mut stat: libc::statx = unsafe { std::mem::zeroed() };
            // SAFETY: the path ends with a NUL and `stat` is writable; both outlive the call.
            done(unsafe { libc::statx(at, path.as_ptr(), nofollow_at, libc::STATX_BASIC_STATS, &mut stat) })?;
            Ok(format!("mode {:o} of {} bytes", stat.stx_mode, stat.stx_size))
        }
        Act::ReadLink => {
            let mut target = vec![0; 4096];
            // SAFETY: the buffer is as long as it is said to be.
            let length = unsafe { libc::readlinkat(at, path.as_ptr(), target.as_mut_ptr().cast(), target.len()) };
            let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
            Ok(String::from_utf8_lossy(&target[..length]).into_owned())
        }
        // SAFETY: the path ends with a NUL and outlives the call; so below.
        Act::Unlink => done(unsafe { libc::unlinkat(at, path.as_ptr(), 0) }),
        // SAFETY: as above.
        Act::RemoveDirectory => done(unsafe { libc::unlinkat(at, path.as_ptr(), libc::AT_REMOVEDIR) }),
        // SAFETY: as above.
        Act::MakeDirectory => done(unsafe { libc::mkdirat(at, path.as_ptr(), 0o777) }),
        Act::Rename => {
            let (to, new) = to()?;
            // SAFETY: as above.
            done(unsafe { libc::renameat(at, path.as_ptr(), to.as_raw_fd(), new.as_ptr()) })
        }
        Act::Link => {
            let (to, new) = to()?;
            let flags = if case.follow { libc::AT_SYMLINK_FOLLOW } else { 0 };
            // SAFETY: as above.
            done(unsafe { libc::linkat(at, path.as_ptr(), to.as_raw_fd(), new.as_ptr(), flags) })
        }
        Act::Symlink => {
            let target = text(case.to.1.as_bytes())?;
            // SAFETY: as above.
            done(unsafe { libc::symlinkat(target.as_ptr(), at, path.as_ptr()) })
        }
        Act::SetTimes => {
            let time = libc::timespec { tv_sec: case.time.0 as i64, tv_nsec: case.time.1.into() };
            // SAFETY: as above, and two times are given.
            let by_path = done(unsafe { libc::utimensat(at, path.as_ptr(), [time, time].as_ptr(), nofollow_at) });
            // What the jail leaves: the times of what is open.
            by_path.or_else(|_| {
                let file = open(libc::O_RDONLY | libc::O_NONBLOCK)?;
                // SAFETY: two times are given.
                done(unsafe { libc::futimens(file.as_raw_fd(), [time, time].as_ptr()) })
            })
        }
        Act::SetSizeUnasked => open(libc::O_RDONLY)?.set_len(case.time.0).map(|()| "set".into()),
        Act::SetSize => open(libc::O_WRONLY)?.set_len(case.time.0).map(|()| "set".into()),
        Act::Sync => open(libc::O_WRONLY)?.sync_all().map(|()| "synced".into()),
        Act::Advise => {
            let file = open(libc::O_RDONLY)?;
            // SAFETY: takes no pointer.
            done(-unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_WILLNEED) })
        }
    }
}

/// Takes all that an open descriptor gives, whatever it was opened for.
fn taken(opened: &File) -> io::Result<String> {
    if !opened.metadata()?.is_dir() {
        let before = read(opened);
        return Ok(format!("{before}, written: {}", opened.write_at(WRITTEN, 0).is_ok()));
    }
    let names = names(opened)?;
    let peeked = names.iter().take(ENTRIES_READ).map(|name| {
        match text(name.as_bytes()).and_then(|name| open_at(opened.as_raw_fd(), &name, libc::O_RDONLY)) {
            Ok(file) => read(&File::from(file)),
            Err(error) => error.to_string(),
        }
    });
    let peeked: Vec<_> = peeked.collect();
    Ok(format!("listed: {names:?}, {peeked:?}"))
}

fn names(directory: &File) -> io::Result<Vec<OsString>> {
    let mut stream = rustix::fs::Dir::read_from(directory)?;
    let mut names = Vec::new();
    while let Some(entry) = stream.read() {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

fn read(file: &File) -> String {
    let mut bytes = vec![0; BYTES_READ as usize];
    match file.read_at(&mut bytes, 0) {
        Ok(length) => format!("read: {}", String::from_utf8_lossy(&bytes[..length])),
        Err(error) => format!("not read: {error}"),
    }
}

fn open_at(at: RawFd, path: &CString, flags: i32) -> io::Result<OwnedFd> {
    // A FIFO that nobody writes to is not waited for.
    let flags = flags | libc::O_CLOEXEC | libc::O_NONBLOCK;
    // SAFETY: the path ends with a NUL and outlives the call.
    let descriptor = unsafe { libc::openat(at, path.as_ptr(), flags, 0o666) };
    if descriptor == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was opened just now and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn done(result: i32) -> io::Result<String> {
    if result == 0 { Ok("done".into()) } else { Err(io::Error::last_os_error()) }
}

fn text(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(io::Error::from)
}
