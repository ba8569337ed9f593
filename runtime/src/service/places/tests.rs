#![allow(clippy::unwrap_used)]

use nix::unistd::getuid;
use tokio::net::UnixStream;

use super::*;

/// Lets `count` connections enter, and returns their other ends.
async fn enter(places: &mut Places, count: usize) -> Vec<UnixStream> {
    let mut others = Vec::new();
    for _ in 0..count {
        let (ours, theirs) = UnixStream::pair().unwrap();
        places.enter(Io::Unix(ours)).await;
        others.push(theirs);
    }
    others
}

fn is_closed(other: &UnixStream) -> bool {
    matches!(other.try_read(&mut [0]), Ok(0))
}

#[tokio::test]
async fn operators_have_places_when_callers_hold_all() {
    let (seated, mut connections) = mpsc::channel(100);
    let mut places = Places::new(3, [format!("unix:{}", getuid())].into(), seated);
    let _others = enter(&mut places, 3 + OPERATOR_CONNECTIONS + 1).await;
    assert_eq!(connections.len(), 3 + OPERATOR_CONNECTIONS, "the last one waits like anybody");
    assert!(places.somebody_waits());
    drop(connections.recv().await);
    let place = places.free().await.unwrap();
    places.seat_next(place).await;
    assert!(!places.somebody_waits());
}

#[tokio::test]
async fn who_has_waited_longest_is_seated_next_or_closed_for_one_too_many() {
    let (seated, mut connections) = mpsc::channel(100);
    let mut places = Places::new(1, BTreeSet::new(), seated);
    let others = enter(&mut places, 1 + WAITING_MAX).await;
    assert_eq!(connections.len(), 1);
    assert!(!others.iter().any(is_closed));
    let _last = enter(&mut places, 1).await;
    others[1].readable().await.unwrap();
    assert!(is_closed(&others[1]) && !is_closed(&others[0]) && !others[2..].iter().any(is_closed));
    drop(connections.recv().await);
    let place = places.free().await.unwrap();
    places.seat_next(place).await;
    drop(connections.recv().await);
    others[2].readable().await.unwrap();
    assert!(is_closed(&others[2]), "it had the place");
}
