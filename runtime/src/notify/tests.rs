use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use sd_notify::NotifyState;
use tempfile::tempdir;

use super::{beat, ill};
use crate::journal::{Journal, Options};

const EVERY: Duration = Duration::from_millis(20);

static BEATS: AtomicUsize = AtomicUsize::new(0);

fn count(states: &[NotifyState]) {
    BEATS.fetch_add(usize::from(matches!(states, [NotifyState::Watchdog])), Ordering::SeqCst);
}

/// One thread, so that whoever blocks it blocks all of the event loop.
#[tokio::test(flavor = "current_thread")]
async fn a_blocked_event_loop_is_not_said_to_be_well() {
    let dir = tempdir().unwrap();
    let journal = Arc::new(Journal::open(dir.path(), Options::default()).unwrap().0);
    let beating = tokio::spawn(beat(EVERY, journal, count));
    while BEATS.load(Ordering::SeqCst) < 3 {
        tokio::task::yield_now().await;
    }
    // What was handed to another thread before may still be said.
    let (said, blocked) = (BEATS.load(Ordering::SeqCst), Instant::now());
    while blocked.elapsed() < 10 * EVERY {
        std::hint::spin_loop();
    }
    assert!(BEATS.load(Ordering::SeqCst) <= said + 1);
    while BEATS.load(Ordering::SeqCst) < said + 3 {
        tokio::task::yield_now().await;
    }
    beating.abort();
}

#[test]
fn a_journal_whose_records_do_not_reach_the_disk_is_ill() {
    let dir = tempdir().unwrap();
    let journal = Journal::open(dir.path(), Options::default()).unwrap().0;
    assert_eq!(ill(&journal, None, None), None, "nothing waits");
    assert_eq!(ill(&journal, None, Some(7)), None, "it waits since a moment ago");
    assert_eq!(ill(&journal, Some(7), Some(8)), None, "it moves");
    assert_eq!(ill(&journal, Some(7), None), None, "it is done");
    assert!(ill(&journal, Some(7), Some(7)).is_some_and(|why| why.contains("disk")));
}
