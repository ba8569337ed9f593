//! System calls on files that are on nobody's list, each with arguments that would do something.

use std::ffi::CString;

use libc::c_long;

/// Tries each on `path`, a file outside, and returns what was answered: `<name>: done` or `<name>: <errno>`.
pub fn all(path: &str) -> Vec<String> {
    let path = CString::new(path).unwrap();
    let new = CString::new(format!("{}-made", path.to_str().unwrap())).unwrap();
    let text = CString::new("user.palisade").unwrap();
    let root = CString::new("/").unwrap();
    let mut room = [0_u8; 4096];
    let (at, p, n, x, r) = (
        c_long::from(libc::AT_FDCWD),
        path.as_ptr() as c_long,
        new.as_ptr() as c_long,
        text.as_ptr() as c_long,
        root.as_ptr() as c_long,
    );
    let room = room.as_mut_ptr() as c_long;
    let fifo = c_long::from(libc::S_IFIFO | 0o600);
    let calls: &[(&str, c_long, [c_long; 6])] = &[
        ("open", libc::SYS_open, [p, 0, 0, 0, 0, 0]),
        ("creat", libc::SYS_creat, [n, 0o600, 0, 0, 0, 0]),
        ("stat", libc::SYS_stat, [p, room, 0, 0, 0, 0]),
        ("lstat", libc::SYS_lstat, [p, room, 0, 0, 0, 0]),
        ("access", libc::SYS_access, [p, 0, 0, 0, 0, 0]),
        ("faccessat", libc::SYS_faccessat, [at, p, 0, 0, 0, 0]),
        ("faccessat2", libc::SYS_faccessat2, [at, p, 0, 0, 0, 0]),
        ("truncate", libc::SYS_truncate, [p, 0, 0, 0, 0, 0]),
        ("fallocate", libc::SYS_fallocate, [0, 0, 0, 4096, 0, 0]),
        ("chmod", libc::SYS_chmod, [p, 0o777, 0, 0, 0, 0]),
        ("fchmod", libc::SYS_fchmod, [0, 0o777, 0, 0, 0, 0]),
        ("fchmodat", libc::SYS_fchmodat, [at, p, 0o777, 0, 0, 0]),
        ("fchmodat2", libc::SYS_fchmodat2, [at, p, 0o777, 0, 0, 0]),
        ("chown", libc::SYS_chown, [p, -1, -1, 0, 0, 0]),
        ("lchown", libc::SYS_lchown, [p, -1, -1, 0, 0, 0]),
        ("fchown", libc::SYS_fchown, [0, -1, -1, 0, 0, 0]),
        ("fchownat", libc::SYS_fchownat, [at, p, -1, -1, 0, 0]),
        ("setxattr", libc::SYS_setxattr, [p, x, room, 8, 0, 0]),
        ("getxattr", libc::SYS_getxattr, [p, x, room, 8, 0, 0]),
        ("listxattr", libc::SYS_listxattr, [p, room, 4096, 0, 0, 0]),
        ("removexattr", libc::SYS_removexattr, [p, x, 0, 0, 0, 0]),
        ("mkdir", libc::SYS_mkdir, [n, 0o700, 0, 0, 0, 0]),
        ("rmdir", libc::SYS_rmdir, [n, 0, 0, 0, 0, 0]),
        ("mknod", libc::SYS_mknod, [n, fifo, 0, 0, 0, 0]),
        ("mknodat", libc::SYS_mknodat, [at, n, fifo, 0, 0, 0]),
        ("symlink", libc::SYS_symlink, [p, n, 0, 0, 0, 0]),
        ("readlink", libc::SYS_readlink, [n, room, 4096, 0, 0, 0]),
        ("link", libc::SYS_link, [p, n, 0, 0, 0, 0]),
        ("rename", libc::SYS_rename, [n, p, 0, 0, 0, 0]),
        ("renameat2", libc::SYS_renameat2, [at, p, at, n, 0, 0]),
        ("unlink", libc::SYS_unlink, [n, 0, 0, 0, 0, 0]),
        ("utime", libc::SYS_utime, [p, 0, 0, 0, 0, 0]),
        ("utimes", libc::SYS_utimes, [p, 0, 0, 0, 0, 0]),
        ("futimesat", libc::SYS_futimesat, [at, p, 0, 0, 0, 0]),
        ("chdir", libc::SYS_chdir, [r, 0, 0, 0, 0, 0]),
        ("fchdir", libc::SYS_fchdir, [0, 0, 0, 0, 0, 0]),
        ("chroot", libc::SYS_chroot, [r, 0, 0, 0, 0, 0]),
        ("pivot_root", libc::SYS_pivot_root, [r, r, 0, 0, 0, 0]),
        ("mount", libc::SYS_mount, [r, r, 0, 0, 0, 0]),
        ("umount2", libc::SYS_umount2, [n, 0, 0, 0, 0, 0]),
        ("open_tree", libc::SYS_open_tree, [at, r, 0, 0, 0, 0]),
        ("move_mount", libc::SYS_move_mount, [at, r, at, r, 0, 0]),
        ("fsopen", libc::SYS_fsopen, [x, 0, 0, 0, 0, 0]),
        ("mount_setattr", libc::SYS_mount_setattr, [at, r, 0, room, 32, 0]),
        ("statfs", libc::SYS_statfs, [p, room, 0, 0, 0, 0]),
        ("name_to_handle_at", libc::SYS_name_to_handle_at, [at, p, room, room, 0, 0]),
        ("open_by_handle_at", libc::SYS_open_by_handle_at, [at, room, 0, 0, 0, 0]),
        ("inotify_init1", libc::SYS_inotify_init1, [0, 0, 0, 0, 0, 0]),
        ("fanotify_init", libc::SYS_fanotify_init, [0, 0, 0, 0, 0, 0]),
        ("quotactl", libc::SYS_quotactl, [0, r, 0, room, 0, 0]),
        ("swapon", libc::SYS_swapon, [n, 0, 0, 0, 0, 0]),
        ("acct", libc::SYS_acct, [n, 0, 0, 0, 0, 0]),
        ("uselib", libc::SYS_uselib, [p, 0, 0, 0, 0, 0]),
        ("sendfile", libc::SYS_sendfile, [0, 0, 0, 0, 0, 0]),
        ("splice", libc::SYS_splice, [0, 0, 0, 0, 0, 0]),
        ("copy_file_range", libc::SYS_copy_file_range, [0, 0, 0, 0, 0, 0]),
        ("flock", libc::SYS_flock, [0, 2, 0, 0, 0, 0]),
        ("umask", libc::SYS_umask, [0o022, 0, 0, 0, 0, 0]),
        ("sync", libc::SYS_sync, [0, 0, 0, 0, 0, 0]),
        ("syncfs", libc::SYS_syncfs, [0, 0, 0, 0, 0, 0]),
        ("io_setup", libc::SYS_io_setup, [1, room, 0, 0, 0, 0]),
        ("getdents", libc::SYS_getdents, [0, room, 4096, 0, 0, 0]),
        ("getcwd", libc::SYS_getcwd, [room, 4096, 0, 0, 0, 0]),
    ];
    calls
        .iter()
        .map(|(name, call, [a, b, c, d, e, f])| {
            // SAFETY: every pointer is to text that ends with a NUL, or to room for what any of these calls writes.
            let result = unsafe { libc::syscall(*call, *a, *b, *c, *d, *e, *f) };
            let error = nix::errno::Errno::last();
            if result == -1 { format!("{name}: {error:?}") } else { format!("{name}: done") }
        })
        .collect()
}
