//! What running steps needs: computing, the socket, an event loop that was made before, and files below the mounts.
//!
//! There is no way to make a thread: all that a worker has were started before the filter.

use Argument::{Is, IsInt, OwnProcess};

use super::{Argument, Call, NOT_BOTH, any, only};

pub const CALLS: &[Call] = &[
    // Computing.
    any(libc::SYS_brk, "allocator, which takes a denial for success and then writes where nothing is"),
    any(libc::SYS_clock_gettime, "processor time of a step"),
    any(libc::SYS_close, "descriptors"),
    any(libc::SYS_exit, "end of a thread, when the worker ends"),
    any(libc::SYS_exit_group, "end of the process"),
    any(libc::SYS_futex, "locks"),
    any(libc::SYS_getpid, "abort"),
    any(libc::SYS_getrandom, "random numbers and hash seeds"),
    any(libc::SYS_gettid, "abort"),
    any(libc::SYS_madvise, "giving memory back"),
    only(libc::SYS_mmap, "memories, stacks, and compiled code, which is never writable", NOT_BOTH),
    only(libc::SYS_mprotect, "growing memories, publishing code", NOT_BOTH),
    any(libc::SYS_mremap, "allocator"),
    any(libc::SYS_munmap, "allocator"),
    only(libc::SYS_process_madvise, "giving memory of many slots back at once", &[&[IsInt(0, PIDFD_SELF)]]),
    any(libc::SYS_rt_sigprocmask, "abort"),
    any(libc::SYS_rt_sigreturn, "return from a trap handler"),
    any(libc::SYS_sigaltstack, "stacks of trap handlers"),
    only(libc::SYS_tgkill, "abort signals itself", &[&[OwnProcess(0)]]),
    // The socket and the event loop.
    any(libc::SYS_epoll_wait, "event loop"),
    any(libc::SYS_read, "waking the event loop, guests' files"),
    any(libc::SYS_recvfrom, "the socket"),
    any(libc::SYS_sendto, "the socket"),
    any(libc::SYS_write, "waking the event loop, last words"),
    // Artifacts, and wasi:filesystem.
    only(
        libc::SYS_fcntl,
        "flags of a guest's file, and a second handle of it",
        &[
            &[Is(1, libc::F_GETFL as u64)],
            &[Is(1, libc::F_SETFL as u64)],
            &[Is(1, libc::F_DUPFD_CLOEXEC as u64)],
            &[Is(1, libc::F_GETFD as u64)],
        ],
    ),
    any(libc::SYS_fadvise64, "advise"),
    any(libc::SYS_fdatasync, "sync-data"),
    any(libc::SYS_fsync, "sync"),
    any(libc::SYS_ftruncate, "set-size"),
    any(libc::SYS_getdents64, "read-directory"),
    only(libc::SYS_ioctl, "which pages were touched", &[&[Is(1, PAGEMAP_SCAN)]]),
    any(libc::SYS_linkat, "link-at"),
    any(libc::SYS_mkdirat, "create-directory-at"),
    any(libc::SYS_openat, "artifacts and preopened directories; Landlock decides which"),
    any(libc::SYS_openat2, "open-at: without it wasmtime falls back to a weaker resolver"),
    any(libc::SYS_pread64, "read"),
    any(libc::SYS_pwrite64, "write"),
    any(libc::SYS_pwritev2, "append"),
    any(libc::SYS_readlinkat, "readlink-at"),
    any(libc::SYS_renameat, "rename-at"),
    any(libc::SYS_statx, "stat"),
    any(libc::SYS_symlinkat, "symlink-at"),
    any(libc::SYS_unlinkat, "unlink-file-at, remove-directory-at"),
    // Of what is open: Landlock does not judge times, so by a path those of any file of this user's could be set.
    only(libc::SYS_utimensat, "set-times", &[&[Argument::Is(1, 0)]]),
];

/// This process itself, in place of a descriptor.
const PIDFD_SELF: i32 = -10_000;

const PAGEMAP_SCAN: u64 = 0xc060_6610;
