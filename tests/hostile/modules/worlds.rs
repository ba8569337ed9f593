//! Components of another world: imports that are declared and not there, of another kind or type, languages that are
//! off, work that begins before the step does.

use palisade::host::POWERS;

use super::{super::siege::Siege, Fate, INVALID, MEMORY_AT_ONCE, Row, hold, runnable};

fn importing(import: &str) -> String {
    let run = runnable("", "i32.const 0");
    format!("(component {import} {}", run.trim_start_matches("(component"))
}

fn module(fields: &str) -> String {
    format!(r#"(module (memory (export "memory") 1) {fields} (func (export "_start")))"#)
}

/// Returns a program that imports this.
fn module_with(import: &str) -> String {
    format!(r#"(module (import {import}) (memory (export "memory") 1) (func (export "_start")))"#)
}

#[tokio::test]
async fn mod_03_no_interface_has_more_than_it_says() {
    let mut siege = Siege::lay("").await;
    let mut rows = Vec::new();
    for interface in POWERS.iter().flat_map(|power| power.interfaces) {
        let version = if interface.starts_with("palisade:") { "0.1.0" } else { "0.2.0" };
        let of = |what: &str| importing(&format!("(import \"{interface}@{version}\" {what})"));
        let row = |what: &str, text: String, fate| Row::text(format!("{interface}: {what}"), &text, fate);
        rows.push(row("nothing of it", of("(instance)"), Fate::Ends(&["SUCCEEDED"])));
        // The stub of sockets has whatever is imported, and denies it.
        let lacks = if interface.starts_with("wasi:sockets/") { Fate::Named } else { INVALID };
        rows.push(row("a function that it lacks", of("(instance (export \"no-such\" (func)))"), lacks));
        rows.push(row("a resource that it lacks", of("(instance (export \"no-such\" (type (sub resource))))"), lacks));
        rows.push(row("a function instead", of("(func)"), INVALID));
        rows.push(row("a component instead", of("(component)"), INVALID));
        rows.push(row("a module instead", of("(core module)"), INVALID));
        rows.push(row(
            "of the future",
            importing(&format!("(import \"{interface}@9.9.9\" (instance))")),
            Fate::Refused(&["IMPORT_UNKNOWN"]),
        ));
    }
    hold(&mut siege, rows).await;
    siege.lift(MEMORY_AT_ONCE).await;
}

#[tokio::test]
async fn mod_03_functions_of_another_type_are_refused() {
    let mut siege = Siege::lay("").await;
    let rows = [
        ("wasi:random/random@0.2.0", "get-random-bytes", "(param \"len\" u32) (result (list u8))"),
        ("wasi:random/random@0.2.0", "get-random-bytes", "(param \"len\" u64) (result string)"),
        ("wasi:random/random@0.2.0", "get-random-bytes", "(param \"len\" u64)"),
        ("wasi:random/random@0.2.0", "get-random-bytes", "(param \"len\" u64) (param \"more\" u64) (result (list u8))"),
        ("wasi:clocks/monotonic-clock@0.2.0", "now", "(result s64)"),
        ("wasi:clocks/monotonic-clock@0.2.0", "now", "(result (tuple u64))"),
        ("wasi:cli/environment@0.2.0", "get-environment", "(result (list (tuple string (list u8))))"),
        ("wasi:cli/exit@0.2.0", "exit", "(param \"status\" u8)"),
        ("palisade:agent/events@0.1.0", "progress", "(param \"fraction\" f32) (param \"message\" string)"),
        ("palisade:agent/memory@0.1.0", "get", "(param \"space\" string) (result string)"),
        ("palisade:agent/tools@0.1.0", "call", "(param \"name\" string) (param \"arguments\" string) (result string)"),
    ];
    let rows = rows.map(|(interface, name, of)| {
        let text = importing(&format!("(import \"{interface}\" (instance (export \"{name}\" (func {of}))))"));
        Row::text(format!("{name} {of}"), &text, INVALID)
    });
    hold(&mut siege, rows).await;
    siege.lift(MEMORY_AT_ONCE).await;
}

#[tokio::test]
async fn mod_03_languages_that_are_off_are_refused() {
    let mut siege = Siege::lay("").await;
    let unknown = Fate::Refused(&["IMPORT_UNKNOWN"]);
    let nothing = Fate::Refused(&["EXPORT_MISSING"]);
    let run = runnable("", "i32.const 0");
    let other = r#"(instance $other) (export "palisade:agent/run@0.1.0" (instance $other)))"#;
    let two = format!("{}{other}", &run[..run.len() - 1]);
    let rows = vec![
        Row::text("shared memory", &module("(memory 1 1 shared)"), INVALID),
        Row::text("atomics", &module("(func (drop (i32.atomic.load (i32.const 0))) (atomic.fence))"), INVALID),
        Row::text("memory64", &module("(memory i64 1)"), INVALID),
        Row::text("tables of 64 bits", &module("(table i64 1 funcref)"), INVALID),
        Row::text("structs", &module("(type (struct (field i32)))"), INVALID),
        Row::text("arrays", &module("(type (array i8))"), INVALID),
        Row::text("i31", &module("(func (drop (ref.i31 (i32.const 1))))"), INVALID),
        Row::text(
            "typed function references",
            &module("(type $t (func)) (func (param (ref $t)) (call_ref $t (local.get 0)))"),
            INVALID,
        ),
        Row::text("tags", &module("(tag (param i32))"), INVALID),
        Row::text("pages of one byte", &module("(memory 1 (pagesize 1))"), INVALID),
        Row::text("stack switching", &module("(type $f (func)) (type $c (cont $f))"), INVALID),
        Row::text(
            "wide arithmetic",
            &module("(func (result i64 i64) (i64.mul_wide_u (i64.const 1) (i64.const 1)))"),
            INVALID,
        ),
        Row::text("threads of WASI", &module_with(r#""wasi" "thread-spawn" (func (param i32) (result i32))"#), unknown),
        Row::text(
            "a function of WASI 0.1 that is none",
            &module_with(r#""wasi_snapshot_preview1" "no_such" (func)"#),
            INVALID,
        ),
        Row::text(
            "a function of WASI 0.1 of another type",
            &module_with(r#""wasi_snapshot_preview1" "fd_write" (func)"#),
            INVALID,
        ),
        Row::text("a memory of WASI 0.1", &module_with(r#""wasi_snapshot_preview1" "memory" (memory 1)"#), INVALID),
        Row::text("sockets, if they were used", &importing("(import \"wasi:sockets/raw@0.2.0\" (instance))"), unknown),
        Row::text(
            "an asynchronous function",
            &importing(r#"(import "palisade:agent/tools@0.1.0" (instance (export "call" (func async))))"#),
            INVALID,
        ),
        Row::text("streams", &importing("(type (stream u8))"), INVALID),
        Row::text("futures", &importing("(type (future u8))"), INVALID),
        Row::text(
            "a run that is none",
            r#"(component (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)))"#,
            INVALID,
        ),
        Row::text(
            "a run of the future",
            r#"(component (instance $i) (export "wasi:cli/run@0.3.0" (instance $i)))"#,
            nothing,
        ),
        Row::text(
            "a run that is a component",
            r#"(component (component $i) (export "wasi:cli/run@0.2.0" (component $i)))"#,
            INVALID,
        ),
        Row::text("two that could be run", &two, INVALID),
        Row::text(
            "a start function that is exported",
            r#"(module (memory (export "memory") 1) (global (export "_start") i32 (i32.const 1)))"#,
            nothing,
        ),
        Row::text(
            "a start function with a parameter",
            r#"(module (memory (export "memory") 1) (func (export "_start") (param i32)))"#,
            INVALID,
        ),
        Row::text("a program without a memory", r#"(module (func (export "_start")))"#, Fate::Named),
    ];
    hold(&mut siege, rows).await;
    siege.lift(MEMORY_AT_ONCE).await;
}

#[tokio::test]
async fn mod_04_what_works_before_the_step_begins_is_metered() {
    let mut siege = Siege::lay("").await;
    const GROW: &str = "(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable";
    const TRAP: Fate = Fate::Ends(&["TRAPPED"]);
    const FUEL: Fate = Fate::Ends(&["FUEL_EXHAUSTED"]);
    const MEMORY: Fate = Fate::Ends(&["MEMORY_EXHAUSTED"]);
    let table = "(table $t 1 funcref) (func $f)";
    let rows = vec![
        Row::text("it traps", &module("(func $s unreachable) (start $s)"), TRAP),
        Row::text("it loops", &module("(func $s (loop (br 0))) (start $s)"), FUEL),
        Row::text("it loops, in a component", &runnable("(func $s (loop (br 0))) (start $s)", "i32.const 0"), FUEL),
        Row::text("it traps, in a component", &runnable("(func $s unreachable) (start $s)", "i32.const 0"), TRAP),
        Row::text("it grows", &runnable(&format!("(memory 1) (func $s {GROW}) (start $s)"), "i32.const 0"), MEMORY),
        Row::text("it begins with more", &runnable("(memory 600)", "i32.const 0"), MEMORY),
        Row::text("data beyond the end", &runnable("(memory 1) (data (i32.const 65535) \"xx\")", "i32.const 0"), TRAP),
        Row::text(
            "data before the beginning",
            &runnable("(memory 1) (data (i32.const -1) \"xx\")", "i32.const 0"),
            TRAP,
        ),
        Row::text("data in no memory", &runnable("(memory 0) (data (i32.const 0) \"x\")", "i32.const 0"), TRAP),
        Row::text(
            "elements beyond the end",
            &runnable(&format!("{table} (elem (table $t) (i32.const 1) func $f)"), "i32.const 0"),
            TRAP,
        ),
        Row::text(
            "elements before the beginning",
            &runnable(&format!("{table} (elem (table $t) (i32.const -1) func $f)"), "i32.const 0"),
            TRAP,
        ),
        Row::text(
            "much data",
            &runnable(
                &format!("(memory 300) {}", "(data (i32.const 0) \"xxxxxxxxxxxxxxxx\")".repeat(50_000)),
                "i32.const 0",
            ),
            Fate::Named,
        ),
    ];
    hold(&mut siege, rows).await;
    siege.lift(MEMORY_AT_ONCE).await;
}
