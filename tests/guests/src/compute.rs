//! Works as guests do: one of five programs that are mostly somebody else's crate, by name. For the benches.

use std::{collections::BTreeMap, hint::black_box, io::Read as _};

use sha2::{Digest as _, Sha256};

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("json") => black_box(json(3_000)),
        Some("regex") => black_box(regex(20_000)),
        Some("toml") => black_box(toml(4_000)),
        Some("sha256") => black_box(sha256(12 << 20)),
        Some("wasm") => black_box(wasm(8)),
        _ => std::process::exit(1),
    };
}

/// Writes records and reads them again.
fn json(count: usize) -> usize {
    let records: Vec<BTreeMap<String, serde_json::Value>> = (0..count)
        .map(|n| BTreeMap::from([("id".into(), n.into()), ("name".into(), format!("record number {n}").into())]))
        .collect();
    let mut length = 0;
    for _ in 0..5 {
        let text = serde_json::to_string(&records).unwrap_or_default();
        let read: Vec<BTreeMap<String, serde_json::Value>> = serde_json::from_str(&text).unwrap_or_default();
        length += text.len() + read.len();
    }
    length
}

/// Looks through a log for addresses, times and errors.
fn regex(lines: usize) -> usize {
    let line = |n: usize| {
        format!("2026-11-21T{:02}:{:02}:00Z host-{n} 10.0.{}.{} GET /a/{n}?q={n}", n % 24, n % 60, n % 256, n % 199)
    };
    let mut log: Vec<String> = (0..lines).map(line).collect();
    log.iter_mut().step_by(97).for_each(|line| line.push_str(" error: connection reset by peer"));
    let log = log.join("\n");
    let patterns = [r"\b\d{1,3}(?:\.\d{1,3}){3}\b", r"T(?:0[89]|1\d):[0-5]\d", r"(?m)^(\S+) (\S+) .*error: (.+)$"];
    let found = patterns.map(|pattern| regex::Regex::new(pattern).map_or(0, |regex| regex.find_iter(&log).count()));
    found.iter().sum()
}

/// Reads a lock file.
fn toml(packages: usize) -> usize {
    let package = |n: usize| {
        format!("[[package]]\nname = \"crate-{n}\"\nversion = \"1.{n}.0\"\ndependencies = [\"a {n}\", \"b\"]\n")
    };
    let text: String = (0..packages).map(package).collect();
    let read: Result<BTreeMap<String, Vec<BTreeMap<String, toml::Value>>>, _> = toml::from_str(&text);
    read.map_or(0, |read| read.values().map(Vec::len).sum())
}

fn sha256(bytes: usize) -> usize {
    let data = vec![7; bytes];
    usize::from(Sha256::digest(&data)[0])
}

/// Checks the component on standard input, some times.
fn wasm(times: usize) -> usize {
    let mut component = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut component);
    let validator =
        || wasmparser::Validator::new_with_features(wasmparser::WasmFeatures::all()).validate_all(&component);
    (0..times).filter(|_| validator().is_ok()).count()
}
