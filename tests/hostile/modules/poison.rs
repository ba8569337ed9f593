//! Nobody writes into what the daemon has compiled: no artifact is taken from a caller, and what fails leaves nothing.

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde_json::json;

use super::{super::siege::Siege, Fate, MEMORY_AT_ONCE, Row, custom, hold, runnable};
use crate::harness::Daemon;

/// Every artifact and what is in it.
fn artifacts(daemon: &Daemon) -> BTreeMap<PathBuf, Vec<u8>> {
    let engines = fs::read_dir(daemon.dir.path().join("data/artifacts")).unwrap().flatten();
    let files = engines.flat_map(|engine| fs::read_dir(engine.path()).unwrap().flatten());
    files.map(|file| (file.path(), fs::read(file.path()).unwrap())).collect()
}

#[tokio::test]
async fn mod_06_what_is_compiled_is_written_by_the_compiler_alone() {
    let mut siege = Siege::lay("[limits]\ncompile_timeout_ms = 1500\n").await;
    let before = artifacts(&siege.daemon);
    let artifact = before.values().max_by_key(|bytes| bytes.len()).unwrap().clone();
    let component = wat::parse_str(runnable("", "i32.const 0")).unwrap();
    let module = wat::parse_str(r#"(module (memory (export "memory") 1) (func (export "_start")))"#).unwrap();
    let wasm = |bytes: &[u8], name| [bytes, &custom(name, &artifact)].concat();
    const NOT_WASM: Fate = Fate::Refused(&["NOT_WASM"]);
    const INVALID: Fate = Fate::Refused(&["WASM_INVALID", "EXPORT_MISSING"]);
    const TAKEN: Fate = Fate::Ends(&["SUCCEEDED"]);
    let slow = "(local.set 0 (i32.add (local.get 0) (i32.mul (local.get 1) (i32.load (local.get 0)))))".repeat(300_000);
    let slow = format!("(func (local i32 i32) {slow})").repeat(3);
    let bomb = format!(r#"(module (memory (export "memory") 1) (func (export "_start")) {slow})"#);
    let rows = vec![
        Row::new("an artifact", artifact.clone(), NOT_WASM),
        Row::new("half of an artifact", artifact[..artifact.len() / 2].to_vec(), NOT_WASM),
        Row::new("an artifact behind a magic number", [b"\0asm".to_vec(), artifact.clone()].concat(), INVALID),
        Row::new("an artifact behind an empty module", [super::MODULE.to_vec(), artifact.clone()].concat(), INVALID),
        Row::new("an artifact behind a component", [component.clone(), artifact.clone()].concat(), INVALID),
        Row::new("an artifact in a section of a component", wasm(&component, ".wasmtime.engine"), TAKEN),
        Row::new("an artifact in a section of a module", wasm(&module, ".text"), TAKEN),
        Row::text("what takes too long", &bomb, Fate::Refused(&["COMPILE_LIMIT"])),
        Row::text("what takes too long, again", &bomb, Fate::Refused(&["COMPILE_LIMIT"])),
    ];
    hold(&mut siege, rows).await;
    let now = artifacts(&siege.daemon);
    let same = before.iter().all(|(path, bytes)| now.get(path) == Some(bytes));
    siege.judge("artifacts from before", same.then_some(()).ok_or("they were changed".into()));
    let more = now.len() - before.len();
    siege.judge("new artifacts", (more == 2).then_some(()).ok_or(format!("{more} instead of 2")));
    let said = siege.daemon.probe(json!([{ "output": 1 }])).await;
    siege.judge("a component from before", (said == ["ok: x"]).then_some(()).ok_or(format!("{said:?}")));
    siege.lift(MEMORY_AT_ONCE).await;
}
