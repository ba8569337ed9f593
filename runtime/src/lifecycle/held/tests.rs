use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

use super::*;

/// Goes on with a wait as far as it goes now.
async fn waits(mut turn: Pin<&mut impl Future>) -> bool {
    poll_fn(|context| Poll::Ready(turn.as_mut().poll(context).is_pending())).await
}

#[tokio::test]
async fn calls_take_turns_and_who_gives_up_takes_none() {
    let pace = Pace::default();
    let turn = || Box::pin(pace.turn("holds/1".into(), 600));
    let started = Instant::now();
    turn().await;
    let (mut first, mut second, mut third) = (turn(), turn(), turn());
    assert!(waits(first.as_mut()).await && waits(second.as_mut()).await && waits(third.as_mut()).await);
    drop(first);
    second.await;
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(95), "{took:?}: ten a second");
    assert!(took < Duration::from_millis(195), "{took:?}: whoever gave up was not waited for");
    assert!(waits(third.as_mut()).await);
    third.await;
    assert!(started.elapsed() >= Duration::from_millis(190));
    pace.turn("holds/2".into(), 1).await; // a line of its own
}
