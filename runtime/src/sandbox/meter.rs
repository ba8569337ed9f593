//! Runs a step's future under its deadline and its cancellation, and measures its processor time.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// Why a step's future was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    Deadline,
    Cancelled,
}

/// Runs `step` until it ends, `timeout` is over or `cancel` is cancelled. Returns how it ended, and its processor time.
///
/// A guest that computes yields every `FIXED.yield_fuel`; each yield is a poll of this future, and so a look at the
/// clock. One that waits in a host call is woken by the timer.
pub async fn metered<T>(
    step: impl Future<Output = T>,
    timeout: Duration,
    cancel: &CancellationToken,
) -> (Result<T, Stopped>, Duration) {
    let deadline = Instant::now() + timeout;
    let (step, timer, cancelled) = (pin!(step), pin!(sleep_until(deadline)), pin!(cancel.cancelled()));
    Metered { step, deadline, timer, cancelled, cpu_time: Duration::ZERO }.await
}

struct Metered<'a, 'c, F> {
    step: Pin<&'a mut F>,
    deadline: Instant,
    timer: Pin<&'a mut Sleep>,
    cancelled: Pin<&'a mut WaitForCancellationFuture<'c>>,
    cpu_time: Duration,
}

impl<T, F: Future<Output = T>> Future for Metered<'_, '_, F> {
    type Output = (Result<T, Stopped>, Duration);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.cancelled.as_mut().poll(context).is_ready() {
            return Poll::Ready((Err(Stopped::Cancelled), this.cpu_time));
        }
        if Instant::now() >= this.deadline {
            return Poll::Ready((Err(Stopped::Deadline), this.cpu_time));
        }
        let before = thread_time();
        let polled = this.step.as_mut().poll(context);
        this.cpu_time += thread_time().saturating_sub(before);
        if let Poll::Ready(ended) = polled {
            return Poll::Ready((Ok(ended), this.cpu_time));
        }
        // Registers the wake-up; that the time has come is seen at the next poll.
        if this.timer.as_mut().poll(context).is_ready() {
            return Poll::Ready((Err(Stopped::Deadline), this.cpu_time));
        }
        Poll::Pending
    }
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
