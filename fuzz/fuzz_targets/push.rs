//! Bytes that somebody pushes are refused, or are what they are said to be: a component that imports only what there is,
//! exports what its kind needs, and is seen as the same when it is looked at again. Nothing is compiled here.
#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade::{host::power_of, sandbox::inspect, step::Kind};

fuzz_target!(|data: &[u8]| {
    let Ok((component, seen)) = inspect(data.to_vec()) else { return };
    assert!(seen.imports.iter().all(|import| power_of(import).is_some()), "{:?}", seen.imports);
    let needed = match seen.kind {
        Kind::Step => "palisade:agent/run@",
        Kind::Tool => "palisade:agent/invoke@",
        Kind::Command => "wasi:cli/run@",
    };
    assert!(seen.exports.iter().any(|export| export.starts_with(needed)), "{:?}", seen.exports);
    assert!(seen.adapted || component == data, "what is not adapted is left as it is");

    let (again, seen_again) = inspect(component.clone()).expect("what was accepted is accepted again");
    assert_eq!(again, component);
    assert!(!seen_again.adapted);
    assert_eq!((seen_again.kind, seen_again.imports, seen_again.exports), (seen.kind, seen.imports, seen.exports));
});
