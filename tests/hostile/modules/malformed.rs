//! Bytes that are cut, flipped, repeated, followed by others, or hidden in custom sections.

use std::collections::BTreeSet;

use wasmparser::Parser;

use super::{
    super::{report, siege::Siege},
    COMPONENT, Fate, INVALID, MEMORY_AT_ONCE, MODULE, Random, Row, custom, hold, runnable, section,
};
use crate::harness::guest;

/// Where sections begin and end, also of what is nested.
fn boundaries(bytes: &[u8]) -> Vec<usize> {
    let mut found = BTreeSet::new();
    for payload in Parser::new(0).parse_all(bytes) {
        if let Some((_, range)) = payload.unwrap().as_section() {
            found.extend([range.start, range.end]);
        }
    }
    found.into_iter().filter(|at| *at > 8 && *at < bytes.len()).collect()
}

#[tokio::test]
async fn mod_01_what_is_cut_anywhere_is_refused() {
    let mut siege = Siege::lay("").await;
    let small = wat::parse_str(runnable("(memory 1) (data (i32.const 0) \"data\")", "i32.const 0")).unwrap();
    let mut rows: Vec<_> = (4..small.len())
        .step_by(3)
        .map(|at| Row::new(format!("small at {at}"), small[..at].to_vec(), Fate::Named))
        .collect();
    // One that lacks only custom sections is whole.
    let whole = std::fs::read(guest("command")).unwrap();
    for (n, at) in boundaries(&whole).into_iter().enumerate().filter(|(n, _)| n % 3 == 0) {
        rows.push(Row::new(format!("command at {at}"), whole[..at].to_vec(), Fate::Named));
        if n % 2 == 0 {
            rows.push(Row::new(format!("command at {at} and one"), whole[..at + 1].to_vec(), INVALID));
        }
    }
    hold(&mut siege, rows).await;
    siege.lift(MEMORY_AT_ONCE).await;
}

#[tokio::test]
async fn mod_01_what_has_a_bit_flipped_is_refused_or_ends_by_name() {
    let mut siege = Siege::lay("").await;
    let seed = report::number("PALISADE_HOSTILE_SEED", 4711) | 1;
    let count = report::number("PALISADE_HOSTILE_FLIPS", 60) as usize;
    println!("PALISADE_HOSTILE_SEED={seed} PALISADE_HOSTILE_FLIPS={count}");
    let mut random = Random(seed);
    let whole = std::fs::read(guest("command")).unwrap();
    let small = wat::parse_str(runnable("(memory 1) (data (i32.const 0) \"data\")", "i32.const 0")).unwrap();
    let flipped = (0..count).map(|n| {
        // Of the large one mostly code is hit; of the small one, what holds it together.
        let mut bytes = if n % 3 == 0 { whole.clone() } else { small.clone() };
        let (at, bit) = (random.below(bytes.len()), random.below(8));
        bytes[at] ^= 1 << bit;
        Row::new(format!("bit {bit} of byte {at}, {n}"), bytes, Fate::Named)
    });
    hold(&mut siege, flipped.collect::<Vec<_>>()).await;
    siege.lift(MEMORY_AT_ONCE).await;
}

#[tokio::test]
async fn mod_01_sizes_and_custom_sections_are_bounded() {
    let mut siege = Siege::lay("[limits]\ncomponent_bytes = 8000000\n").await;
    let small = wat::parse_str(runnable("", "i32.const 0")).unwrap();
    let after = |bytes: &[u8]| [&small[..], bytes].concat();
    let many = custom("x", b"y").repeat(100_000);
    const TAKEN: Fate = Fate::Ends(&["SUCCEEDED"]);
    let nothing = Fate::Refused(&["EXPORT_MISSING"]);
    let not_wasm = Fate::Refused(&["NOT_WASM"]);
    let rows = [
        ("nothing", Vec::new(), not_wasm),
        ("a letter", b"\0".to_vec(), not_wasm),
        ("a magic number", b"\0asm".to_vec(), INVALID),
        ("a version of the future", b"\0asm\x02\0\0\0".to_vec(), INVALID),
        ("a layer that is none", b"\0asm\x0d\0\x07\0".to_vec(), INVALID),
        ("an empty module", MODULE.to_vec(), nothing),
        ("an empty component", COMPONENT.to_vec(), nothing),
        ("an ELF file", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec(), not_wasm),
        ("zeroes after it", after(&[0; 1000]), INVALID),
        ("text after it", after(b"trailing garbage"), INVALID),
        ("itself after it", after(&small), INVALID),
        ("a module after it", after(MODULE), INVALID),
        ("a custom section of 4 MiB", after(&custom("x", &vec![7; 4 << 20])), TAKEN),
        ("a custom section whose name is 1 MiB", after(&custom(&"n".repeat(1 << 20), b"")), Fate::Named),
        ("a hundred thousand custom sections", after(&many), TAKEN),
        ("a custom section longer than the file", after(b"\0\xff\xff\xff\xff\x0f\x01x"), INVALID),
        ("a custom section with a name longer than itself", after(b"\0\x02\x7fx"), INVALID),
        ("names of functions that are none", after(&custom("name", &[0xff; 10_000])), Fate::Named),
        ("producers that are none", after(&custom("producers", &[0xff; 10_000])), Fate::Named),
        ("a section that is none", after(&section(0x7e, b"what")), INVALID),
        ("a length of 2^32 - 1", [COMPONENT, b"\x01\xff\xff\xff\xff\x0f"].concat(), INVALID),
        ("a length that is not a number", [COMPONENT, b"\x01\xff\xff\xff\xff\xff\xff\xff"].concat(), INVALID),
        ("a count of 2^32 - 1 types", [COMPONENT, &section(7, b"\xff\xff\xff\xff\x0f")].concat(), Fate::Named),
        ("a count of 2^32 - 1 functions", [MODULE, &section(3, b"\xff\xff\xff\xff\x0f")].concat(), INVALID),
        ("too many bytes", vec![b'x'; 8_000_001], Fate::Refused(&["COMPONENT_TOO_LARGE"])),
        (
            "too many bytes of a component",
            after(&custom("x", &vec![7; 8_000_000])),
            Fate::Refused(&["COMPONENT_TOO_LARGE"]),
        ),
    ];
    hold(&mut siege, rows.map(|(name, bytes, fate)| Row::new(name, bytes, fate))).await;
    siege.lift(MEMORY_AT_ONCE).await;
}
