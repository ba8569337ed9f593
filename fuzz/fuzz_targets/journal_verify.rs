//! No bytes stop the verifier, and none pass it with a record or a payload that the journal did not have, or without one
//! that the held checkpoint commits to. The input is taken for an export, and for changes of a good one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade::journal::verify;

/// An export of a small journal, its public key, and a checkpoint of its first records. Its secret key is gone.
const EXPORT: &[u8] = include_bytes!("../seeds/journal_verify/export");
const KEY: &str = include_str!("../journal/key");
const HELD: &str = include_str!("../journal/held");
const HELD_RECORDS: u64 = 4;

fuzz_target!(|data: &[u8]| {
    judge(data);
    judge(&changed(data));
});

fn judge(export: &[u8]) {
    let key = KEY.parse().expect("it is a key");
    for held in [None, Some(HELD)] {
        let Ok(verified) = verify(export, &key, held) else { continue };
        assert_eq!(verified.anchored, held.is_some());
        assert!(held.is_none() || verified.to >= HELD_RECORDS);
        let lines: Vec<&[u8]> = export.split(|byte| *byte == b'\n').collect();
        // The header may say less, and others may sign the checkpoint. The last part is what follows the last newline.
        for line in &lines[1..lines.len() - 2] {
            let known = EXPORT.split(|byte| *byte == b'\n').any(|known| known == *line);
            assert!(known || line.starts_with(b"{\"absent\":true,"), "{}", String::from_utf8_lossy(line));
        }
    }
}

/// Returns the good export with a change for each five bytes: what, in which line, at which byte, and with what.
fn changed(data: &[u8]) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = EXPORT.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    for [what, line, high, low, value] in data.as_chunks().0.iter().copied().take(8) {
        let (at, other) = (usize::from(line) % lines.len(), usize::from(value) % lines.len());
        let length = lines[at].len();
        let byte = usize::from(u16::from_be_bytes([high, low])) % length.max(1);
        match what % 8 {
            0 if length > 0 => lines[at][byte] ^= value,
            1 => lines[at].insert(byte, value),
            2 if length > 0 => drop(lines[at].remove(byte)),
            3 => lines[at].truncate(byte),
            4 if lines.len() > 1 => drop(lines.remove(at)),
            5 => lines.insert(other, lines[at].clone()),
            6 => lines.swap(at, other),
            _ => lines.truncate(at + 1),
        }
    }
    lines.concat()
}
