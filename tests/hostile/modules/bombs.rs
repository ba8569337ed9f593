//! Compile bombs: small to send, long or large to compile. The compiler's bounds hold, and others are served meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    super::{holdings, siege::Siege},
    Fate, MEMORY_AT_ONCE, Row,
};

/// Milliseconds and bytes that one compilation may take here.
const TIME_MS: u64 = 1_000;
const MEMORY: u64 = 640 << 20;

fn module(fields: &str, body: &str) -> String {
    format!(r#"(module (memory (export "memory") 1) {fields} (func (export "_start") {body}))"#)
}

fn bombs() -> Vec<(&'static str, String)> {
    let straight = "(local.set 0 (i32.add (local.get 0) (i32.mul (local.get 1) (i32.load (local.get 0)))))";
    let live: String = (0..5_000).map(|n| format!("(local.set {n} (i32.load (i32.const {n})))")).collect();
    let used: String = (0..5_000).map(|n| format!("(i32.store (i32.const {n}) (local.get {n}))")).collect();
    let all: String =
        (0..49_989).map(|n| format!("(local.set {n} (i64.mul (local.get {n}) (local.get {})))", n + 1)).collect();
    let targets = |count: usize| (0..count).map(|n| format!("{} ", n % 100)).collect::<String>();
    let table = |count: usize| {
        format!("{}(br_table {} (i32.load (i32.const 0))){}", "(block ".repeat(100), targets(count), ")".repeat(100))
    };
    let call = "(call $f (i32.load (i32.const 0)) (i32.load (i32.const 4)))";
    let signature = "(func $f (param i32 i32))";
    vec![
        ("one long function", module("", &format!("(local i32 i32) {}", straight.repeat(200_000)))),
        (
            "one long function of branches",
            module("", &format!("(local i32 i32) {}", format!("(if (local.get 0) (then {straight}))").repeat(60_000))),
        ),
        ("five thousand values that all live", module("", &format!("(local {}) {live} {used}", "i32 ".repeat(5_000)))),
        ("fifty thousand locals", module("", &format!("(local {}) {all}", "i64 ".repeat(49_990)))),
        ("a giant br_table", module("", &table(60_000))),
        ("many giant br_tables", module("", &table(20_000).repeat(40))),
        ("a long function of calls", module(signature, &call.repeat(100_000))),
        (
            "a long function of bulk operations",
            module("", &"(memory.fill (i32.const 0) (i32.const 1) (i32.const 2))".repeat(100_000)),
        ),
        (
            "a long function of floats",
            module(
                "",
                &format!(
                    "(local f64) {}",
                    "(local.set 0 (f64.nearest (f64.sqrt (f64.add (local.get 0) (f64.const 1)))))".repeat(100_000)
                ),
            ),
        ),
        (
            "a long function of vectors",
            module(
                "",
                &format!(
                    "(local v128) {}",
                    "(local.set 0 (i8x16.swizzle (i16x8.mul (local.get 0) (local.get 0)) (local.get 0)))"
                        .repeat(60_000)
                ),
            ),
        ),
        (
            "nested loops",
            module("", &format!("(local i32 i32) {}{}{}", "(loop ".repeat(2_000), straight, ")".repeat(2_000))),
        ),
        (
            "two hundred thousand small functions",
            module(&"(func (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))".repeat(200_000), ""),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mod_01_compile_bombs_stay_within_the_compilers_bounds() {
    let limits = format!("[limits]\ncompile_timeout_ms = {TIME_MS}\ncompile_memory_bytes = {MEMORY}\n");
    let mut siege = Siege::lay(&limits).await;
    let done = Arc::new(AtomicBool::new(false));
    let (daemon, until) = (siege.daemon.child.id(), done.clone());
    let watched = std::thread::spawn(move || {
        let mut peak = 0;
        while !until.load(Ordering::Relaxed) {
            peak = peak.max(holdings::compilers_peak(daemon));
            std::thread::sleep(Duration::from_millis(10));
        }
        peak
    });
    const ENDED: Fate = Fate::Named;
    for (name, text) in bombs() {
        let row = Row::text(name, &text, ENDED);
        let began = Instant::now();
        let (name, held) = row.judge(siege.daemon.channel.clone()).await;
        // Beside the compilation itself the bytes travel, and a step that is taken runs.
        let late = began.elapsed() > Duration::from_millis(TIME_MS) + Duration::from_secs(8);
        siege.judge(&name, if late { Err(format!("it took {:?}", began.elapsed())) } else { held });
    }
    done.store(true, Ordering::Relaxed);
    let peak = watched.join().unwrap();
    let small = peak <= MEMORY + (64 << 20);
    siege.judge("memory of a compiler", small.then_some(()).ok_or(format!("{} MiB", peak >> 20)));
    siege.lift(MEMORY_AT_ONCE).await;
}
