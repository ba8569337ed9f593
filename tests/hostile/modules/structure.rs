//! Components that are deep, wide or self-referential.

use super::{super::siege::Siege, COMPONENT, Fate, INVALID, MEMORY_AT_ONCE, MODULE, Row, hold, leb, runnable, section};

/// A component in a component, so many times.
fn nested(depth: usize) -> Vec<u8> {
    (0..depth).fold(COMPONENT.to_vec(), |inner, _| [COMPONENT, &section(4, &inner)].concat())
}

/// A section with so many of the same.
fn many(id: u8, count: usize, one: &[u8]) -> Vec<u8> {
    section(id, &[leb(count), one.repeat(count)].concat())
}

/// Components in which each instantiates the one before it so many times: the last has `times` to the `depth` instances.
fn multiplied(depth: usize, times: usize) -> String {
    let mut text = r#"(component $c0 (core module $m) (core instance (instantiate $m)))"#.to_owned();
    for n in 1..depth {
        let instances = format!("(instance (instantiate $c{}))", n - 1).repeat(times);
        text = format!("(component $c{n} {text} {instances})");
    }
    let instances = format!("(instance (instantiate $c{}))", depth - 1).repeat(times);
    let run = runnable("", "i32.const 0");
    let run = run.trim_start_matches("(component");
    format!("(component {text} {instances} {run}")
}

/// Types of which each holds the one before it twice.
fn doubled(depth: usize) -> String {
    let types: String = (1..depth).map(|n| format!("(type $t{n} (tuple $t{0} $t{0}))", n - 1)).collect();
    let run = runnable("", "i32.const 0");
    format!(
        r#"(component (type $t0 (tuple u8 u8)) {types} (import "palisade:agent/types@0.1.0" (instance (export "f" (func (param "p" $t{})))))  {}"#,
        depth - 1,
        run.trim_start_matches("(component")
    )
}

fn with(before: &str) -> String {
    let run = runnable("", "i32.const 0");
    format!("(component {before} {}", run.trim_start_matches("(component"))
}

fn module(fields: &str) -> String {
    format!(r#"(module (memory (export "memory") 1) {fields} (func (export "_start")))"#)
}

#[tokio::test]
async fn mod_02_what_is_deep_is_refused_or_ends_by_name() {
    let mut siege = Siege::lay("").await;
    let blocks = |depth: usize| module(&format!("(func {} {})", "(block ".repeat(depth), ")".repeat(depth)));
    let raw_blocks = |depth: usize| {
        let body = [vec![0], b"\x02\x40".repeat(depth), vec![0x0b; depth + 1]].concat();
        let code = section(10, &[leb(1), leb(body.len()), body].concat());
        [MODULE, &section(1, b"\x01\x60\0\0"), &section(3, b"\x01\0"), &section(7, b"\x01\x06_start\0\0"), &code]
            .concat()
    };
    let operands = |depth: usize| {
        let deep = format!("{}(i32.const 1){}", "(i32.add (i32.const 1) ".repeat(depth), ")".repeat(depth));
        module(&format!("(func (result i32) {deep})"))
    };
    const ANY: Fate = Fate::Named;
    let mut rows = vec![
        Row::text("blocks 500 deep", &blocks(500), Fate::Ends(&["SUCCEEDED"])),
        Row::new("blocks 10,000 deep", raw_blocks(10_000), ANY),
        Row::new("blocks 1,000,000 deep", raw_blocks(1_000_000), ANY),
        Row::text("operands 500 deep", &operands(500), Fate::Ends(&["SUCCEEDED"])),
        Row::text("types that hold each other 20 deep", &doubled(20), ANY),
        Row::text("types that hold each other 90 deep", &doubled(90), INVALID),
        Row::text("instances of instances, 2 to the 4th", &multiplied(4, 2), ANY),
        Row::text(
            "instances of instances, 10 to the 6th",
            &multiplied(6, 10),
            Fate::Refused(&["WASM_INVALID", "COMPILE_LIMIT"]),
        ),
    ];
    for depth in [10, 90, 101, 1_000, 20_000] {
        rows.push(Row::new(
            format!("components {depth} deep"),
            nested(depth),
            Fate::Refused(&["EXPORT_MISSING", "WASM_INVALID", "COMPILE_LIMIT"]),
        ));
    }
    hold(&mut siege, rows).await;
    siege.lift(MEMORY_AT_ONCE).await;
}

#[tokio::test]
async fn mod_02_what_is_wide_is_refused_or_ends_by_name() {
    let mut siege = Siege::lay("").await;
    let long = "n".repeat(90_000);
    const ANY: Fate = Fate::Named;
    let wide = |count: usize, one: &dyn Fn(usize) -> String| (0..count).map(one).collect::<String>();
    let rows = vec![
        Row::new(
            "a hundred thousand core types",
            [MODULE, &many(1, 100_000, b"\x60\0\0")].concat(),
            Fate::Refused(&["EXPORT_MISSING", "WASM_INVALID"]),
        ),
        Row::new(
            "two million core types",
            [MODULE, &many(1, 2_000_000, b"\x60\0\0")].concat(),
            Fate::Refused(&["EXPORT_MISSING", "WASM_INVALID"]),
        ),
        Row::new(
            "a hundred thousand component types",
            [COMPONENT, &many(7, 100_000, b"\x40\0\x01\0")].concat(),
            Fate::Refused(&["EXPORT_MISSING", "WASM_INVALID"]),
        ),
        Row::text(
            "ten thousand core types in use",
            &module(&wide(10_000, &|_| "(type (func (param i32)))".into())),
            ANY,
        ),
        Row::text("ten thousand functions", &module(&wide(10_000, &|_| "(func)".into())), ANY),
        Row::text("ten thousand exports", &module(&wide(10_000, &|n| format!("(func (export \"e{n}\"))"))), ANY),
        Row::text("ten thousand globals", &module(&wide(10_000, &|_| "(global i32 (i32.const 0))".into())), ANY),
        Row::text(
            "ten thousand imports that nobody provides",
            &with(&wide(10_000, &|n| format!("(import \"a:b/c{n}\" (instance))"))),
            Fate::Refused(&["IMPORT_UNKNOWN"]),
        ),
        Row::text("a hundred thousand data segments", &module(&wide(100_000, &|_| "(data \"\")".into())), ANY),
        Row::text(
            "a hundred thousand and one data segments",
            &module(&wide(100_001, &|_| "(data \"\")".into())),
            INVALID,
        ),
        Row::text("fifty thousand element segments", &module(&wide(50_000, &|_| "(elem func)".into())), ANY),
        Row::text(
            "a thousand parameters",
            &module(&format!("(func (param {}))", "i32 ".repeat(1_000))),
            Fate::Ends(&["SUCCEEDED"]),
        ),
        Row::text(
            "a thousand and one parameters",
            &module(&format!("(func (param {}))", "i32 ".repeat(1_001))),
            INVALID,
        ),
        Row::text(
            "a thousand and one results",
            &module(&format!("(func (result {}) unreachable)", "i32 ".repeat(1_001))),
            INVALID,
        ),
        Row::text("a million locals", &module(&format!("(func (local {}))", "i32 ".repeat(1_000_000))), INVALID),
        Row::text("an export whose name is long", &module(&format!("(func (export \"{long}\"))")), ANY),
        Row::text("an export whose name is longer", &module(&format!("(func (export \"{long}{long}\"))")), INVALID),
        Row::text(
            "an import whose name is long",
            &with(&format!("(import \"a:b/{long}\" (instance))")),
            Fate::Refused(&["IMPORT_UNKNOWN", "WASM_INVALID"]),
        ),
        Row::text("a field whose name is long", &with(&format!("(type (record (field \"{long}\" u8)))")), ANY),
        Row::text(
            "a record of ten thousand fields",
            &with(&format!("(type (record {}))", wide(10_000, &|n| format!("(field \"f{n}\" u8)")))),
            ANY,
        ),
        Row::text(
            "a variant of ten thousand cases",
            &with(&format!("(type (variant {}))", wide(10_000, &|n| format!("(case \"f{n}\" u8)")))),
            ANY,
        ),
        Row::text(
            "32 flags",
            &with(&format!("(type (flags {}))", wide(32, &|n| format!("\"f{n}\" ")))),
            Fate::Ends(&["SUCCEEDED"]),
        ),
        Row::text("33 flags", &with(&format!("(type (flags {}))", wide(33, &|n| format!("\"f{n}\" ")))), INVALID),
        Row::text(
            "ten thousand flags",
            &with(&format!("(type (flags {}))", wide(10_000, &|n| format!("\"f{n}\" ")))),
            INVALID,
        ),
        Row::text("a thousand components in a row", &with(&"(component)".repeat(1_000)), ANY),
        Row::text("a thousand and one components in a row", &with(&"(component)".repeat(1_001)), INVALID),
        Row::text("a thousand and one modules in a row", &with(&"(core module)".repeat(1_001)), INVALID),
    ];
    hold(&mut siege, rows).await;
    siege.lift(MEMORY_AT_ONCE).await;
}

#[tokio::test]
async fn mod_02_what_refers_to_itself_is_refused() {
    let mut siege = Siege::lay("").await;
    // As bytes, behind a component that could be run: no assembler writes them. Nothing has the number 64.
    let whole = wat::parse_str(runnable("", "i32.const 0")).unwrap();
    let of = |sections: &[Vec<u8>]| [&whole[..], &sections.concat()].concat();
    let rows = vec![
        Row::new(
            "an alias of a type of a component around the outermost",
            of(&[section(6, b"\x01\x03\x02\x01\0")]),
            INVALID,
        ),
        Row::new(
            "an alias of a type a billion components out",
            of(&[section(6, b"\x01\x03\x02\xff\xff\xff\xff\x03\0")]),
            INVALID,
        ),
        Row::new("an alias of the type that it makes", of(&[section(6, b"\x01\x03\x02\0\x40")]), INVALID),
        Row::new(
            "an alias of an export of the instance that it makes",
            of(&[section(6, b"\x01\x05\0\x40\x01x")]),
            INVALID,
        ),
        Row::new(
            "an instance with itself",
            of(&[section(4, COMPONENT), section(5, b"\x01\0\0\x01\x01x\x05\x40")]),
            INVALID,
        ),
        Row::new(
            "an instance of a component that comes later",
            of(&[section(5, b"\x01\0\x40\0"), section(4, COMPONENT)]),
            INVALID,
        ),
        Row::new(
            "an instance of the component around it",
            of(&[section(
                4,
                &[COMPONENT, &section(6, b"\x01\x04\x02\x01\x40")[..], &section(5, b"\x01\0\0\0")].concat(),
            )]),
            INVALID,
        ),
        Row::new("a type that holds itself", of(&[section(7, b"\x01\x70\x40")]), INVALID),
        Row::new("an export of what is not there", of(&[section(11, b"\x01\0\x01x\x01\x40\0")]), INVALID),
        Row::new("a start of what is not there", of(&[section(9, b"\x07\0\0")]), INVALID),
        Row::text(
            "a core function that starts itself",
            &module("(func $f (call $f)) (start $f)"),
            Fate::Ends(&["STACK_EXHAUSTED"]),
        ),
        Row::text(
            "a table that holds its caller",
            &module("(table funcref (elem $f)) (func $f (call_indirect (i32.const 0))) (start $f)"),
            Fate::Ends(&["STACK_EXHAUSTED"]),
        ),
    ];
    hold(&mut siege, rows).await;
    siege.lift(MEMORY_AT_ONCE).await;
}
