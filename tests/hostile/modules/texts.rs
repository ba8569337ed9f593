//! Two components in one, whose texts have different encodings: the engine's own code copies between their memories.

use super::{super::siege::Siege, Fate, MEMORY_AT_ONCE, Row, hold};

/// An outer component that hands a text to an inner one, each with its encoding. The inner one's allocator gives `to`.
fn composed(from: &str, into: &str, at: u32, length: u32, to: &str) -> String {
    format!(
        r#"(component
            (component $inner
                (core module $m
                    (memory (export "memory") 1)
                    (func (export "realloc") (param i32 i32 i32 i32) (result i32) {to})
                    (func (export "take") (param i32 i32)))
                (core instance $m (instantiate $m))
                (func (export "take") (param "text" string) (canon lift (core func $m "take")
                    (memory $m "memory") (realloc (func $m "realloc")) string-encoding={into})))
            (instance $inner (instantiate $inner))
            (core module $memory (memory (export "memory") 1)
                (data (i32.const 1024) "plain \c3\a4 \e2\82\ac \f0\9f\98\80 \ff\fe\00\d8\00\d8\00\dc\00\dc"))
            (core instance $memory (instantiate $memory))
            (core func $take (canon lower (func $inner "take") (memory $memory "memory") string-encoding={from}))
            (core module $main
                (import "inner" "take" (func $take (param i32 i32)))
                (func (export "run") (result i32) (call $take (i32.const {}) (i32.const {})) i32.const 0))
            (core instance $main (instantiate $main (with "inner" (instance (export "take" (func $take))))))
            (func $run (result (result)) (canon lift (core func $main "run")))
            (instance $out (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $out)))"#,
        at as i32, length as i32
    )
}

#[tokio::test]
async fn mod_05_texts_between_components_stay_in_their_memories() {
    let mut siege = Siege::lay("").await;
    const EITHER: Fate = Fate::Ends(&["SUCCEEDED", "TRAPPED"]);
    const TRAP: Fate = Fate::Ends(&["TRAPPED"]);
    let encodings = ["utf8", "utf16", "latin1+utf16"];
    let mut rows = Vec::new();
    for from in encodings {
        for into in encodings {
            let places = [
                ("plain", 1024, 6, "i32.const 4096", EITHER),
                ("mixed", 1024, 18, "i32.const 4096", EITHER),
                ("broken", 1040, 8, "i32.const 4096", EITHER),
                ("not aligned", 1025, 7, "i32.const 4097", EITHER),
                ("beyond the end", 65_532, 8, "i32.const 4096", TRAP),
                ("to the end", 1024, 6, "i32.const 65535", TRAP),
                ("to beyond the end", 1024, 6, "i32.const -2", TRAP),
                ("of 2^31", 1024, 1 << 31, "i32.const 4096", EITHER),
                ("of 2^32 - 1", 1024, u32::MAX, "i32.const 4096", TRAP),
                (
                    "that grows",
                    1024,
                    18,
                    "(if (i32.ge_u (local.get 3) (i32.const 20)) (then (return (i32.const 65530)))) (i32.const 4096)",
                    EITHER,
                ),
            ];
            for (name, at, length, to, fate) in places {
                rows.push(Row::text(format!("{from} to {into}, {name}"), &composed(from, into, at, length, to), fate));
            }
        }
    }
    hold(&mut siege, rows).await;
    siege.lift(MEMORY_AT_ONCE).await;
}
