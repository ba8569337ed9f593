//! Bytes from another process are refused or read; what is read is written in no more bytes, and is then read as the
//! same. The first byte says which of the two ends reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade::wire::{FromCompiler, FromWorker, ToCompiler, ToWorker, encode, read_blocking};
use serde::{Serialize, de::DeserializeOwned};

fuzz_target!(|data: &[u8]| {
    let Some((end, stream)) = data.split_first() else { return };
    match end % 4 {
        0 => read::<ToWorker>(stream),
        1 => read::<FromWorker>(stream),
        2 => read::<ToCompiler>(stream),
        _ => read::<FromCompiler>(stream),
    }
});

fn read<T: Serialize + DeserializeOwned>(stream: &[u8]) {
    read_all::<T>(stream);
    // As one frame, whose length is always right.
    let mut frame = (stream.len() as u32).to_le_bytes().to_vec();
    frame.extend_from_slice(stream);
    read_all::<T>(&frame);
}

fn read_all<T: Serialize + DeserializeOwned>(mut stream: &[u8]) {
    let mut before = stream.len();
    while let Ok(message) = read_blocking::<T>(&mut stream) {
        let frame = encode(&message).expect("what was read can be written");
        assert!(frame.len() <= before - stream.len(), "it grew");
        before = stream.len();
        let mut rest = frame.as_slice();
        let again: T = read_blocking(&mut rest).expect("what was written can be read");
        assert!(rest.is_empty());
        assert_eq!(encode(&again).expect("it can be written again"), frame);
    }
}
