//! The self-test: attempts forbidden acts from inside the jail. A wall counts only if its act failed.

use std::{fs, io, path::Path, ptr};

use landlock::RestrictionStatus;
use libc::c_long;
use nix::sys::{prctl, resource::getrlimit};
use rustix::thread::capabilities;

use super::{Jail, Role, enter::wall, files};
use crate::wire::Wall;

type Found = Result<String, String>;

/// Attempts everything, and returns what was found for each of [`super::WALLS`].
pub fn all(jail: &Jail, namespaces: [Result<(), String>; 2], landlock: RestrictionStatus) -> Vec<Wall> {
    let [user, network] = namespaces;
    vec![
        wall("descriptors", descriptors()),
        wall("session", session()),
        wall("user-namespace", user.map(|()| "another than the daemon's; only its own user is mapped".into())),
        wall("network-namespace", network.map(|()| "another than the daemon's; its only interface is down".into())),
        wall("capabilities", no_capabilities()),
        wall("no-new-privs", no_new_privs()),
        wall("not-dumpable", not_dumpable()),
        wall("rlimits", rlimits(jail)),
        wall("landlock", files::describe(&landlock).and_then(|enforced| outside_files(jail, &enforced))),
        wall("seccomp", forbidden_calls()),
    ]
}

/// Nothing above standard error but what the engine opened.
fn descriptors() -> Found {
    // A descriptor is inherited if it refers to something that this process did not open: all were closed, so a
    // high number that is open would be one that slipped through.
    for descriptor in 16..1024 {
        // SAFETY: F_GETFD reads a flag of a descriptor number; it takes no pointer.
        if unsafe { libc::fcntl(descriptor, libc::F_GETFD) } != -1 {
            return Err(format!("descriptor {descriptor} is open"));
        }
    }
    Ok("closed".into())
}

fn session() -> Found {
    match prctl::get_pdeathsig() {
        Ok(Some(nix::sys::signal::Signal::SIGKILL)) => Ok("dies with the daemon".into()),
        other => Err(format!("parent-death signal is {other:?}")),
    }
}

fn no_capabilities() -> Found {
    let sets = capabilities(None).map_err(|e| e.to_string())?;
    if sets.effective.is_empty() && sets.permitted.is_empty() && sets.inheritable.is_empty() {
        Ok("none".into())
    } else {
        Err(format!("permitted: {:?}", sets.permitted))
    }
}

fn no_new_privs() -> Found {
    match prctl::get_no_new_privs() {
        Ok(true) => Ok("set".into()),
        other => Err(format!("{other:?}")),
    }
}

fn not_dumpable() -> Found {
    match prctl::get_dumpable() {
        Ok(false) => Ok("no core file, no debugger of the same user".into()),
        other => Err(format!("dumpable: {other:?}")),
    }
}

fn rlimits(jail: &Jail) -> Found {
    for (resource, bound) in jail.rlimits() {
        match getrlimit(resource) {
            Ok((_, hard)) if hard <= bound => {}
            other => return Err(format!("{resource:?} is {other:?}, not {bound}")),
        }
    }
    Ok("core, descriptors, file size and memory".into())
}

fn outside_files(jail: &Jail, enforced: &str) -> Found {
    // What the operator mounted is not outside. All of `/` cannot be mounted.
    let outside = |path: &str| !jail.files.iter().any(|(granted, _)| Path::new(path).starts_with(granted));
    let listed = Some(fs::read_dir("/").map(|_| "listed /"));
    let opened = outside("/etc/passwd").then(|| fs::File::open("/etc/passwd").map(|_| "opened /etc/passwd"));
    let made = outside("/tmp").then(|| fs::File::create("/tmp/palisade-self-test").map(|_| "created a file in /tmp"));
    for attempt in [listed, opened, made].into_iter().flatten() {
        match attempt {
            Ok(act) => return Err(format!("{act} from inside the jail")),
            Err(e) if matches!(e.raw_os_error(), Some(libc::EACCES | libc::EPERM)) => {}
            // A host without the file proves nothing, either way; `/` is always there.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(format!("a file outside answered `{e}`, not a denial")),
        }
    }
    if jail.role == Role::Worker {
        open_beneath()?;
    }
    Ok(format!("{enforced} enforced; /, /etc/passwd and /tmp denied"))
}

/// `openat2` must reach the kernel's own resolver: wasmtime falls back to a weaker one if it is denied.
fn open_beneath() -> Result<(), String> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
    match openat2(CWD, "..", OFlags::PATH, Mode::empty(), ResolveFlags::BENEATH) {
        Err(rustix::io::Errno::XDEV) => Ok(()),
        other => Err(format!("openat2 with RESOLVE_BENEATH answered {other:?} to `..`")),
    }
}

fn forbidden_calls() -> Found {
    let zero = ptr::null::<u8>() as c_long;
    let (write_exec, private) = (libc::PROT_WRITE | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let attempts: &[(&str, c_long, [c_long; 4])] = &[
        ("socket", libc::SYS_socket, [libc::AF_INET.into(), libc::SOCK_STREAM.into(), 0, 0]),
        ("execve", libc::SYS_execve, [zero, zero, zero, 0]),
        ("fork", libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0, 0]),
        ("ptrace", libc::SYS_ptrace, [0, 0, 0, 0]),
        ("kill", libc::SYS_kill, [1, 0, 0, 0]),
        ("mount", libc::SYS_mount, [zero, zero, zero, 0]),
        ("unshare", libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0, 0]),
        ("io_uring_setup", libc::SYS_io_uring_setup, [1, zero, 0, 0]),
        ("bpf", libc::SYS_bpf, [0, zero, 0, 0]),
        ("process_vm_readv", libc::SYS_process_vm_readv, [1, zero, 0, zero]),
        ("keyctl", libc::SYS_keyctl, [0, 0, 0, 0]),
        ("W+X mmap", libc::SYS_mmap, [0, 4096, write_exec.into(), private.into()]),
    ];
    for (name, call, [a, b, c, d]) in attempts {
        // SAFETY: every pointer is null. Should a wall be missing, each of these calls fails or has no effect on
        // memory that Rust knows of: the mapping is new, and a forked child ends below.
        let result = unsafe { libc::syscall(*call, *a, *b, *c, *d, -1, 0) };
        if *name == "fork" && result == 0 {
            std::process::exit(0);
        }
        let error = io::Error::last_os_error();
        if result != -1 || error.raw_os_error() != Some(libc::EPERM) {
            return Err(format!("{name} was not denied: {error}"));
        }
    }
    let names: Vec<_> = attempts.iter().map(|(name, ..)| *name).collect();
    Ok(format!("{} denied", names.join(", ")))
}
