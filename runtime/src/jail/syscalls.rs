//! seccomp: the system calls that are left, each with its reason. Any other answers EPERM.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition as Condition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter_all_threads,
};

use super::Role;

/// What every jailed process does: compute, have threads, talk over the socket it was born with.
const COMPUTE: &[(c_long, &str)] = &[
    (libc::SYS_brk, "allocator"),
    (libc::SYS_capget, "the self-test"),
    (libc::SYS_clone3, "answered by a filter of its own"),
    (libc::SYS_clock_gettime, "clocks, where the vDSO has none"),
    (libc::SYS_clock_nanosleep, "timers"),
    (libc::SYS_close, "descriptors"),
    (libc::SYS_exit, "end of a thread"),
    (libc::SYS_exit_group, "end of the process"),
    (libc::SYS_futex, "locks"),
    (libc::SYS_getpid, "abort"),
    (libc::SYS_getrandom, "random numbers and hash seeds"),
    (libc::SYS_gettid, "abort and thread names"),
    (libc::SYS_madvise, "giving memory back"),
    (libc::SYS_membarrier, "publishing code"),
    (libc::SYS_mremap, "allocator"),
    (libc::SYS_munmap, "allocator"),
    (libc::SYS_read, "the socket"),
    (libc::SYS_restart_syscall, "after a signal"),
    (libc::SYS_rseq, "threads"),
    (libc::SYS_rt_sigaction, "trap handlers"),
    (libc::SYS_rt_sigprocmask, "threads"),
    (libc::SYS_rt_sigreturn, "return from a trap handler"),
    (libc::SYS_sched_getaffinity, "how many threads make sense"),
    (libc::SYS_sched_yield, "locks"),
    (libc::SYS_set_robust_list, "threads"),
    (libc::SYS_sigaltstack, "trap handlers"),
    (libc::SYS_write, "the socket, and messages on standard error"),
];

/// What running steps needs beyond that: an event loop, and files below the mounts.
const RUN: &[(c_long, &str)] = &[
    (libc::SYS_dup, "a second handle of a guest's file"),
    (libc::SYS_epoll_create1, "event loop"),
    (libc::SYS_epoll_ctl, "event loop"),
    (libc::SYS_epoll_pwait, "event loop"),
    (libc::SYS_epoll_wait, "event loop"),
    (libc::SYS_eventfd2, "event loop"),
    (libc::SYS_fadvise64, "wasi:filesystem advise"),
    (libc::SYS_fdatasync, "wasi:filesystem sync-data"),
    (libc::SYS_fstat, "wasi:filesystem stat"),
    (libc::SYS_fstatfs, "is this procfs: asked before a path below /proc is believed"),
    (libc::SYS_fsync, "wasi:filesystem sync"),
    (libc::SYS_ftruncate, "wasi:filesystem set-size"),
    (libc::SYS_getdents64, "wasi:filesystem read-directory"),
    (libc::SYS_linkat, "wasi:filesystem link-at"),
    (libc::SYS_lseek, "files"),
    (libc::SYS_memfd_create, "copy-on-write images of memories"),
    (libc::SYS_mkdirat, "wasi:filesystem create-directory-at"),
    (libc::SYS_newfstatat, "wasi:filesystem stat-at"),
    (libc::SYS_openat, "artifacts and preopened directories; Landlock decides which"),
    (libc::SYS_openat2, "wasi:filesystem open-at: without it wasmtime falls back to a weaker resolver"),
    (libc::SYS_pread64, "wasi:filesystem read"),
    (libc::SYS_preadv, "wasi:filesystem read"),
    (libc::SYS_preadv2, "wasi:filesystem read"),
    (libc::SYS_process_madvise, "giving memory of many slots back at once"),
    (libc::SYS_pwrite64, "wasi:filesystem write"),
    (libc::SYS_pwritev, "wasi:filesystem write"),
    (libc::SYS_pwritev2, "wasi:filesystem append"),
    (libc::SYS_readlinkat, "wasi:filesystem readlink-at"),
    (libc::SYS_recvfrom, "the socket"),
    (libc::SYS_renameat, "wasi:filesystem rename-at"),
    (libc::SYS_sendto, "the socket"),
    (libc::SYS_statx, "wasi:filesystem stat"),
    (libc::SYS_symlinkat, "wasi:filesystem symlink-at"),
    (libc::SYS_unlinkat, "wasi:filesystem unlink-file-at"),
    (libc::SYS_writev, "the socket"),
];

const PAGEMAP_SCAN: u64 = 0xc060_6610;

/// Applies the filters of `role` to every thread, for ever.
pub fn restrict(role: Role) -> Result<(), String> {
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> = BTreeMap::new();
    let role_calls = if role == Role::Worker { RUN } else { &[] };
    for (call, _reason) in COMPUTE.iter().chain(role_calls) {
        rules.insert(*call, Vec::new());
    }
    for (call, conditions) in conditional(role).map_err(|e| e.to_string())? {
        rules.entry(call).or_default().push(SeccompRule::new(conditions).map_err(|e| e.to_string())?);
    }
    // clone3 hides its flags from a filter. "Not implemented" makes libc use clone, whose flags are judged below. Of
    // two filters the stricter answer counts. This one comes first: the other one forbids to install any more.
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    install(clone3, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32))?;
    install(rules, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow)
}

/// System calls that are allowed with some arguments only.
fn conditional(role: Role) -> Result<Vec<(c_long, Vec<Condition>)>, seccompiler::BackendError> {
    let is = |index, value| Condition::new(index, Len::Qword, Op::Eq, value);
    let lacks = |index, bits| Condition::new(index, Len::Qword, Op::MaskedEq(bits), 0);
    let has = |index, bits| Condition::new(index, Len::Qword, Op::MaskedEq(bits), bits);
    let (write, exec) = (libc::PROT_WRITE as u64, libc::PROT_EXEC as u64);
    let new_namespaces = (libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP) as u64;
    let mut rules = vec![
        // Threads, not processes.
        (libc::SYS_clone, vec![has(0, libc::CLONE_THREAD as u64)?, lacks(0, new_namespaces)?]),
        // No memory that is writable and executable at once.
        (libc::SYS_mmap, vec![lacks(2, write)?]),
        (libc::SYS_mmap, vec![lacks(2, exec)?]),
        (libc::SYS_mprotect, vec![lacks(2, write)?]),
        (libc::SYS_mprotect, vec![lacks(2, exec)?]),
        // Names of threads and of memory, and the self-test's own questions.
        (libc::SYS_prctl, vec![is(0, libc::PR_SET_NAME as u64)?]),
        (libc::SYS_prctl, vec![is(0, libc::PR_SET_VMA as u64)?]),
        (libc::SYS_prctl, vec![is(0, libc::PR_GET_DUMPABLE as u64)?]),
        (libc::SYS_prctl, vec![is(0, libc::PR_GET_NO_NEW_PRIVS as u64)?]),
        (libc::SYS_prctl, vec![is(0, libc::PR_GET_PDEATHSIG as u64)?]),
        (libc::SYS_prlimit64, vec![is(0, 0)?, is(2, 0)?]),
        (libc::SYS_fcntl, vec![is(1, libc::F_GETFD as u64)?]),
        // abort() signals itself.
        (libc::SYS_tgkill, vec![is(0, std::process::id().into())?]),
    ];
    if role == Role::Worker {
        // The page map, and the socket's non-blocking flag.
        rules.push((libc::SYS_ioctl, vec![is(1, PAGEMAP_SCAN)?]));
        // Flags of a guest's file, and a second handle of it; not the owner of a signal.
        for command in [libc::F_SETFD, libc::F_GETFL, libc::F_SETFL, libc::F_DUPFD_CLOEXEC, libc::F_ADD_SEALS] {
            rules.push((libc::SYS_fcntl, vec![is(1, command as u64)?]));
        }
        rules.push((libc::SYS_ioctl, vec![is(1, libc::FIONBIO)?]));
        // Times of what is open. Landlock does not judge them: by a path, those of any file of this user's could be set.
        rules.push((libc::SYS_utimensat, vec![is(1, 0)?]));
        // The event loop's own pair for signals.
        rules.push((libc::SYS_socketpair, vec![is(0, libc::AF_UNIX as u64)?]));
    }
    Ok(rules)
}

fn install(
    rules: BTreeMap<c_long, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<(), String> {
    let filter = SeccompFilter::new(rules, otherwise, matched, TargetArch::x86_64).map_err(|e| e.to_string())?;
    let program: BpfProgram = filter.try_into().map_err(|e: seccompiler::BackendError| e.to_string())?;
    apply_filter_all_threads(&program).map_err(|e| e.to_string())
}
