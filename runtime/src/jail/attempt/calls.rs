//! System calls that no jailed process has, each attempted. Those of other tables (32-bit, x32) are not: a filter that
//! was there before ours, systemd's for example, may kill for them.

use std::{arch::asm, io};

use libc::{c_int, c_long};

use super::{super::syscalls, Found};

/// One attempt: a name and the arguments. Every pointer is null and every descriptor is none, so that a call that is
/// let through fails or does nothing.
struct Attempt(&'static str, c_long, [c_long; 5]);

const NONE: c_long = -1;

const WRITE_EXEC: c_long = (libc::PROT_WRITE | libc::PROT_EXEC) as c_long;

const NEW_USER: c_long = libc::CLONE_NEWUSER as c_long;

const fn socket(name: &'static str, family: c_int, kind: c_int) -> Attempt {
    Attempt(name, libc::SYS_socket, [family as c_long, kind as c_long, 0, 0, 0])
}

const fn bare(name: &'static str, call: c_long) -> Attempt {
    Attempt(name, call, [0; 5])
}

/// With the arguments that the kernel would judge first set to what it refuses.
const fn of(name: &'static str, call: c_long, first: c_long) -> Attempt {
    Attempt(name, call, [first, 0, 0, 0, 0])
}

const ATTEMPTS: &[Attempt] = &[
    // The network.
    socket("socket INET", libc::AF_INET, libc::SOCK_STREAM),
    socket("socket INET6", libc::AF_INET6, libc::SOCK_DGRAM),
    socket("socket UNIX", libc::AF_UNIX, libc::SOCK_STREAM),
    socket("socket NETLINK", libc::AF_NETLINK, libc::SOCK_RAW),
    socket("socket PACKET", libc::AF_PACKET, libc::SOCK_RAW),
    socket("socket VSOCK", libc::AF_VSOCK, libc::SOCK_STREAM),
    bare("socketpair", libc::SYS_socketpair),
    of("connect", libc::SYS_connect, NONE),
    of("bind", libc::SYS_bind, NONE),
    of("listen", libc::SYS_listen, NONE),
    of("accept4", libc::SYS_accept4, NONE),
    of("sendmsg", libc::SYS_sendmsg, NONE),
    of("recvmsg", libc::SYS_recvmsg, NONE),
    // Programs and processes.
    bare("execve", libc::SYS_execve),
    of("execveat", libc::SYS_execveat, NONE),
    Attempt("fork by clone", libc::SYS_clone, [libc::SIGCHLD as c_long, 0, 0, 0, 0]),
    Attempt("clone into a user namespace", libc::SYS_clone, [NEW_USER | libc::SIGCHLD as c_long, 0, 0, 0, 0]),
    of("wait4", libc::SYS_wait4, NONE),
    // Other processes.
    of("ptrace", libc::SYS_ptrace, libc::PTRACE_PEEKUSER as c_long),
    bare("process_vm_readv", libc::SYS_process_vm_readv),
    bare("process_vm_writev", libc::SYS_process_vm_writev),
    bare("pidfd_open", libc::SYS_pidfd_open),
    of("pidfd_getfd", libc::SYS_pidfd_getfd, NONE),
    of("pidfd_send_signal", libc::SYS_pidfd_send_signal, NONE),
    bare("kcmp", libc::SYS_kcmp),
    of("setpriority", libc::SYS_setpriority, NONE),
    of("sched_setaffinity", libc::SYS_sched_setaffinity, NONE),
    // Namespaces and mounts.
    of("unshare", libc::SYS_unshare, NEW_USER),
    of("setns", libc::SYS_setns, NONE),
    bare("mount", libc::SYS_mount),
    bare("umount2", libc::SYS_umount2),
    bare("pivot_root", libc::SYS_pivot_root),
    bare("chroot", libc::SYS_chroot),
    of("open_tree", libc::SYS_open_tree, NONE),
    of("move_mount", libc::SYS_move_mount, NONE),
    bare("fsopen", libc::SYS_fsopen),
    of("mount_setattr", libc::SYS_mount_setattr, NONE),
    // Identity and privilege.
    bare("setuid", libc::SYS_setuid),
    bare("setgid", libc::SYS_setgid),
    bare("setresuid", libc::SYS_setresuid),
    bare("setgroups", libc::SYS_setgroups),
    bare("capset", libc::SYS_capset),
    of("personality", libc::SYS_personality, 0xffff_ffff),
    of("prctl, dumpable", libc::SYS_prctl, libc::PR_SET_DUMPABLE as c_long),
    of("prctl, filter", libc::SYS_prctl, libc::PR_SET_SECCOMP as c_long),
    of("seccomp", libc::SYS_seccomp, NONE),
    of("landlock_create_ruleset", libc::SYS_landlock_create_ruleset, 0),
    // Memory that is written and run.
    Attempt(
        "mmap W+X",
        libc::SYS_mmap,
        [0, 4096, WRITE_EXEC, (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as c_long, NONE],
    ),
    Attempt("mprotect W+X", libc::SYS_mprotect, [0, 0, WRITE_EXEC, 0, 0]),
    Attempt("pkey_mprotect W+X", libc::SYS_pkey_mprotect, [0, 0, WRITE_EXEC, NONE, 0]),
    of("shmget", libc::SYS_shmget, 0),
    bare("remap_file_pages", libc::SYS_remap_file_pages),
    bare("memfd_secret", libc::SYS_memfd_secret),
    bare("modify_ldt", libc::SYS_modify_ldt),
    // The kernel's large interfaces.
    bare("io_uring_setup", libc::SYS_io_uring_setup),
    of("io_uring_enter", libc::SYS_io_uring_enter, NONE),
    of("io_uring_register", libc::SYS_io_uring_register, NONE),
    of("bpf", libc::SYS_bpf, NONE),
    bare("perf_event_open", libc::SYS_perf_event_open),
    of("userfaultfd", libc::SYS_userfaultfd, NONE),
    of("keyctl", libc::SYS_keyctl, NONE),
    bare("add_key", libc::SYS_add_key),
    bare("request_key", libc::SYS_request_key),
    of("fanotify_init", libc::SYS_fanotify_init, NONE),
    of("inotify_init1", libc::SYS_inotify_init1, NONE),
    of("splice", libc::SYS_splice, NONE),
    of("vmsplice", libc::SYS_vmsplice, NONE),
    of("timer_create", libc::SYS_timer_create, NONE),
    bare("mq_open", libc::SYS_mq_open),
    // Files by other ways than by path.
    of("name_to_handle_at", libc::SYS_name_to_handle_at, NONE),
    of("open_by_handle_at", libc::SYS_open_by_handle_at, NONE),
    bare("mknodat", libc::SYS_mknodat),
    of("fchmod", libc::SYS_fchmod, NONE),
    of("fchown", libc::SYS_fchown, NONE),
    of("fsetxattr", libc::SYS_fsetxattr, NONE),
    of("ioctl TIOCSTI", libc::SYS_ioctl, NONE),
    // The machine.
    bare("init_module", libc::SYS_init_module),
    of("finit_module", libc::SYS_finit_module, NONE),
    bare("delete_module", libc::SYS_delete_module),
    bare("kexec_load", libc::SYS_kexec_load),
    of("kexec_file_load", libc::SYS_kexec_file_load, NONE),
    bare("reboot", libc::SYS_reboot),
    bare("swapon", libc::SYS_swapon),
    bare("swapoff", libc::SYS_swapoff),
    of("quotactl", libc::SYS_quotactl, NONE),
    of("acct", libc::SYS_acct, 1),
    of("iopl", libc::SYS_iopl, NONE),
    of("ioperm", libc::SYS_ioperm, NONE),
    of("syslog", libc::SYS_syslog, NONE),
    of("clock_settime", libc::SYS_clock_settime, NONE),
    bare("sethostname", libc::SYS_sethostname),
];

/// Returns an error if one of them was not answered EPERM in a jailed process.
pub fn denied(daemon: u32) -> Found {
    let at_daemon = [
        Attempt("kill", libc::SYS_kill, [daemon.into(), 0, 0, 0, 0]),
        Attempt("tkill", libc::SYS_tkill, [daemon.into(), 0, 0, 0, 0]),
        Attempt("tgkill", libc::SYS_tgkill, [daemon.into(), daemon.into(), 0, 0, 0]),
        Attempt("rt_sigqueueinfo", libc::SYS_rt_sigqueueinfo, [daemon.into(), 0, 0, 0, 0]),
        Attempt("prlimit64", libc::SYS_prlimit64, [daemon.into(), 0, 0, 0, 0]),
    ];
    all_denied(ATTEMPTS.iter().chain(&at_daemon))
}

/// The same in a daemon, which may make some of these calls.
pub fn denied_to_daemon() -> Found {
    all_denied(ATTEMPTS.iter().filter(|Attempt(_, call, arguments)| !syscalls::daemon_may(*call, arguments)))
}

fn all_denied<'a>(attempts: impl Iterator<Item = &'a Attempt>) -> Found {
    let mut count = 1; // vfork
    for Attempt(name, call, [a, b, c, d, e]) in attempts {
        // SAFETY: every pointer is null. Should a wall be missing, each of these calls fails or has no effect on
        // memory that Rust knows of: a mapping is new, and a forked child ends below.
        let result = unsafe { libc::syscall(*call, *a, *b, *c, *d, *e, 0) };
        let error = io::Error::last_os_error();
        if result == 0 && *call == libc::SYS_clone {
            std::process::exit(0);
        }
        expect_denied(name, result, error)?;
        count += 1;
    }
    let result = vfork();
    expect_denied("vfork", if result < 0 { -1 } else { result }, io::Error::from_raw_os_error(-result as i32))?;
    Ok(format!("{count} forbidden system calls denied"))
}

fn expect_denied(name: &str, result: c_long, error: io::Error) -> Result<(), String> {
    match (result, error.raw_os_error()) {
        (-1, Some(libc::EPERM)) => Ok(()),
        (-1, _) => Err(format!("{name} was not denied: {error}")),
        _ => Err(format!("{name} was not denied")),
    }
}

/// Returns the process id of a child, or a negative error. The child would share our stack, so it ends at once, without
/// a return from any function.
fn vfork() -> c_long {
    let result: c_long;
    // SAFETY: the child touches no memory and ends with `exit`; the kernel overwrites only the registers named here.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov eax, {exit}",
            "xor edi, edi",
            "syscall",
            "2:",
            exit = const libc::SYS_exit,
            inlateout("rax") libc::SYS_vfork => result,
            out("rcx") _,
            out("r11") _,
            out("rdi") _,
        );
    }
    result
}
