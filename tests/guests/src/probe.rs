//! A step that does what its input says: `{"acts": [{"read": "/etc/passwd"}, "spin"]}`. Each act's outcome, also a
//! failure, is one line of the output; an act that cannot fail gracefully (a trap, a bomb) ends the step.

// Only the sandbox has what these are for.
#[cfg(target_os = "wasi")]
mod files;
mod gated;
#[cfg_attr(not(target_os = "wasi"), allow(dead_code))]
mod http;
#[cfg(target_os = "wasi")]
mod world;

use std::{
    fs,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    net::{TcpStream, ToSocketAddrs as _, UdpSocket},
    time::{Duration, Instant},
};

use palisade_guest::{Error, events, step};
use serde::{Deserialize, Serialize};

use gated::Gated;
use http::Http;
#[cfg(target_os = "wasi")]
use world::World;

#[derive(Deserialize)]
struct Input {
    acts: Vec<Act>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Act {
    Read(String),
    Write {
        path: String,
        bytes: usize,
    },
    Append {
        path: String,
        bytes: usize,
    },
    /// Writes one byte at an offset: a sparse file.
    Sparse {
        path: String,
        offset: u64,
    },
    Truncate {
        path: String,
        size: u64,
    },
    /// Keeps a file open, deletes it, and goes on writing to it.
    WriteDeleted {
        path: String,
        bytes: usize,
    },
    /// Opens without asking to write, and writes all the same.
    WriteUnasked {
        path: String,
        bytes: usize,
    },
    /// Writes a file, keeps it open for reading only, deletes it, and does that again.
    HoldDeleted {
        path: String,
        bytes: usize,
        count: usize,
    },
    /// Lists a directory for ever: host calls that burn next to no fuel.
    ListForEver(String),
    /// Keeps so many listings of a directory.
    HoardListings {
        directory: String,
        count: usize,
    },
    /// Creates so many empty files below a directory.
    Files {
        directory: String,
        count: usize,
    },
    /// Opens so many files and keeps them open.
    Hoard {
        directory: String,
        count: usize,
    },
    Mkdir(String),
    Remove(String),
    Rename {
        from: String,
        to: String,
    },
    HardLink {
        from: String,
        to: String,
    },
    Symlink {
        target: String,
        at: String,
    },
    List(String),
    Connect(String),
    Udp(String),
    Resolve(String),
    Log {
        message: String,
        count: usize,
    },
    Progress {
        fraction: f64,
        message: String,
    },
    Print {
        text: String,
        count: usize,
    },
    Sleep {
        milliseconds: u64,
    },
    /// Returns a string of so many bytes as this act's outcome.
    Output(usize),
    Env,
    Spin,
    /// Calls the host for ever.
    SpinInHost,
    Grow,
    Recurse,
    Panic,
    Exit(i32),
    Fail {
        code: String,
        message: String,
    },
    /// Acts on files, in WASI's own words.
    #[cfg(target_os = "wasi")]
    FileCases(Vec<files::Case>),
    /// The same over and over; answers how often each answer came.
    #[cfg(target_os = "wasi")]
    FileRace {
        cases: Vec<files::Case>,
        times: u64,
    },
    /// Reads a directory, and removes and makes entries of it meanwhile.
    ListWhileChanging(String),
    #[serde(untagged)]
    Gated(Gated),
    #[serde(untagged)]
    Http(Http),
    #[cfg(target_os = "wasi")]
    #[serde(untagged)]
    World(World),
}

#[derive(Serialize)]
struct Output {
    outcomes: Vec<String>,
}

#[step]
fn probe(input: Input) -> Result<Output, Error> {
    let mut outcomes = Vec::new();
    for act in input.acts {
        outcomes.push(match act {
            Act::Fail { code, message } => return Err(Error::new(code, message)),
            Act::Gated(act) => act.outcome(),
            Act::Http(act) => act.outcome(),
            #[cfg(target_os = "wasi")]
            Act::World(act) => act.outcome(),
            act => match perform(act) {
                Ok(said) => format!("ok: {said}"),
                Err(error) => format!("error: {error}"),
            },
        });
    }
    Ok(Output { outcomes })
}

fn perform(act: Act) -> io::Result<String> {
    let done = Ok(String::from("done"));
    match act {
        Act::Read(path) => return fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned()),
        Act::Write { path, bytes } => fs::write(path, vec![b'x'; bytes])?,
        Act::Append { path, bytes } => {
            fs::OpenOptions::new().append(true).create(true).open(path)?.write_all(&vec![b'x'; bytes])?;
        }
        Act::Sparse { path, offset } => {
            let mut file = fs::File::create(path)?;
            file.seek(SeekFrom::Start(offset))?;
            file.write_all(b"x")?;
        }
        Act::Truncate { path, size } => fs::OpenOptions::new().write(true).open(path)?.set_len(size)?,
        Act::WriteDeleted { path, bytes } => {
            let mut file = fs::File::create(&path)?;
            file.write_all(&vec![b'x'; bytes])?;
            fs::remove_file(&path)?;
            // The file is gone from its directory, yet its bytes are still on the disk.
            fs::write(&path, vec![b'x'; bytes])?;
            file.write_all(b"y")?;
        }
        Act::WriteUnasked { path, bytes } => write_unasked(&path, bytes)?,
        Act::HoldDeleted { path, bytes, count } => {
            let mut held = Vec::new();
            for _ in 0..count {
                fs::write(&path, vec![b'x'; bytes])?;
                held.push(fs::File::open(&path)?);
                fs::remove_file(&path)?;
            }
        }
        Act::ListForEver(path) => loop {
            std::hint::black_box(fs::read_dir(&path)?);
        },
        Act::HoardListings { directory, count } => {
            let hoard: io::Result<Vec<_>> = (0..count).map(|_| fs::read_dir(&directory)).collect();
            std::mem::forget(hoard?);
        }
        Act::Files { directory, count } => {
            for n in 0..count {
                fs::File::create(format!("{directory}/{n}"))?;
            }
        }
        Act::Hoard { directory, count } => {
            let open = |n| fs::File::create(format!("{directory}/{n}"));
            std::mem::forget((0..count).map(open).collect::<io::Result<Vec<_>>>()?);
        }
        Act::Mkdir(path) => fs::create_dir(path)?,
        Act::Remove(path) => fs::remove_file(path)?,
        Act::Rename { from, to } => fs::rename(from, to)?,
        Act::HardLink { from, to } => fs::hard_link(from, to)?,
        Act::Symlink { target, at } => symlink(&target, &at)?,
        Act::List(path) => {
            let mut names = fs::read_dir(path)?
                .map(|entry| entry.map(|e| e.file_name().to_string_lossy().into_owned()))
                .collect::<io::Result<Vec<_>>>()?;
            names.sort();
            return Ok(names.join(" "));
        }
        Act::Connect(address) => {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(b"canary")?;
            let mut reply = String::new();
            stream.read_to_string(&mut reply)?;
        }
        Act::Udp(address) => {
            UdpSocket::bind("0.0.0.0:0")?.send_to(b"canary", address)?;
        }
        Act::Resolve(name) => return Ok(format!("{:?}", (name.as_str(), 80).to_socket_addrs()?.collect::<Vec<_>>())),
        Act::Log { message, count } => {
            for _ in 0..count {
                events::info!(&message, count = count);
            }
        }
        Act::Progress { fraction, message } => events::progress(fraction, message),
        Act::Print { text, count } => {
            for _ in 0..count {
                io::stdout().write_all(text.as_bytes())?;
            }
            io::stdout().flush()?;
        }
        Act::Sleep { milliseconds } => std::thread::sleep(Duration::from_millis(milliseconds)),
        Act::Output(bytes) => return Ok("x".repeat(bytes)),
        Act::Env => {
            let mut variables: Vec<_> = std::env::vars().map(|(k, v)| format!("{k}={v}")).collect();
            variables.sort();
            return Ok(format!("{:?} {variables:?}", std::env::args().collect::<Vec<_>>()));
        }
        Act::Spin => loop {
            std::hint::black_box(0);
        },
        Act::SpinInHost => loop {
            std::hint::black_box(Instant::now());
        },
        Act::Grow => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(std::hint::black_box(vec![1u8; 1 << 20]));
            }
        }
        Act::Recurse => return Ok(recurse(0).to_string()),
        Act::Panic => panic!("the probe was told to panic"),
        Act::Exit(code) => std::process::exit(code),
        #[cfg(target_os = "wasi")]
        Act::FileRace { cases, times } => return Ok(serde_json::to_string(&files::race(&cases, times))?),
        Act::ListWhileChanging(path) => {
            let mut seen = 0;
            for entry in fs::read_dir(&path)?.take(2_000) {
                let name = entry?.file_name();
                fs::remove_file(format!("{path}/{}", name.to_string_lossy()))?;
                fs::File::create(format!("{path}/new-{seen}"))?;
                seen += 1;
            }
            return Ok(seen.to_string());
        }
        #[cfg(target_os = "wasi")]
        Act::FileCases(cases) => return Ok(serde_json::to_string(&files::all(&cases))?),
        Act::Fail { .. } | Act::Gated(_) | Act::Http(_) => {}
        #[cfg(target_os = "wasi")]
        Act::World(_) => {}
    }
    done
}

/// Never returns: each call needs the one below it.
#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    std::hint::black_box(recurse(std::hint::black_box(depth + 1))) + 1
}

/// As wasi:filesystem has it: `open-at` with `create` and `read`, then `write`.
#[cfg(target_os = "wasi")]
fn write_unasked(path: &str, bytes: usize) -> io::Result<()> {
    use wasip2::filesystem::{preopens, types};
    let failed = |code: types::ErrorCode| io::Error::other(format!("{code:?}"));
    let (directory, root) =
        preopens::get_directories().into_iter().find(|(_, p)| path.starts_with(p)).ok_or(io::ErrorKind::NotFound)?;
    let name = path[root.len()..].trim_start_matches('/');
    let create = types::OpenFlags::CREATE;
    let read = types::DescriptorFlags::READ;
    let file = directory.open_at(types::PathFlags::empty(), name, create, read).map_err(failed)?;
    let chunk = vec![b'x'; 4096];
    for offset in (0..bytes).step_by(chunk.len()) {
        file.write(&chunk, offset as u64).map_err(failed)?;
    }
    file.set_size(2 * bytes as u64).map_err(failed)
}

#[cfg(not(target_os = "wasi"))]
fn write_unasked(path: &str, bytes: usize) -> io::Result<()> {
    fs::write(path, vec![b'x'; bytes])
}

#[cfg(target_os = "wasi")]
fn symlink(target: &str, at: &str) -> io::Result<()> {
    unsafe extern "C" {
        fn symlink(target: *const std::ffi::c_char, at: *const std::ffi::c_char) -> i32;
    }
    let (target, at) = (std::ffi::CString::new(target)?, std::ffi::CString::new(at)?);
    // SAFETY: both are NUL-terminated and outlive the call.
    if unsafe { symlink(target.as_ptr(), at.as_ptr()) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(target_os = "wasi"))]
fn symlink(target: &str, at: &str) -> io::Result<()> {
    std::os::unix::fs::symlink(target, at)
}
