//! What compiling needs: memory, threads, and the socket that it was born with.

use Argument::{Has, Is, Lacks, OwnProcess};

use super::{Argument, Call, NAMESPACES, NOT_BOTH, any, only};

pub const CALLS: &[Call] = &[
    any(libc::SYS_brk, "allocator"),
    any(libc::SYS_clock_gettime, "clocks, where the vDSO has none"),
    only(libc::SYS_clone, "threads, not processes", &[&[Has(0, libc::CLONE_THREAD as u64), Lacks(0, NAMESPACES)]]),
    any(libc::SYS_clone3, "answered by a filter of its own: as if there was none"),
    any(libc::SYS_close, "descriptors"),
    any(libc::SYS_exit, "end of a thread"),
    any(libc::SYS_exit_group, "end of the process"),
    any(libc::SYS_futex, "locks"),
    any(libc::SYS_getpid, "abort"),
    any(libc::SYS_getrandom, "hash seeds"),
    any(libc::SYS_gettid, "abort and thread names"),
    any(libc::SYS_madvise, "giving memory back"),
    only(libc::SYS_mmap, "memory and stacks of threads", NOT_BOTH),
    only(libc::SYS_mprotect, "guard pages", NOT_BOTH),
    any(libc::SYS_mremap, "allocator"),
    any(libc::SYS_munmap, "allocator"),
    only(libc::SYS_prctl, "names of threads", &[&[Is(0, libc::PR_SET_NAME as u64)]]),
    any(libc::SYS_read, "the socket"),
    any(libc::SYS_restart_syscall, "after a stop"),
    any(libc::SYS_rseq, "start of a thread"),
    any(libc::SYS_rt_sigaction, "trap handlers, and abort"),
    any(libc::SYS_rt_sigprocmask, "threads"),
    any(libc::SYS_rt_sigreturn, "return from a signal"),
    any(libc::SYS_sched_getaffinity, "how many threads make sense"),
    any(libc::SYS_sched_yield, "locks"),
    any(libc::SYS_set_robust_list, "start of a thread"),
    any(libc::SYS_sigaltstack, "start of a thread"),
    only(libc::SYS_tgkill, "abort signals itself", &[&[OwnProcess(0)]]),
    any(libc::SYS_write, "the socket, and last words"),
];
