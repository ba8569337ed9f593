//! What is attempted, and asked, while the system calls for it are still there.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream},
    },
    path::Path,
    process,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        resource::getrlimit,
        signal::{Signal, kill},
    },
    unistd::{self, Uid},
};

use super::{Found, wall};
use crate::{
    jail::{Jail, Role, root},
    wire::{Wall, WallState},
};

/// Places that any host has, and a root directory of one's own has not.
const HOST: [&str; 6] = ["/etc", "/usr", "/proc", "/dev", "/var", "/home"];

/// An address that routes nowhere: it is kept for documentation.
const NOWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// What a service manager's own filter answers where it leaves no network: `RestrictAddressFamilies=`.
const NO_FAMILY: i32 = libc::EAFNOSUPPORT;

pub fn session(stat: Option<&str>) -> Found {
    match prctl::get_pdeathsig() {
        Ok(Some(Signal::SIGKILL)) => {}
        other => return Err(format!("parent-death signal is {other:?}")),
    }
    // Behind the name: state, parent, process group, session, terminal.
    let fields = stat.and_then(|stat| stat.rsplit_once(") ")).map(|(_, rest)| rest.split(' ').collect::<Vec<_>>());
    match fields.as_deref() {
        Some([_, _, group, _, "0", ..]) if *group == process::id().to_string() => {
            Ok("dies with the daemon, has no terminal".into())
        }
        Some([_, _, group, _, terminal, ..]) => Err(format!("process group {group}, terminal {terminal}")),
        _ => Err("its process group and terminal are not known".into()),
    }
}

pub fn no_new_privs() -> Found {
    match prctl::get_no_new_privs() {
        Ok(true) => Ok("set".into()),
        other => Err(format!("{other:?}")),
    }
}

pub fn not_dumpable() -> Found {
    match prctl::get_dumpable() {
        Ok(false) => Ok("no core file, no debugger of the same user".into()),
        other => Err(format!("dumpable: {other:?}")),
    }
}

/// Its only interface is down, so not even this machine can be reached.
pub fn no_way_out(other: &str) -> Found {
    for address in [Ipv4Addr::LOCALHOST, NOWHERE] {
        let connected = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| socket.connect((address, 9)));
        if !fails_with(&connected, &[libc::ENETUNREACH, NO_FAMILY]) {
            return Err(format!("{address} answered {connected:?}, not that it cannot be reached"));
        }
    }
    Ok(format!("{other}; no address can be reached"))
}

/// Landlock does not keep anybody from looking: only that there is nothing does.
pub fn empty_root(jail: &Jail) -> Found {
    for place in HOST {
        // A mount may lie below it.
        let needed = jail.files.iter().any(|(path, _)| path.starts_with(place));
        if !needed && fs::symlink_metadata(place).is_ok() {
            return Err(format!("{place} is there"));
        }
    }
    match fs::create_dir("/palisade-self-test") {
        Err(error) if error.raw_os_error() == Some(libc::EROFS) => {}
        other => return Err(format!("making a directory in / answered {other:?}")),
    }
    Ok(format!("a read-only root with {} directories; nothing of the host's", jail.files.len()))
}

pub fn no_way_back(who: String) -> Found {
    if unistd::getuid().is_root() {
        return Ok(who); // it is root of nothing
    }
    match unistd::setuid(Uid::from_raw(0)) {
        Err(_) => Ok(format!("{who}; cannot become root")),
        Ok(()) => Err("became root again".into()),
    }
}

/// An act that needs a capability, and does nothing if it succeeds.
pub fn no_privilege(left: String) -> Found {
    match unistd::chroot("/") {
        Err(Errno::EPERM) => Ok(format!("{left}; chroot denied")),
        other => Err(format!("chroot answered {other:?}")),
    }
}

pub fn rlimits(jail: &Jail) -> Found {
    for (resource, bound) in jail.rlimits() {
        match getrlimit(resource) {
            Ok((_, hard)) if hard <= bound => {}
            other => return Err(format!("{resource:?} is {other:?}, not {bound}")),
        }
    }
    Ok("core, descriptors, file size, memory, locked memory".into())
}

pub fn group(groups: Option<&str>, told: &Result<String, String>) -> Wall {
    match told {
        Err(why) => Wall { name: "cgroup".into(), state: WallState::NotDelegated, detail: why.clone() },
        Ok(group) => {
            let within = groups.is_some_and(|all| all.lines().any(|one| one.ends_with(group.as_str())));
            let found = if within { Ok(format!("in {group}")) } else { Err(format!("not in {group}")) };
            wall("cgroup", found)
        }
    }
}

/// Attempts to open, list and make what Landlock does not grant.
pub fn files(jail: &Jail, own_root: bool) -> Found {
    // What the operator mounted is not outside. All of `/` cannot be mounted.
    let outside = |path: &&str| !jail.files.iter().any(|(granted, _)| Path::new(path).starts_with(granted));
    let environment = format!("/proc/{}/environ", jail.confinement.daemon);
    let memory = format!("/proc/{}/mem", jail.confinement.daemon);
    let opened = ["/etc/passwd", "/proc/1/environ", &environment, &memory, "/dev/mem", root::SHUT];
    let listed = ["/", "/tmp", "/proc"].into_iter().filter(outside).map(|path| (path, fs::read_dir(path).map(drop)));
    let opened = opened.into_iter().filter(outside).map(|path| (path, fs::File::open(path).map(drop)));
    let made = ["/tmp/palisade-self-test", "/palisade-self-test"].into_iter().filter(outside);
    let made = made.map(|path| (path, fs::File::create(path).map(drop)));
    for (path, act) in listed.chain(opened).chain(made) {
        // These two are there for certain, and only Landlock keeps them shut.
        let certain = path == "/" || own_root && path == root::SHUT;
        match act.map_err(|error| error.raw_os_error().unwrap_or(0)) {
            Err(libc::EACCES) => {}
            Err(libc::EPERM | libc::EROFS | libc::ENOENT) if !certain => {}
            other => return Err(format!("{path} answered {other:?}, not a denial")),
        }
    }
    if jail.role == Role::Worker {
        open_beneath()?;
    }
    Ok("no file outside opened, listed or made".into())
}

/// `openat2` must reach the kernel's own resolver: wasmtime falls back to a weaker one if it is denied.
fn open_beneath() -> Result<(), String> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
    match openat2(CWD, "..", OFlags::PATH, Mode::empty(), ResolveFlags::BENEATH) {
        Err(rustix::io::Errno::XDEV) => Ok(()),
        other => Err(format!("openat2 with RESOLVE_BENEATH answered {other:?} to `..`")),
    }
}

/// Attempts TCP. Landlock answers before the network is asked.
pub fn ports() -> Found {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let connected = TcpStream::connect_timeout(&address, Duration::from_secs(1)).map(drop);
    for act in [connected, TcpListener::bind((Ipv4Addr::LOCALHOST, 9)).map(drop)] {
        if !fails_with(&act, &[libc::EACCES, NO_FAMILY]) {
            return Err(format!("a TCP port answered {act:?}, not a denial"));
        }
    }
    Ok("no TCP port bound or connected to".into())
}

/// Attempts what crosses the border without a file: a socket without a path, a signal.
pub fn scopes(outside: Option<&UnixListener>) -> Result<&'static str, String> {
    let address = outside.and_then(|listener| listener.local_addr().ok()).ok_or("no socket to try")?;
    match UnixStream::connect_addr(&address) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
        other => return Err(format!("an abstract socket answered {other:?}, not a denial")),
    }
    match kill(unistd::getppid(), None) {
        Err(Errno::EPERM) => Ok("no abstract socket, no signal"),
        other => Err(format!("a signal to the daemon answered {other:?}, not a denial")),
    }
}

fn fails_with<T>(act: &io::Result<T>, expected: &[i32]) -> bool {
    act.as_ref().err().and_then(io::Error::raw_os_error).is_some_and(|errno| expected.contains(&errno))
}

/// Listens on a socket without a path.
pub fn listen() -> io::Result<UnixListener> {
    let name = format!("palisade-self-test-{}", process::id());
    UnixListener::bind_addr(&UnixAddr::from_abstract_name(name)?)
}
