//! Descriptors that are closed, renumbered and confused: a WASI 0.1 program, through the adapter.
//!
//! The program does what the first letter of its input says, and succeeds if each call answered as it must. A trap is
//! allowed where the row says so; a worker that dies or grows never is.

use std::{fs, time::Instant};

use palisade_proto::v1::{self, MountUse, step_result::Outcome};

use super::world::World;
use crate::hostile::{report, settings::GUESTS};

/// What must come of a letter.
#[derive(PartialEq)]
enum Must {
    Succeed,
    /// The adapter may also trap.
    End,
}

const ROWS: &[(&str, Must, &str)] = &[
    ("a file is opened and read: the control", Must::Succeed, "(call $must (call $open (i32.const 3) (i32.const 2048) (i32.const 4) (i32.const 0)) (i32.const 0))"),
    ("a path of one mount from another", Must::Succeed, "(call $fails (call $open (i32.const 3) (i32.const 2064) (i32.const 10) (i32.const 0)))
        (call $fails (call $open (i32.const 4) (i32.const 2064) (i32.const 10) (i32.const 0)))
        (call $fails (call $open (i32.const 5) (i32.const 2064) (i32.const 10) (i32.const 0)))"),
    ("a file in place of a directory", Must::Succeed, "(call $must (call $open (i32.const 3) (i32.const 2048) (i32.const 4) (i32.const 0)) (i32.const 0))
        (call $fails (call $open (call $opened) (i32.const 2064) (i32.const 10) (i32.const 0)))
        (call $fails (call $open (call $opened) (i32.const 2048) (i32.const 4) (i32.const 0)))"),
    ("a mount that was closed", Must::Succeed, "(call $must (call $close (i32.const 3)) (i32.const 0))
        (call $fails (call $open (i32.const 3) (i32.const 2048) (i32.const 4) (i32.const 0)))
        (call $fails (call $close (i32.const 3)))"),
    ("every descriptor closed twice", Must::End, "(local.set $i (i32.const 64))
        (loop $all (drop (call $close (local.get $i))) (drop (call $close (local.get $i)))
            (local.set $i (i32.sub (local.get $i) (i32.const 1))) (br_if $all (i32.ge_s (local.get $i) (i32.const 0))))"),
    ("a file over a mount", Must::End, "(call $must (call $open (i32.const 4) (i32.const 2048) (i32.const 4) (i32.const 0)) (i32.const 0))
        (drop (call $renumber (call $opened) (i32.const 3)))
        (call $fails (call $open (i32.const 3) (i32.const 2064) (i32.const 10) (i32.const 0)))"),
    ("a mount over a mount", Must::End, "(drop (call $renumber (i32.const 3) (i32.const 4)))
        (call $fails (call $open (i32.const 4) (i32.const 2064) (i32.const 10) (i32.const 0)))
        (call $fails (call $open (i32.const 3) (i32.const 2064) (i32.const 10) (i32.const 0)))"),
    ("a mount over standard output", Must::End, "(drop (call $renumber (i32.const 3) (i32.const 1)))
        (call $fails (call $open (i32.const 1) (i32.const 2064) (i32.const 10) (i32.const 0)))"),
    ("a descriptor over itself", Must::End, "(drop (call $renumber (i32.const 3) (i32.const 3)))
        (call $fails (call $open (i32.const 3) (i32.const 2064) (i32.const 10) (i32.const 0)))"),
    ("descriptors that are none", Must::End, "(call $fails (call $renumber (i32.const 1000) (i32.const 3)))
        (call $fails (call $renumber (i32.const -1) (i32.const 3)))
        (call $fails (call $renumber (i32.const 3) (i32.const -1)))
        (call $fails (call $renumber (i32.const 3) (i32.const 0x7fffffff)))
        (call $fails (call $close (i32.const -1)))
        (call $fails (call $open (i32.const 0x7fffffff) (i32.const 2048) (i32.const 4) (i32.const 0)))"),
    ("100,000 renumbers", Must::End, "(local.set $i (i32.const 50000))
        (loop $all
            (call $must (call $open (i32.const 3) (i32.const 2048) (i32.const 4) (i32.const 0)) (i32.const 0))
            (local.set $a (call $opened))
            (call $must (call $open (i32.const 3) (i32.const 2048) (i32.const 4) (i32.const 0)) (i32.const 0))
            (local.set $b (call $opened))
            (drop (call $renumber (local.get $a) (local.get $b)))
            (drop (call $renumber (local.get $b) (local.get $a)))
            (drop (call $close (local.get $a))) (drop (call $close (local.get $b)))
            (local.set $i (i32.sub (local.get $i) (i32.const 1))) (br_if $all (local.get $i)))"),
    ("a name that is no text", Must::End, "(call $fails (call $open (i32.const 3) (i32.const 2080) (i32.const 4) (i32.const 1)))"),
    ("a way out that is no text", Must::End, "(call $fails (call $open (i32.const 3) (i32.const 2090) (i32.const 12) (i32.const 0)))"),
    ("half a character", Must::End, "(call $fails (call $open (i32.const 3) (i32.const 2080) (i32.const 1) (i32.const 1)))"),
    ("a name beyond the memory", Must::End, "(call $fails (call $open (i32.const 3) (i32.const -16) (i32.const 4096) (i32.const 0)))"),
    ("a name as long as the memory", Must::End, "(call $fails (call $open (i32.const 3) (i32.const 0) (i32.const 65536) (i32.const 0)))"),
];

fn program() -> Vec<u8> {
    let cases = ROWS.iter().enumerate().map(|(number, (.., body))| {
        let letter = u32::from(b'a') + number as u32;
        format!("(if (i32.eq (local.get $told) (i32.const {letter})) (then {body} (return)))\n")
    });
    let text = format!(
        r#"(module
        (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_renumber" (func $renumber (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "path_open"
            (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 2)
        (data (i32.const 0) "\10\00\00\00\01\00\00\00")
        (data (i32.const 2048) "file")
        (data (i32.const 2064) "../secret\00")
        (data (i32.const 2080) "\ff\fe\80\c0")
        (data (i32.const 2090) "\ff/../../secret")
        ;; Opens for reading; with 1 as the last parameter, makes what is not there.
        (func $open (param $at i32) (param $path i32) (param $length i32) (param $create i32) (result i32)
            (call $path_open (local.get $at) (i32.const 1) (local.get $path) (local.get $length) (local.get $create)
                (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 32)))
        (func $opened (result i32) (i32.load (i32.const 32)))
        (func $must (param $errno i32) (param $expected i32)
            (if (i32.ne (local.get $errno) (local.get $expected)) (then (call $exit (i32.const 1)))))
        (func $fails (param $errno i32) (if (i32.eqz (local.get $errno)) (then (call $exit (i32.const 1)))))
        (func (export "_start") (local $told i32) (local $i i32) (local $a i32) (local $b i32)
            (call $must (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (i32.const 0))
            (local.set $told (i32.load8_u (i32.const 16)))
            {}
            (call $exit (i32.const 1))))"#,
        cases.collect::<String>()
    );
    wat::parse_str(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_descriptor_is_more_than_it_was_opened_for() {
    let program = program();
    for setting in GUESTS {
        let mut world = World::new(setting).await;
        let component = world.daemon.push(&program).await.unwrap().name;
        let began = Instant::now();
        let mut wrong = Vec::new();
        for (number, (name, must, _)) in ROWS.iter().enumerate() {
            let used = |mount: &str| MountUse { mount: mount.into(), path: format!("/{mount}"), read_only: false };
            let input = vec![b'a' + number as u8];
            let mounts = vec![used("rw"), used("ro"), used("other")];
            let request = v1::RunStepRequest { component: component.clone(), input, mounts, ..Default::default() };
            let ran = world.run(request).await;
            let holds = match ran.outcome() {
                Outcome::Succeeded => true,
                Outcome::Trapped => *must == Must::End,
                _ => false,
            };
            if !holds {
                wrong.push(format!("  {name}: {:?} {:?}", ran.outcome(), ran.result.failure));
            }
        }
        report::held_in(setting.name(), "FS-09", ROWS.len(), ROWS.len() - wrong.len(), began.elapsed());
        assert!(wrong.is_empty(), "{setting:?}:\n{}", wrong.join("\n"));
        let held = fs::read_dir(world.writable("rw")).unwrap().count();
        assert!(held <= 4, "{setting:?}: a name that is none was made: {held} entries");
        // Once more, in a worker that has done it before: after a trap there may be a new one.
        let input = vec![b'a' + ROWS.iter().position(|(name, ..)| name.contains("renumbers")).unwrap() as u8];
        let mounts = vec![MountUse { mount: "rw".into(), path: "/rw".into(), read_only: false }];
        let request = v1::RunStepRequest { component, input, mounts, ..Default::default() };
        world.run(request.clone()).await;
        let before = (descriptors(&world), resident(&world));
        world.run(request).await;
        let grown = resident(&world).saturating_sub(before.1);
        assert!(grown < 64 << 20, "{setting:?}: the workers grew by {} MiB", grown >> 20);
        // A spare worker has about a dozen.
        let more = descriptors(&world).saturating_sub(before.0);
        assert!(before.0 > 0 && more < 32, "{setting:?}: {more} more descriptors than {}", before.0);
        world.must_be_clean();
    }
}

/// Returns how many descriptors the workers have open.
fn descriptors(world: &World) -> usize {
    let open = |worker| fs::read_dir(format!("/proc/{worker}/fd")).map_or(0, Iterator::count);
    world.daemon.children().into_iter().map(open).sum()
}

/// Returns the bytes of the workers that are in memory.
pub fn resident(world: &World) -> u64 {
    let of = |worker| {
        let status = fs::read_to_string(format!("/proc/{worker}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
        line.unwrap_or(0_u64) << 10
    };
    world.daemon.children().into_iter().map(of).sum()
}
