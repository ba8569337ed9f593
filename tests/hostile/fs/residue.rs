//! What a step leaves for the next one: nothing, in files, in memory and in tables.

use std::time::Instant;

use futures::{StreamExt as _, stream};
use palisade_proto::v1::{self, step_result::Outcome};
use serde_json::json;

use super::{table::said, world::World};
use crate::hostile::{
    report,
    settings::{Setting, WALLED},
};

/// Successive steps of each kind.
const STEPS: usize = 1_000;

/// Steps at once, so that each slot is used again while its neighbours are busy.
const AT_ONCE: usize = 8;

/// A program that leaves a mark in all of its memory and of its table, and fails if it finds anything there before.
const MARKS: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1 256)
    (table $table 64 4096 funcref)
    (elem declare func $mark)
    (func $mark)
    (func (export "_start") (local $at i32)
        (drop (memory.grow (i32.const 127)))
        ;; The adapter has its own state in the first page and may grow the memory itself.
        (local.set $at (i32.const 65536))
        (loop $look
            (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then (call $exit (i32.const 1))))
            (i64.store (local.get $at) (i64.const 0x6d61726b6d61726b))
            (local.set $at (i32.add (local.get $at) (i32.const 8)))
            (br_if $look (i32.lt_u (local.get $at) (i32.const 8388608))))
        (drop (table.grow $table (ref.null func) (i32.const 960)))
        (local.set $at (i32.const 0))
        (loop $look
            (if (i32.eqz (ref.is_null (table.get $table (local.get $at)))) (then (call $exit (i32.const 1))))
            (table.set $table (local.get $at) (ref.func $mark))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br_if $look (i32.lt_u (local.get $at) (i32.const 1024))))))"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_step_finds_no_memory_and_no_table_of_an_earlier_one() {
    let world = World::new(Setting::BothWalls).await;
    let component = world.daemon.push(&wat::parse_str(MARKS).unwrap()).await.unwrap().name;
    let began = Instant::now();
    let step = || {
        let request = v1::RunStepRequest { component: component.clone(), ..Default::default() };
        world.daemon.run(request)
    };
    let all: Vec<_> = stream::iter(0..STEPS).map(|_| step()).buffer_unordered(AT_ONCE).collect().await;
    let clean = all.iter().filter(|ran| ran.as_ref().is_ok_and(|ran| ran.outcome() == Outcome::Succeeded)).count();
    report::held_in("both-walls", "FS-14", STEPS, clean, began.elapsed());
    let other = all.into_iter().filter_map(Result::ok).find(|ran| ran.outcome() != Outcome::Succeeded);
    assert_eq!(clean, STEPS, "{:?}", other.map(|ran| ran.result));
    world.must_be_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_finds_no_file_and_no_block_of_an_earlier_one() {
    for setting in WALLED {
        let world = World::new(setting).await;
        let began = Instant::now();
        let case = |act: &str, path: &str| json!({ "act": act, "at": "/workspace", "path": path, "time": [65_536, 0] });
        let cases = json!([
            case("open-directory", "."),
            // Holes where others have written and deleted.
            case("create-unasked", "sparse"),
            case("set-size", "sparse"),
            case("open-read", "sparse"),
            // A mark, in a file that is left and in one that is deleted.
            case("create", "left"),
            case("create", "deleted"),
            case("unlink", "deleted"),
            case("make-directory", "directory"),
        ]);
        // In place of writing through a descriptor that was opened for reading, the hole is to stay one.
        let step = || world.daemon.run(world.request(json!([{ "file-cases": cases }])));
        let steps = if setting == Setting::BothWalls { STEPS } else { STEPS / 10 };
        let all: Vec<_> = stream::iter(0..steps).map(|_| step()).buffer_unordered(AT_ONCE).collect().await;
        let mut clean = 0;
        for ran in all {
            let said = said(&ran.unwrap().outcomes()[0]);
            let empty = said[0].starts_with("ok: listed: [], []");
            // Its own first bytes, and then nothing but zeros.
            let hole = said[3].split_once("read: ").map(|(_, read)| read.trim_start_matches("written from inside"));
            let zeros = hole.is_some_and(|read| read.trim_start_matches('\0').starts_with(", written"));
            assert!(empty && zeros, "{setting:?}: {said:?}");
            clean += 1;
        }
        report::held_in(setting.name(), "FS-14", steps, clean, began.elapsed());
    }
}
