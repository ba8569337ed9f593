#![allow(clippy::unwrap_used)]

use futures::stream;
use http_body_util::StreamBody;
use tokio::net::UnixStream;

use super::*;
use crate::wire::Outbox;

/// Returns what becomes of a body that ends with one trailer of so many values.
async fn last(values: usize) -> Piece {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let gate = Gate::new(1, Outbox::new(ours.into_split().1));
    let upload = Upload { gate, call: 1, room: Arc::new(Semaphore::new(BODY_WINDOW_BYTES as usize)) };
    let mut trailers = HeaderMap::new();
    for _ in 0..values {
        trailers.append(HeaderName::try_from("x".repeat(1_000)).unwrap(), HeaderValue::from_static("1"));
    }
    let mut body = StreamBody::new(stream::iter([Ok(Frame::trailers(trailers))])).boxed_unsync();
    upload.pieces(&mut body).await.unwrap()
}

#[tokio::test]
async fn trailers_that_the_daemon_would_not_take_break_the_body_and_not_the_worker() {
    assert!(matches!(last(128).await, Piece::End { trailers } if trailers.len() == 128));
    assert!(matches!(last(129).await, Piece::Broken(_)));
}
