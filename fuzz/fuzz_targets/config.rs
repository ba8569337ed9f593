//! A configuration is refused, or every limit in it is within its bounds, and it is read from the journal as the same.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use palisade::config::{Config, check, parse};

fuzz_target!(|data: &[u8]| -> Corpus {
    let Ok(text) = str::from_utf8(data) else { return Corpus::Reject };
    let Ok(config) = parse(text) else { return Corpus::Keep };
    for row in config.limits.rows().into_iter().chain(config.budgets.rows()) {
        let bounded = 0 < row.default && row.default <= row.max && row.max <= row.ceiling;
        assert!(bounded, "{}: {} to {}, above {}", row.name, row.default, row.max, row.ceiling);
    }
    let recorded = serde_json::to_vec(&config).expect("it can be recorded");
    let mut again: Config = serde_json::from_slice(&recorded).expect("what was recorded is read");
    check(&mut again).expect("what was accepted is accepted again");
    assert_eq!(again, config);
    Corpus::Keep
});
