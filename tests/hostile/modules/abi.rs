//! What a component hands to the host: pointers, lengths, discriminants and texts that are none.

use super::{super::siege::Siege, Fate, MEMORY_AT_ONCE, Row, hold};

/// A step whose `run` returns the pointer `at`, after it wrote these words to it, with this encoding of its texts.
fn step(at: &str, words: &[u32], encoding: &str, after: &str) -> String {
    let input = r#"(record (field "payload" (list u8)) (field "content-type" string))"#;
    let error = r#"(record (field "code" string) (field "message" string))"#;
    let written: String = words
        .iter()
        .enumerate()
        .map(|(n, word)| format!("(i32.store (i32.const {}) (i32.const {}))", 256 + 4 * n, *word as i32))
        .collect();
    format!(
        r#"(component
            (type $input {input}) (type $error {error})
            (core module $m
                (memory (export "memory") 1)
                (data (i32.const 1024) "\ff\fe\fd\fcplain text \00\d8\00\d8\00\dc")
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
                (func (export "run") (param i32 i32 i32 i32) (result i32) {written} (i32.const {at}))
                (func (export "after") (param i32) {after}))
            (core instance $m (instantiate $m))
            (func $run (param "input" $input) (result (result $input (error $error)))
                (canon lift (core func $m "run") (memory $m "memory") (realloc (func $m "realloc"))
                    (post-return (func $m "after")) string-encoding={encoding}))
            (component $named
                (type $i {input}) (import "import-type-input" (type $input (eq $i)))
                (type $e {error}) (import "import-type-error" (type $error (eq $e)))
                (import "run" (func $run (param "input" $input) (result (result $input (error $error)))))
                (export $input2 "input" (type $input)) (export $error2 "error" (type $error))
                (export "run" (func $run) (func (param "input" $input2) (result (result $input2 (error $error2))))))
            (instance $out (instantiate $named
                (with "import-type-input" (type $input)) (with "import-type-error" (type $error))
                (with "run" (func $run))))
            (export "palisade:agent/run@0.1.0" (instance $out)))"#
    )
}

const TRAP: Fate = Fate::Ends(&["TRAPPED"]);
const GOOD: Fate = Fate::Ends(&["SUCCEEDED"]);
/// A list as long as half of the memory that can be addressed is more than a call moves, or beyond the end.
const LONG: Fate = Fate::Ends(&["TRAPPED", "HOSTCALL_BYTES_EXCEEDED"]);

#[tokio::test]
async fn mod_05_results_that_are_none_are_traps() {
    let mut siege = Siege::lay("").await;
    let failed = Fate::Ends(&["ain "]);
    let rows: Vec<(&str, &str, &[u32], &str, Fate)> = vec![
        ("a good one", "256", &[0, 1028, 5, 1028, 5], "", GOOD),
        ("an error", "256", &[1, 1030, 4, 1028, 5], "", failed),
        ("nothing in it", "256", &[0, 0, 0, 0, 0], "", GOOD),
        ("a pointer beyond the end", "65536", &[], "", TRAP),
        ("a pointer that ends beyond the end", "65532", &[], "", TRAP),
        ("a pointer of -1", "-1", &[], "", TRAP),
        ("a pointer of -4", "-4", &[], "", TRAP),
        ("a pointer that is not aligned", "257", &[0, 0, 0, 0, 0], "", TRAP),
        ("neither good nor an error", "256", &[2, 1028, 5, 1028, 5], "", TRAP),
        ("a discriminant of 255", "256", &[255, 1028, 5, 1028, 5], "", TRAP),
        ("a list beyond the end", "256", &[0, 65_530, 100, 1028, 5], "", TRAP),
        ("a list of 2^32 - 1", "256", &[0, 1028, u32::MAX, 1028, 5], "", LONG),
        ("a list of 2^31", "256", &[0, 1028, 1 << 31, 1028, 5], "", LONG),
        ("a list that wraps around", "256", &[0, 4_294_967_000, 1_000, 1028, 5], "", LONG),
        ("a text that is no UTF-8", "256", &[0, 1028, 5, 1024, 5], "", TRAP),
        ("a text beyond the end", "256", &[0, 1028, 5, 65_530, 100], "", TRAP),
        ("a text of 2^32 - 1", "256", &[0, 1028, 5, 1028, u32::MAX], "", LONG),
        ("an empty text beyond the end", "256", &[0, 1028, 5, 65_540, 0], "", Fate::Named),
        ("an empty list beyond the end", "256", &[0, u32::MAX, 0, 1028, 5], "", Fate::Named),
        ("it traps afterwards", "256", &[0, 1028, 5, 1028, 5], "unreachable", Fate::Ends(&["TRAPPED", "SUCCEEDED"])),
        (
            "it loops afterwards",
            "256",
            &[0, 1028, 5, 1028, 5],
            "(loop (br 0))",
            Fate::Ends(&["FUEL_EXHAUSTED", "SUCCEEDED"]),
        ),
        (
            "it grows afterwards",
            "256",
            &[0, 1028, 5, 1028, 5],
            "(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable",
            Fate::Ends(&["MEMORY_EXHAUSTED", "SUCCEEDED"]),
        ),
    ];
    let mut rows: Vec<_> = rows
        .into_iter()
        .map(|(name, at, words, after, fate)| Row::text(name, &step(at, words, "utf8", after), fate))
        .collect();
    // Length in code units; the highest bit of `latin1+utf16` says which of the two it is.
    let texts: [(&str, &str, u32, u32, Fate); 12] = [
        ("UTF-16", "utf16", 1040, 3, Fate::Ends(&["TRAPPED", "SUCCEEDED"])),
        ("UTF-16 that is not aligned", "utf16", 1041, 3, TRAP),
        ("UTF-16 with half of a pair", "utf16", 1040, 1, Fate::Ends(&["TRAPPED", "SUCCEEDED"])),
        ("UTF-16 beyond the end", "utf16", 65_530, 4, TRAP),
        ("UTF-16 of 2^31", "utf16", 1028, 1 << 31, LONG),
        ("UTF-16 of 2^32 - 1", "utf16", 1028, u32::MAX, LONG),
        ("Latin-1", "latin1+utf16", 1028, 5, GOOD),
        ("Latin-1 beyond the end", "latin1+utf16", 65_530, 9, TRAP),
        ("Latin-1 that is UTF-16", "latin1+utf16", 1028, (1 << 31) | 2, Fate::Ends(&["TRAPPED", "SUCCEEDED"])),
        ("Latin-1 that is UTF-16 and not aligned", "latin1+utf16", 1029, (1 << 31) | 2, TRAP),
        ("Latin-1 that is UTF-16 beyond the end", "latin1+utf16", 65_530, (1 << 31) | 9, TRAP),
        ("Latin-1 that is UTF-16 of 2^31 - 1", "latin1+utf16", 1028, u32::MAX, LONG),
    ];
    for (name, encoding, at, length, fate) in texts {
        rows.push(Row::text(name, &step("256", &[0, 1028, 4, at, length], encoding, ""), fate));
    }
    hold(&mut siege, rows).await;
    siege.lift(MEMORY_AT_ONCE).await;
}

/// A component that says `progress` with a text, in an encoding.
fn saying(encoding: &str, at: u32, length: u32) -> String {
    format!(
        r#"(component
            (import "palisade:agent/events@0.1.0" (instance $events
                (export "progress" (func (param "fraction" f64) (param "message" string)))))
            (core module $memory (memory (export "memory") 1) (data (i32.const 1024) "\ff\fe\fd\fcplain text \00\d8\00\d8\00\dc"))
            (core instance $memory (instantiate $memory))
            (core func $progress (canon lower (func $events "progress")
                (memory $memory "memory") string-encoding={encoding}))
            (core module $main
                (import "host" "progress" (func $progress (param f64 i32 i32)))
                (func (export "run") (result i32)
                    (call $progress (f64.const nan) (i32.const {}) (i32.const {})) i32.const 0))
            (core instance $main (instantiate $main (with "host" (instance (export "progress" (func $progress))))))
            (func $run (result (result)) (canon lift (core func $main "run")))
            (instance $out (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $out)))"#,
        at as i32, length as i32
    )
}

#[tokio::test]
async fn mod_05_texts_for_the_host_that_are_none_are_traps() {
    let mut siege = Siege::lay("").await;
    let mut rows = Vec::new();
    for encoding in ["utf8", "utf16", "latin1+utf16"] {
        let places = [
            ("plain", 1028, 5, Fate::Ends(&["SUCCEEDED", "TRAPPED"])),
            ("empty", 0, 0, GOOD),
            ("empty beyond the end", 65_538, 0, Fate::Named),
            ("beyond the end", 65_534, 8, TRAP),
            ("far beyond the end", u32::MAX - 1, 8, TRAP),
            ("of 2^31 - 1", 1028, (1 << 31) - 1, LONG),
            ("of 2^31", 1028, 1 << 31, Fate::Ends(&["TRAPPED", "HOSTCALL_BYTES_EXCEEDED", "SUCCEEDED"])),
            ("of 2^32 - 1", 1028, u32::MAX, LONG),
        ];
        for (name, at, length, fate) in places {
            rows.push(Row::text(format!("{encoding} {name}"), &saying(encoding, at, length), fate));
        }
    }
    hold(&mut siege, rows).await;
    siege.lift(MEMORY_AT_ONCE).await;
}
