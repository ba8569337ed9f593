#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::{frame::decode, *};
use crate::step::{Call, Event, Failure, HttpRequest, Level, Outcome, Patience, Piece, Usage};

fn done() -> FromWorker {
    let outcome = Outcome::Failed(Failure::new("CODE", "message"));
    FromWorker::Done { step: 7, outcome, usage: Usage { fuel: u64::MAX, disk_bytes: i64::MIN, ..Usage::default() } }
}

#[test]
fn a_message_survives_the_wire() {
    let frame = encode(&done()).unwrap();
    let read: FromWorker = read_blocking(&mut frame.as_slice()).unwrap();
    assert_eq!(format!("{read:?}"), format!("{:?}", done()));
}

#[test]
fn an_oversized_length_is_refused_before_anything_is_read() {
    let mut frame = ((FRAME_BYTES_MAX + 1) as u32).to_le_bytes().to_vec();
    frame.extend([0; 16]);
    assert!(matches!(read_blocking::<FromWorker>(&mut frame.as_slice()), Err(WireError::TooLong(_))));
    let huge = FromCompiler::Chunk(vec![0; FRAME_BYTES_MAX + 1]);
    assert!(matches!(encode(&huge), Err(WireError::TooLong(_))));
}

#[test]
fn bytes_after_the_value_are_refused() {
    let mut frame = encode(&FromCompiler::Done).unwrap();
    frame.push(0);
    assert!(matches!(decode::<FromCompiler>(&frame[4..]), Err(WireError::Trailing(1))));
}

#[test]
fn lists_that_are_longer_than_they_can_be_are_not_read() {
    let headers = |many: usize| vec![(String::new(), Vec::new()); many];
    let request = |many: usize| {
        let request = HttpRequest {
            method: String::new(),
            scheme: String::new(),
            authority: String::new(),
            path_with_query: String::new(),
            headers: headers(many),
            has_body: false,
            patience: Patience::default(),
        };
        FromWorker::Call { step: 1, call: 1, asked: Call::SendRequest(Box::new(request)) }
    };
    let trailers = |many: usize| FromWorker::Body { step: 1, call: 1, piece: Piece::End { trailers: headers(many) } };
    let event = |many: usize| {
        let fields = vec![(String::new(), String::new()); many];
        FromWorker::Event { step: 1, event: Event::Log { level: Level::Info, message: String::new(), fields } }
    };
    let is_read = |message: FromWorker| decode::<FromWorker>(&encode(&message).unwrap()[4..]).is_ok();
    for (most, more) in
        [(request(8_192), request(8_193)), (trailers(8_192), trailers(8_193)), (event(4_096), event(4_097))]
    {
        assert!(is_read(most) && !is_read(more));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = decode::<FromWorker>(&bytes);
        let _ = decode::<FromCompiler>(&bytes);
    }

    #[test]
    fn a_flipped_byte_is_another_message_or_an_error(position in 4usize..20, flip in 1u8..=255) {
        let mut frame = encode(&done()).unwrap();
        let position = position.min(frame.len() - 1);
        frame[position] ^= flip;
        let _ = read_blocking::<FromWorker>(&mut frame.as_slice());
    }
}
