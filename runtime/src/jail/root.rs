//! A root directory of its own: empty, read-only, with what the process may see bound into it, at the same paths.
//!
//! Landlock governs opening and changing, not looking: without this, a process could ask what is where on the host,
//! and set the times of what its user owns.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io,
    mem::size_of,
    os::{
        fd::{AsRawFd, FromRawFd as _, OwnedFd, RawFd},
        unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    ptr,
};

use libc::{c_long, c_uint};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{Pid, chdir, pivot_root},
};
use rustix::{
    fs::{CWD, Mode},
    process::umask,
};

use super::Access;
use crate::wire::Ids;

/// Where the new root is made: a directory that is there on every host, and below which nothing is bound.
const PLACE: &str = "/proc";

/// A file in the new root that only Landlock keeps shut. The self-test tries it.
pub const SHUT: &str = "/shut";

/// Makes `files` all that there is. What they hold appears to `user` as if it owned what the owner of each directory
/// owns, if the file system can do that; on the disk, owners stay as they are.
pub fn build(files: &[(PathBuf, Access)], user: Option<Ids>) -> io::Result<()> {
    // What is mounted from here on is nobody else's, and the other way round.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    let mut trees = Vec::new();
    for (path, access) in files {
        trees.push((path, tree(path, *access, user)?));
    }
    trees.sort_by_key(|(path, _)| *path); // a directory comes before those in it
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("palisade"), PLACE, Some("tmpfs"), flags, Some("mode=755,size=1m"))?;
    chdir(PLACE)?;
    let before = umask(Mode::from_raw_mode(0o022));
    let filled = fill(&trees);
    umask(before);
    filled?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    set_attributes(CWD.as_raw_fd(), "/\0", 0, Attributes { set: libc::MOUNT_ATTR_RDONLY, users: None })
}

/// Makes the paths below the working directory, and puts the trees there.
fn fill(trees: &[(&PathBuf, OwnedFd)]) -> io::Result<()> {
    for (path, tree) in trees {
        let inside = path.strip_prefix("/").map_err(io::Error::other)?;
        // It is there already if it lies in one that was put there before.
        if !inside.is_dir() {
            DirBuilder::new().recursive(true).mode(0o755).create(inside)?;
        }
        attach(tree, inside)?;
    }
    File::create(&SHUT[1..])?;
    fs::set_permissions(&SHUT[1..], Permissions::from_mode(0o666))
}

/// Returns a copy of the mounts at `path`, attached nowhere, that allows no more than `access`.
fn tree(path: &Path, access: Access, user: Option<Ids>) -> io::Result<OwnedFd> {
    let (name, found) = (terminated(path), fs::metadata(path)?);
    let flags = libc::OPEN_TREE_CLONE | libc::O_CLOEXEC as c_uint | libc::AT_RECURSIVE as c_uint;
    // SAFETY: the name ends with a NUL and lives as long as the call; a result that is not negative is a descriptor of
    // ours.
    let tree = unsafe {
        let tree = libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, name.as_ptr(), flags);
        OwnedFd::from_raw_fd(checked(tree)? as RawFd)
    };
    let set = libc::MOUNT_ATTR_NOSUID
        | libc::MOUNT_ATTR_NODEV
        | if access == Access::Code { 0 } else { libc::MOUNT_ATTR_NOEXEC }
        | if access == Access::ReadWrite { 0 } else { libc::MOUNT_ATTR_RDONLY };
    let everywhere = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    set_attributes(tree.as_raw_fd(), "\0", everywhere, Attributes { set, users: None })?;
    let owner = Ids { uid: found.uid(), gid: found.gid() };
    if let Some(user) = user.filter(|user| user.uid != owner.uid) {
        // Not every file system can do this, nor root in every container: whether the user may open what is here is
        // looked at in the end.
        let _ = namespace_of(owner, user).and_then(|users| {
            let attributes = Attributes { set: libc::MOUNT_ATTR_IDMAP, users: Some(&users) };
            set_attributes(tree.as_raw_fd(), "\0", everywhere, attributes)
        });
    }
    Ok(tree)
}

fn attach(tree: &OwnedFd, inside: &Path) -> io::Result<()> {
    let inside = terminated(inside);
    let (from, flags) = (c"".as_ptr(), libc::MOVE_MOUNT_F_EMPTY_PATH);
    // SAFETY: both names end with a NUL and live as long as the call.
    let moved =
        unsafe { libc::syscall(libc::SYS_move_mount, tree.as_raw_fd(), from, libc::AT_FDCWD, inside.as_ptr(), flags) };
    checked(moved).map(drop)
}

struct Attributes<'a> {
    set: u64,
    /// The user namespace whose users the owners on the disk are taken for.
    users: Option<&'a OwnedFd>,
}

fn set_attributes(dir: RawFd, path: &str, flags: libc::c_int, attributes: Attributes<'_>) -> io::Result<()> {
    let users = attributes.users.map_or(0, |users| users.as_raw_fd() as u64);
    let attributes = libc::mount_attr { attr_set: attributes.set, attr_clr: 0, propagation: 0, userns_fd: users };
    // SAFETY: the path ends with a NUL, and both pointers live as long as the call.
    let set = unsafe {
        let (path, attributes) = (path.as_ptr(), ptr::from_ref(&attributes));
        libc::syscall(libc::SYS_mount_setattr, dir, path, flags, attributes, size_of::<libc::mount_attr>())
    };
    checked(set).map(drop)
}

/// Returns a user namespace in which `user` of this host is called `owner`.
fn namespace_of(owner: Ids, user: Ids) -> io::Result<OwnedFd> {
    let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
    // SAFETY: without CLONE_VM this is a fork of a process with one thread; the child does nothing but wait for its end.
    let child = checked(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })? as i32;
    if child == 0 {
        loop {
            // SAFETY: waits for a signal.
            unsafe { libc::pause() };
        }
    }
    let of_child = |name: &str| format!("/proc/{child}/{name}");
    let made = fs::write(of_child("uid_map"), format!("{} {} 1", owner.uid, user.uid))
        .and_then(|()| fs::write(of_child("gid_map"), format!("{} {} 1", owner.gid, user.gid)))
        .and_then(|()| File::open(of_child("ns/user")));
    kill(Pid::from_raw(child), Signal::SIGKILL)?;
    waitpid(Pid::from_raw(child), None)?;
    Ok(made?.into())
}

fn terminated(path: &Path) -> Vec<u8> {
    [path.as_os_str().as_encoded_bytes(), b"\0"].concat()
}

fn checked(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
