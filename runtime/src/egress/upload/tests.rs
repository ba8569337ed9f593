use http_body_util::{BodyExt, StreamBody};
use proptest::{collection::vec, prelude::*};

use super::*;

fn body(frames: &[usize]) -> RequestBody {
    let frames: Vec<_> = frames.iter().map(|size| Ok(Frame::data(Bytes::from(vec![7; *size])))).collect();
    StreamBody::new(futures::stream::iter(frames)).boxed_unsync()
}

/// Reads as a connection does, and returns the sizes of the pieces, up to the end or an error.
fn read(mut sending: Sending) -> (Vec<usize>, bool) {
    let mut cx = Context::from_waker(Waker::noop());
    let mut pieces = Vec::new();
    while !sending.is_end_stream() {
        match Pin::new(&mut sending).poll_frame(&mut cx) {
            Poll::Ready(Some(Ok(frame))) => pieces.push(frame.into_data().unwrap().len()),
            Poll::Ready(Some(Err(_))) => return (pieces, false),
            Poll::Ready(None) => break,
            // After an empty frame.
            Poll::Pending => {}
        }
    }
    (pieces, true)
}

proptest! {
    #[test]
    fn a_body_is_whole_within_its_limits_and_broken_otherwise(
        frames in vec(0_usize..200_000, 0..6),
        declared in prop::option::of(-1_i64..2),
        spare in -1_i64..2,
    ) {
        let sum = frames.iter().sum::<usize>() as i64;
        let length = declared.map(|off| (sum + off).max(0) as u64);
        let max = (sum + spare).max(0) as u64;
        let upload = Upload::new(body(&frames), length, max);
        let (pieces, whole) = read(upload.begin(true).unwrap());
        let fits = sum as u64 <= max && length.is_none_or(|length| length == sum as u64);
        prop_assert_eq!((whole, upload.complete(), upload.broken().is_none()), (fits, fits, fits));
        prop_assert!(pieces.iter().all(|piece| (1..=PIECE_BYTES).contains(piece)));
        if fits {
            prop_assert_eq!(pieces.iter().sum::<usize>() as i64, sum);
        }
    }
}

#[test]
fn only_the_last_reader_reads_and_only_before_anything_was_read() {
    let upload = Upload::new(body(&[5]), None, 9);
    let first = upload.begin(false).unwrap();
    let second = upload.begin(false).unwrap();
    assert_eq!(read(first), (vec![], false));
    assert!(upload.broken().is_none() && upload.untouched());
    assert_eq!(read(second), (vec![5], true));
    assert!(upload.begin(false).is_none());
}

#[test]
fn a_reader_that_waits_wakes_when_the_body_is_given_up() {
    struct Flag(Arc<Mutex<bool>>);
    impl std::task::Wake for Flag {
        fn wake(self: Arc<Self>) {
            *self.0.lock().unwrap() = true;
        }
    }
    let woken = Arc::new(Mutex::new(false));
    let waker: Waker = Arc::new(Flag(woken.clone())).into();
    let pending = StreamBody::new(futures::stream::pending()).boxed_unsync();
    let upload = Upload::new(pending, None, 9);
    let mut sending = upload.begin(false).unwrap();
    assert!(Pin::new(&mut sending).poll_frame(&mut Context::from_waker(&waker)).is_pending());
    drop(upload);
    assert!(*woken.lock().unwrap());
    assert_eq!(read(sending), (vec![], false));
}
