//! Modules that a generator made of a stream of random bytes: valid, and like nothing that a person would write. They
//! may call what WASI 0.1 has, with whatever they compute.

use std::time::{SystemTime, UNIX_EPOCH};

use wasm_smith::{Component, Config, Module};

use super::{
    super::{report, siege::Siege},
    ENDS, Fate, MEMORY_AT_ONCE, Random, Row, hold,
};

/// What a generated program may import.
const WASI: &str = r#"(module
    (import "wasi_snapshot_preview1" "args_get" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "args_sizes_get" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "clock_time_get" (func (param i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_get" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_advise" (func (param i32 i64 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_allocate" (func (param i32 i64 i64) (result i32)))
    (import "wasi_snapshot_preview1" "fd_close" (func (param i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_fdstat_get" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_filestat_set_times" (func (param i32 i64 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_pread" (func (param i32 i32 i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_prestat_dir_name" (func (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_readdir" (func (param i32 i32 i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_renumber" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_seek" (func (param i32 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_create_directory" (func (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open" (func (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_symlink" (func (param i32 i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32))))"#;

/// What a program must export.
const PROGRAM: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

/// Languages that the engine speaks.
fn spoken() -> Config {
    Config {
        available_imports: Some(wat::parse_str(WASI).unwrap()),
        exports: Some(wat::parse_str(PROGRAM).unwrap()),
        allow_start_export: true,
        max_memories: 3,
        max_memory32_bytes: 16 << 20,
        // With them come references to the host, which belong to a language that is off.
        reference_types_enabled: false,
        max_table_elements: 10_000,
        memory64_enabled: false,
        gc_enabled: false,
        exceptions_enabled: false,
        threads_enabled: false,
        ..Config::default()
    }
}

#[tokio::test]
async fn mod_07_generated_programs_end_by_name() {
    let mut siege = Siege::lay("").await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
    let seed = report::number("PALISADE_HOSTILE_SEED", now) | 1;
    let count = report::number("PALISADE_HOSTILE_MODULES", 150);
    println!("PALISADE_HOSTILE_SEED={seed} PALISADE_HOSTILE_MODULES={count}");
    let mut random = Random(seed);
    let rows = (0..count).map(|n| {
        let bytes: Vec<u8> = (0..8_192).map(|_| random.next() as u8).collect();
        let mut choices = arbitrary::Unstructured::new(&bytes);
        let (what, bytes, fate) = match n % 6 {
            // Anything that there is, in any language: mostly refused.
            0 => ("module", Module::new(Config::default(), &mut choices).map(|module| module.to_bytes()), Fate::Named),
            1 => (
                "component",
                Component::new(Config::default(), &mut choices).map(|component| component.to_bytes()),
                Fate::Named,
            ),
            _ => ("program", Module::new(spoken(), &mut choices).map(|module| module.to_bytes()), Fate::Ends(ENDS)),
        };
        Row::new(format!("{what} {n}"), bytes.unwrap(), fate)
    });
    let rows: Vec<_> = rows.collect();
    hold(&mut siege, rows).await;
    siege.lift(MEMORY_AT_ONCE).await;
}
