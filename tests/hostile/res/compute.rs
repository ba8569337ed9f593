//! Loops: of instructions, of host calls, of instructions that do much at once.

use super::{
    super::siege::{Attack, Siege},
    MEMORY_AT_ONCE, command, flood_within, floods, little, run, timed,
};

const FUEL: &[&str] = &["FUEL_EXHAUSTED"];
const CLOCK: &[&str] = &["TIMEOUT"];
/// What does much at once is charged by how much.
const EITHER: &[&str] = &["FUEL_EXHAUSTED", "TIMEOUT"];

fn endless(body: &str) -> String {
    format!("(loop {body} (br 0))")
}

#[tokio::test]
async fn res_03_endless_loops_end_by_fuel_or_by_the_clock() {
    let mut siege = Siege::lay("").await;
    let large = "(memory $large 400)";
    let table = "(table $t 65536 funcref) (table $u 65536 funcref) (func $f) (elem $e func $f $f $f $f)";
    let data = format!(r#"{large} (data $d "{}")"#, "x".repeat(60_000));
    let all = 400 << 16;
    let rows = [
        ("nothing", "", endless("")),
        (
            "arithmetic",
            "(global $g (mut i64) (i64.const 1))",
            endless("(global.set $g (i64.div_u (i64.const 7) (global.get $g)))"),
        ),
        (
            "floats",
            "(global $g (mut f64) (f64.const 1))",
            endless("(global.set $g (f64.sqrt (f64.div (global.get $g) (f64.const 3))))"),
        ),
        ("branches", "", endless("(block (block (block (br_table 0 1 2 (i32.const 9)))))")),
        ("calls", "(func $f)", endless("(call $f)")),
        ("indirect calls", "(table funcref (elem $f)) (func $f)", endless("(call_indirect (i32.const 0))")),
        ("loops in loops", "", endless("(loop (loop (br 1)))")),
        ("memory.fill", large, endless(&format!("(memory.fill $large (i32.const 0) (i32.const 7) (i32.const {all}))"))),
        ("memory.fill of one byte", large, endless("(memory.fill $large (i32.const 0) (i32.const 7) (i32.const 1))")),
        (
            "memory.copy",
            large,
            endless(&format!("(memory.copy $large $large (i32.const 1) (i32.const 0) (i32.const {}))", all - 1)),
        ),
        ("memory.init", &data, endless("(memory.init $large $d (i32.const 0) (i32.const 0) (i32.const 60000))")),
        ("table.fill", table, endless("(table.fill $t (i32.const 0) (ref.null func) (i32.const 65536))")),
        ("table.copy", table, endless("(table.copy $t $u (i32.const 0) (i32.const 0) (i32.const 65536))")),
        ("table.init", table, endless("(table.init $t $e (i32.const 0) (i32.const 0) (i32.const 4))")),
    ];
    let mut attacks = Vec::new();
    for (name, fields, body) in rows {
        let component = siege.push(&command(fields, &body)).await;
        attacks.push(Attack::new(format!("{name}, by fuel"), run(&component, &[], little()), EITHER));
        attacks.push(Attack::new(format!("{name}, by the clock"), run(&component, &[], timed(300)), EITHER));
    }
    let start = command(&format!("(func $start {}) (start $start)", endless("")), "");
    let start = siege.push(&start).await;
    attacks.push(Attack::new("before the program begins, by fuel", run(&start, &[], little()), FUEL));
    attacks.push(Attack::new("before the program begins, by the clock", run(&start, &[], timed(300)), CLOCK));
    siege.steps(attacks).await;
    siege.lift(MEMORY_AT_ONCE).await;
}

#[tokio::test]
async fn res_03_loops_of_host_calls_end_by_fuel_or_by_the_clock() {
    let mut siege = Siege::lay("").await;
    let floods = siege.push(&floods()).await;
    let storms = [
        ("clock-storm", 1),
        ("stat-storm", 1),
        ("environment-storm", 1),
        ("random-storm", 1),
        ("drop-storm", 1),
        ("poll-storm", 1),
        ("poll-storm", 400),
    ];
    let attacks = storms.map(|(what, count)| flood_within(&floods, what, count, timed(500), CLOCK));
    siege.steps(attacks.into()).await;
    let attacks = storms.map(|(what, count)| flood_within(&floods, what, count, little(), EITHER));
    siege.steps(attacks.into()).await;
    siege.lift(MEMORY_AT_ONCE).await;
}
