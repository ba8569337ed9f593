//! Two hundred steps, no two alike, that look at everything that could be another on another machine.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, SystemTime},
};

use palisade_proto::v1::{self, MountUse};
use serde_json::{Value, json};

use crate::harness::{limited, probe};

/// Fills a directory. Its files are made in one order or in the other, and their times are of when that was.
pub fn plant(root: &Path, backwards: bool) {
    let many = root.join("many");
    fs::create_dir(&many).unwrap();
    let mut names: Vec<String> = (0..100).map(|n| n.to_string()).chain(('a'..='t').map(String::from)).collect();
    if backwards {
        names.reverse();
    }
    for name in &names {
        fs::write(many.join(name), name).unwrap();
    }
    fs::write(root.join("old"), "old").unwrap();
    fs::hard_link(root.join("old"), root.join("linked")).unwrap();
    let age = Duration::from_secs(if backwards { 1_000_000 } else { 5 });
    File::options().write(true).open(root.join("old")).unwrap().set_modified(SystemTime::now() - age).unwrap();
    fs::write(root.join("large"), vec![7; 100_000]).unwrap();
    symlink("old", root.join("symbolic")).unwrap();
}

/// Returns a request with the planted files at `/files`.
pub fn mounted(request: v1::RunStepRequest) -> v1::RunStepRequest {
    let files = MountUse { mount: "files".into(), path: "/files".into(), read_only: true };
    v1::RunStepRequest { mounts: vec![files], ..request }
}

/// Returns the two hundred.
pub fn varied() -> Vec<v1::RunStepRequest> {
    (0..8).flat_map(|size| (0..25).map(move |kind| mounted(one(kind, size)))).collect()
}

/// Returns a guest of one of 25 kinds, of one of 8 sizes.
fn one(kind: u32, n: u64) -> v1::RunStepRequest {
    let write = |path: &str, bytes: u64| json!({ "write": { "path": path, "bytes": bytes } });
    let acts = match kind {
        0 => json!([{ "random": 37 * n }, { "random": n }]),
        1 => json!(["clocks", { "compute": 10_000 * n }, "clocks"]),
        2 => json!([{ "sleep": { "milliseconds": 3 * n } }, "clocks", { "sleep": { "milliseconds": 1 } }, "clocks"]),
        3 => json!([{ "timers": [5, 1, 3 + n, n, u64::MAX, 1] }, "clocks"]),
        4 => json!([{ "ask-timer": { "milliseconds": n, "times": 100 } }]),
        5 => json!([{ "stream-and-timer": { "path": "/files/large", "nanoseconds": 1000 * n } }]),
        6 => json!([{ "entries": "/files" }, { "entries": "/files/many" }, { "random": n }]),
        7 => json!([{ "stat": "/files/old" }, { "stat": "/files/symbolic" }, { "stat": format!("/files/many/{n}") }]),
        8 => identities(n),
        9 => {
            json!([{ "reuse": { "directory": "/workspace", "count": 5 * n } }, { "deleted": { "path": "/workspace/x" } }])
        }
        10 => {
            json!([write("/workspace/f", n), { "set-times": { "path": "/workspace/f", "seconds": u64::MAX / (n + 1), "nanoseconds": 7 } }])
        }
        11 => json!([{ "hashed": 50 * n }, { "hashed": 3 }]),
        12 => json!(["nans", "relaxed", { "random": n }]),
        13 => files(n),
        14 => {
            json!([{ "log": { "message": "said", "count": 5 * n } }, { "progress": { "fraction": 0.1, "message": "on" } }, { "print": { "text": "printed", "count": 3 * n } }])
        }
        15 => json!(["env", { "random": n }]),
        16 => json!([{ "random": n }, "grow"]),
        17 => json!([{ "random": n }, "recurse"]),
        18 | 19 => json!([{ "random": n }, "spin"]),
        20 => json!([{ "random": n }, "panic"]),
        21 => json!([{ "random": n }, { "exit": n }]),
        22 => json!([{ "output": 1000 * n }, { "fail": { "code": "NO", "message": "it was told to" } }]),
        23 => json!([{ "read-now": "/files/large" }, { "read": format!("/files/many/{n}") }, "clocks"]),
        _ => return command(n),
    };
    let request = v1::RunStepRequest { env: environment(n), args: vec![n.to_string()], ..probe(acts) };
    match kind {
        16 => {
            limited(request, v1::StepLimits { memory_bytes: Some(8_000_000 + 65_536 * n as i64), ..Default::default() })
        }
        18 | 19 => limited(request, v1::StepLimits { fuel: Some(2_000_000 + 12_345 * n as i64), ..Default::default() }),
        _ => request,
    }
}

fn environment(count: u64) -> std::collections::HashMap<String, String> {
    (0..3 * count).map(|n| (format!("NAME_{n}"), n.to_string())).collect()
}

fn command(n: u64) -> v1::RunStepRequest {
    let (input, args) = (vec![b'x'; n as usize], vec![n.to_string(), "two words".into()]);
    v1::RunStepRequest { component: "command".into(), input, args, env: environment(n), ..Default::default() }
}

fn identities(n: u64) -> Value {
    json!([
        { "identity": { "a": format!("/files/many/{n}"), "b": "/files/old" } },
        { "identity": { "a": "/files/linked", "b": "/files/old" } },
        { "identity": { "a": "/files", "b": "/workspace" } },
        { "hard-link": { "from": "/files/old", "to": "/workspace/old" } },
    ])
}

/// Makes, renames, links and deletes, and looks at what is left.
fn files(n: u64) -> Value {
    json!([
        { "files": { "directory": "/workspace", "count": 20 + n } },
        { "rename": { "from": "/workspace/3", "to": "/workspace/z" } },
        { "rename": { "from": "/workspace/5", "to": "/workspace/6" } },
        { "remove": "/workspace/4" },
        { "mkdir": "/workspace/below" },
        { "append": { "path": "/workspace/below/f", "bytes": 100 * n } },
        { "hard-link": { "from": "/workspace/below/f", "to": "/workspace/y" } },
        { "symlink": { "target": "y", "at": "/workspace/s" } },
        { "truncate": { "path": "/workspace/y", "size": 10 * n } },
        { "identity": { "a": "/workspace/y", "b": "/workspace/below/f" } },
        { "entries": "/workspace" },
        { "stat": "/workspace/y" },
        { "stat": "/workspace/below" },
        { "stat": "/workspace/s" },
    ])
}
