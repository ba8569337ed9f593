//! Attends a guest while it runs: its host calls go through the gate, and it is stopped when it has to.

use std::{sync::Arc, time::Duration};

use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio_util::sync::CancellationToken;

use super::{
    execution::Execution,
    gate,
    living::{self, Guest},
};
use crate::{
    step::{FIXED, Outcome, Usage},
    worker::{Handle, Next, Running},
};

/// How long a worker may take to end a guest that is stopped. Then it is killed, with all its steps.
const STOP_BOUND: Duration = Duration::from_millis(500);

/// How an execution ended.
pub struct Ended {
    pub outcome: Outcome,
    pub usage: Usage,
    /// It was lost with its worker, whatever its outcome says: nobody knows what it used or did.
    pub lost: bool,
}

/// Attends `execution` to its end. Calls that are under way then are given up.
pub async fn conduct(execution: &Execution, running: &mut Running, abandoned: &CancellationToken) -> Ended {
    let guest = execution.guest();
    let handle = running.handle().clone();
    let mut under_way = FuturesUnordered::new();
    let (mut told_to_stop, mut held) = (false, false);
    let stopping = execution.lifecycle.stopping();
    loop {
        let listening = (under_way.len() as u64) < FIXED.calls_under_way && guest.stop.by().is_none();
        tokio::select! {
            biased;
            _ = guest.stop.told(), if !held => {
                // Its calls are cut off at once, whatever the worker does about it.
                (held, told_to_stop) = (true, true);
                under_way.clear();
                handle.kill_within(STOP_BOUND);
            }
            Some(()) = under_way.next(), if !under_way.is_empty() => {}
            next = running.next(listening) => match next {
                Next::Call(call, asked, bodies) => under_way.push({
                    let handle = handle.clone();
                    async move {
                        let (at_ms, answer) = gate::pass(execution, handle.step(), asked, bodies).await;
                        handle.answer(call, at_ms, answer).await;
                    }
                }),
                // What a guest that was stopped says last is not asked for.
                Next::Ended(said, usage) => {
                    let lost = is_lost(&said);
                    let held = guest.stop.finish().map(|hold| Outcome::Cancelled(living::failure(&hold)));
                    return Ended { outcome: held.unwrap_or(said), usage, lost };
                }
            },
            () = abandoned.cancelled(), if !told_to_stop => {
                told_to_stop = true;
                handle.cancel();
            }
            () = stopping.cancelled(), if !told_to_stop => {
                told_to_stop = true;
                handle.cancel();
            }
        }
    }
}

/// Attends a tool, and passes on what it says. A caller who does not read holds the tool up, but not its end: what then
/// finds no room is lost.
pub async fn conduct_tool(execution: &Execution, running: &mut Running, tool: &str) -> Ended {
    let Some(mut events) = running.take_events() else {
        return conduct(execution, running, &CancellationToken::new()).await;
    };
    let said = &execution.step.said;
    let ended = {
        let forward = async {
            while let Some(event) = events.next().await {
                let _ = said.send((tool.to_owned(), event)).await; // nobody listens any more: the tool goes on
            }
            std::future::pending().await
        };
        let never = CancellationToken::new();
        tokio::select! {
            ended = conduct(execution, running, &never) => ended,
            never = forward => never,
        }
    };
    while let Some(event) = events.try_next() {
        let _ = said.try_send((tool.to_owned(), event));
    }
    ended
}

/// Returns whether an execution was lost with its worker.
fn is_lost(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::WorkerLost(failure) if ["WORKER_LOST", "WORKER_HUNG"].contains(&failure.code.as_str()))
}

/// Sees to it that a guest ends soon that nobody attends any more, because of a hold.
pub struct Cut {
    guest: Arc<Guest>,
    handle: Handle,
}

impl Cut {
    /// Returns what is to be dropped before its [`Running`] is.
    pub fn new(guest: &Arc<Guest>, handle: &Handle) -> Self {
        Self { guest: guest.clone(), handle: handle.clone() }
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        if self.guest.cut_by().is_some() {
            self.handle.kill_within(STOP_BOUND);
        }
    }
}
