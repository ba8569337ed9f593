//! Memories, instances and tables.

use palisade_proto::v1;

use super::{
    super::siege::{Attack, Siege},
    MEMORY, MEMORY_AT_ONCE, command, little, run, timed,
};

/// Pushes each command and runs it.
async fn hold(siege: &mut Siege, memory: u64, rows: Vec<(&str, Vec<u8>, &'static [&'static str])>) {
    let mut attacks = Vec::new();
    for (name, module, ends) in rows {
        // What never ends has half a second: growth that is refused costs next to no fuel.
        let limits = if ends == FOR_EVER { timed(500) } else { little() };
        let limits = v1::StepLimits { memory_bytes: Some(memory as i64), ..limits };
        attacks.push(Attack::new(name, run(&siege.push(&module).await, &[], limits), ends));
    }
    siege.steps(attacks).await;
}

/// Pushes what must be refused.
async fn refused(siege: &mut Siege, rows: Vec<(&str, String)>) {
    for (name, text) in rows {
        let held = match siege.daemon.push(&wat::parse_str(text).unwrap()).await {
            Err(status) if crate::harness::reason(&status) == "WASM_INVALID" => Ok(()),
            other => Err(format!("{other:?}")),
        };
        siege.judge(name, held);
    }
}

const EXHAUSTED: &[&str] = &["MEMORY_EXHAUSTED"];
/// More than any memory can have is refused by the engine before our limit is asked.
const BEYOND: &[&str] = &["FUEL_EXHAUSTED", "MEMORY_EXHAUSTED", "TRAPPED"];
const FOR_EVER: &[&str] = &["FUEL_EXHAUSTED", "TIMEOUT"];

#[tokio::test]
async fn res_01_memories_grow_to_the_limit_and_no_further() {
    let mut siege = Siege::lay("").await;
    let until_refused = |memory: &str, touch: &str| {
        format!("(loop {touch} (br_if 0 (i32.ne (memory.grow {memory} (i32.const 1)) (i32.const -1))))")
    };
    let touch = "(i32.store (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4)) (i32.const 7))";
    let trap = |body: String| command("", &format!("{body} unreachable"));
    let more = "(memory $a 1) (memory $b 1) (memory $c 1)";
    let each = ["$a", "$b", "$c"].map(|memory| until_refused(memory, "")).concat();
    let in_turn = ["$a", "$b", "$c"].map(|memory| format!("(drop (memory.grow {memory} (i32.const 16)))")).concat();
    let rows: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("page by page", trap(until_refused("", "")), EXHAUSTED),
        ("page by page, each touched", trap(until_refused("", touch)), EXHAUSTED),
        ("for ever", command("", "(loop (drop (memory.grow (i32.const 1))) (br 0))"), FOR_EVER),
        ("all that can be addressed at once", trap("(drop (memory.grow (i32.const 65535)))".into()), BEYOND),
        ("more than can be addressed", trap("(drop (memory.grow (i32.const -1)))".into()), BEYOND),
        ("in four memories, one after another", command(more, &format!("{each} unreachable")), EXHAUSTED),
        ("in four memories, in turn", command(more, &format!("(loop {in_turn} (br 0))")), FOR_EVER),
        ("from the beginning", command("(memory $large 1000)", ""), EXHAUSTED),
        (
            "before the program begins",
            command("(func $grow (drop (memory.grow (i32.const 9999))) unreachable) (start $grow)", ""),
            EXHAUSTED,
        ),
        ("with data beyond its end", command(r#"(data (i32.const 65530) "beyond the end")"#, ""), &["TRAPPED"]),
        ("written beyond its end", command("", "(i32.store (i32.const -4) (i32.const 1))"), &["TRAPPED"]),
    ];
    hold(&mut siege, MEMORY, rows).await;
    let minimum = |fields: &str| format!(r#"(module (memory (export "memory") 1) {fields} (func (export "_start")))"#);
    refused(
        &mut siege,
        vec![
            ("a minimum above the largest step's", minimum("(memory 16385)")),
            ("a minimum of all that can be addressed", minimum("(memory 65536)")),
            ("five memories", minimum(&"(memory 0)".repeat(4))),
            ("ten thousand memories", minimum(&"(memory 0)".repeat(10_000))),
        ],
    )
    .await;
    siege.lift(MEMORY_AT_ONCE).await;
}

/// Returns a component of so many instances of one module.
fn instances(count: usize, module: &str) -> String {
    let instances: String = (0..count).map(|n| format!("(core instance $i{n} (instantiate $m))")).collect();
    format!(
        r#"(component
            (core module $m {module} (func (export "run") (result i32) i32.const 0))
            {instances}
            (func $run (result (result)) (canon lift (core func $i0 "run")))
            (instance $out (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $out)))"#
    )
}

#[tokio::test]
async fn res_01_instances_are_counted() {
    let mut siege = Siege::lay("").await;
    let rows: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("as many instances as there may be", wat::parse_str(instances(64, "")).unwrap(), &["SUCCEEDED"]),
        ("four that each begin with 16 MiB", wat::parse_str(instances(4, "(memory 256)")).unwrap(), EXHAUSTED),
    ];
    hold(&mut siege, MEMORY, rows).await;
    refused(
        &mut siege,
        vec![
            ("one instance more", instances(65, "")),
            ("ten thousand instances", instances(10_000, "")),
            ("five instances with a memory each", instances(5, "(memory 1)")),
            ("forty instances with a table each", instances(40, "(table 1 funcref)")),
            ("instances whose tables together are too many", instances(9, &"(table 1 funcref)".repeat(4))),
        ],
    )
    .await;
    siege.lift(MEMORY_AT_ONCE).await;
}

#[tokio::test]
async fn res_02_tables_grow_to_the_limit_and_no_further() {
    let mut siege = Siege::lay("").await;
    let tables: String = (0..24).map(|n| format!("(table $t{n} 1 funcref)")).collect();
    let grown = |by: &str| -> String {
        let one = |n| format!("(drop (table.grow $t{n} (ref.null func) (i32.const {by})))");
        (0..24).map(one).collect()
    };
    let refused_once = "(if (i32.ne (table.grow $t (ref.null func) (i32.const -1)) (i32.const -1)) (then unreachable))";
    let until_refused =
        "(loop (br_if 0 (i32.ne (table.grow $t (ref.null func) (i32.const 1024)) (i32.const -1)))) unreachable";
    let table = "(table $t 1 funcref)";
    let huge = command(&tables, &grown("262143"));
    let rows: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("by all that can be addressed", command(table, refused_once), &["SUCCEEDED", "FUEL_EXHAUSTED"]),
        ("until it is refused", command(table, until_refused), &["TRAPPED", "MEMORY_EXHAUSTED"]),
        ("for ever", command(table, "(loop (drop (table.grow $t (ref.null func) (i32.const 1))) (br 0))"), FOR_EVER),
        ("read beyond its end", command(table, "(drop (table.get $t (i32.const -1)))"), &["TRAPPED"]),
        ("called beyond its end", command(table, "(call_indirect $t (i32.const 99))"), &["TRAPPED"]),
        ("called where there is nothing", command(table, "(call_indirect $t (i32.const 0))"), &["TRAPPED"]),
        (
            "elements beyond its end",
            command("(table $t 1 funcref) (func $f) (elem (i32.const 1) $f $f)", ""),
            &["TRAPPED"],
        ),
        // Their elements are memory as well: together they would be six times as large as the step may be.
        ("24 tables, each as large as it may be", huge.clone(), &["SUCCEEDED", "MEMORY_EXHAUSTED"]),
        (
            "24 tables, again, beside it",
            command(&tables, &(grown("262143") + "nop")),
            &["SUCCEEDED", "MEMORY_EXHAUSTED"],
        ),
        (
            "24 tables, a third time",
            command(&tables, &(grown("262143") + "nop nop")),
            &["SUCCEEDED", "MEMORY_EXHAUSTED"],
        ),
    ];
    hold(&mut siege, MEMORY / 4, rows).await;
    let minimum = |fields: &str| format!(r#"(module (memory (export "memory") 1) {fields} (func (export "_start")))"#);
    refused(
        &mut siege,
        vec![
            ("a minimum above the limit", minimum("(table 262145 funcref)")),
            ("a minimum of all that can be addressed", minimum("(table 4294967295 funcref)")),
            ("a table of references to the host", minimum("(table 1 externref)")),
            ("tables above the limit", minimum(&"(table 1 funcref)".repeat(33))),
        ],
    )
    .await;
    siege.lift(MEMORY_AT_ONCE / 4).await;
}
