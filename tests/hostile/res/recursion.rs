//! Recursion: of functions, through tables, of a component's own allocator, and back into a component that is left.

use super::{
    super::siege::{Attack, Siege},
    MEMORY_AT_ONCE, command, little, run,
};

const STACK: &[&str] = &["STACK_EXHAUSTED"];
const TRAP: &[&str] = &["TRAPPED"];

/// Returns a component whose host gives it a list of texts through the allocator `realloc`, in which the table's first
/// element is the host's function.
fn allocating(realloc: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            (import "wasi:cli/environment@0.2.0" (instance $environment
                (export "get-environment" (func (result (list (tuple string string)))))))
            (core module $memory
                (type $host (func (param i32)))
                (memory (export "memory") 1)
                (table (export "table") 1 funcref)
                (func $realloc (export "realloc") (param i32 i32 i32 i32) (result i32) {realloc}))
            (core instance $memory (instantiate $memory))
            (core func $host (canon lower (func $environment "get-environment")
                (memory $memory "memory") (realloc (func $memory "realloc"))))
            (core module $main
                (import "host" "call" (func $host (param i32)))
                (import "memory" "table" (table 1 funcref))
                (elem (i32.const 0) $host)
                (func (export "run") (result i32) (call $host (i32.const 64)) i32.const 0))
            (core instance $main (instantiate $main
                (with "host" (instance (export "call" (func $host)))) (with "memory" (instance $memory))))
            (func $run (result (result)) (canon lift (core func $main "run")))
            (instance $out (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $out)))"#
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn res_04_recursion_ends_at_the_stack() {
    let mut siege = Siege::lay("").await;
    let locals = "(local i64 i64 i64 i64 i64 i64 i64 i64)".repeat(100);
    let again = "(call $realloc (local.get 0) (local.get 1) (local.get 2) (local.get 3))";
    let rows: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("a function in itself", command("(func $f (call $f))", "(call $f)"), STACK),
        (
            "with a result that it needs",
            command("(func $f (result i32) (i32.add (call $f) (i32.const 1)))", "(drop (call $f))"),
            STACK,
        ),
        ("two in each other", command("(func $f (call $g)) (func $g (call $f))", "(call $f)"), STACK),
        (
            "with large frames",
            command(&format!("(func $f {locals} (call $f) (drop (local.get 3)))"), "(call $f)"),
            STACK,
        ),
        (
            "with a thousand parameters",
            command(
                &format!("(func $f (param {0}) (call $f {1}))", "i64 ".repeat(900), "(local.get 5)".repeat(900)),
                &format!("(call $f {})", "(i64.const 1)".repeat(900)),
            ),
            STACK,
        ),
        (
            "through a table",
            command("(table funcref (elem $f)) (func $f (call_indirect (i32.const 0)))", "(call $f)"),
            STACK,
        ),
        ("before the program begins", command("(func $f (call $f)) (start $f)", ""), STACK),
        ("in tail position", command("(func $f (return_call $f))", "(call $f)"), &["FUEL_EXHAUSTED"]),
        ("of the allocator", allocating(again), STACK),
        (
            "of the allocator into the host",
            allocating("(call_indirect (type $host) (i32.const 64) (i32.const 0)) (i32.const 0)"),
            TRAP,
        ),
        ("of an allocator that never returns", allocating("(loop (br 0)) unreachable"), &["FUEL_EXHAUSTED"]),
        (
            "an allocator that grows for ever",
            allocating("(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable"),
            &["MEMORY_EXHAUSTED"],
        ),
        ("an allocator that traps", allocating("unreachable"), TRAP),
        ("an allocator that gives what is not there", allocating("(i32.const -8)"), TRAP),
        ("an allocator that gives what is not aligned", allocating("(i32.const 3)"), TRAP),
        ("an allocator that gives the same again", allocating("(i32.const 1024)"), &["SUCCEEDED"]),
        ("an allocator that gives the end", allocating("(i32.const 65536)"), TRAP),
    ];
    let mut attacks = Vec::new();
    for (name, component, ends) in rows {
        let component = siege.push(&component).await;
        let mut request = run(&component, &[], little());
        request.env = [("NAME".to_owned(), "value".to_owned())].into();
        attacks.push(Attack::new(name, request, ends));
    }
    siege.steps(attacks).await;
    siege.lift(MEMORY_AT_ONCE).await;
}
