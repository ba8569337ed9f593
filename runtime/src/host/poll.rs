//! `io`: waiting, by the step's own clock. A guest that waits for a timer waits as long on the wall; but which of several
//! timers comes first, and what the time is then, is decided by their deadlines and not by who was woken first.

use std::{pin::pin, time::Duration};

use futures::future::poll_immediate;
use tokio::time::sleep;
use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource, ResourceTable, ResourceType},
};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi_io::bindings::wasi::io::poll::{Host as _, HostPollable as _};

use crate::sandbox::StepState;

type Store<'a> = StoreContextMut<'a, StepState>;
type Pollable = Resource<DynPollable>;

/// Links `wasi:io/poll`.
pub fn link(linker: &mut Linker<StepState>) -> wasmtime::Result<()> {
    let mut poll = linker.instance("wasi:io/poll@0.2.12")?;
    poll.resource("pollable", ResourceType::host::<DynPollable>(), |mut store: Store<'_>, rep| {
        let state = store.data_mut();
        state.clock.forget(rep);
        state.table().drop(Resource::new_own(rep))
    })?;
    poll.func_wrap_async("[method]pollable.ready", |store: Store<'_>, (one,): (Pollable,)| {
        Box::new(ready(store, one))
    })?;
    poll.func_wrap_async("[method]pollable.block", |store: Store<'_>, (one,): (Pollable,)| {
        Box::new(async move { wait(store, vec![one]).await.map(drop) })
    })?;
    poll.func_wrap_async("poll", |store: Store<'_>, (all,): (Vec<Pollable>,)| {
        Box::new(async move { Ok((wait(store, all).await?,)) })
    })
}

async fn ready(mut store: Store<'_>, one: Pollable) -> wasmtime::Result<(bool,)> {
    let fuel = store.get_fuel()?;
    let state = store.data_mut();
    let ready = match state.clock.deadline(one.rep()) {
        Some(deadline) => deadline <= state.clock.now(fuel),
        None => state.table().ready(one).await?,
    };
    if ready {
        state.notice_responses(fuel);
    }
    Ok((ready,))
}

/// Waits until one of `all` is ready; returns the places of those that are.
async fn wait(mut store: Store<'_>, all: Vec<Pollable>) -> wasmtime::Result<Vec<u32>> {
    let fuel = store.get_fuel()?;
    let state = store.data_mut();
    let now = state.clock.now(fuel);
    let (mut timers, mut others, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for (place, one) in (0..).zip(all) {
        if let Some(deadline) = state.clock.deadline(one.rep()) {
            timers.push((place, deadline));
        } else {
            others.push(one);
            places.push(place);
        }
    }
    let earliest = timers.iter().map(|(_, deadline)| *deadline).min();
    let came = match earliest {
        None => state.table().poll(others).await?,
        Some(deadline) => before(state.table(), others, Duration::from_nanos(deadline.saturating_sub(now))).await?,
    };
    let over = match earliest {
        // Timers after the earliest are not over, however late the machine's own clock woke this.
        Some(deadline) if came.is_empty() => {
            state.clock.reach(deadline, fuel);
            now.max(deadline)
        }
        _ => {
            state.notice_responses(fuel);
            now
        }
    };
    let timers = timers.into_iter().filter(|(_, deadline)| *deadline <= over).map(|(place, _)| place);
    let others = came.into_iter().filter_map(|index| places.get(index as usize).copied());
    let mut ready: Vec<u32> = timers.chain(others).collect();
    ready.sort_unstable();
    Ok(ready)
}

/// Returns which of `others` are ready before `left` is over; none, if none is.
async fn before(table: &mut ResourceTable, others: Vec<Pollable>, left: Duration) -> wasmtime::Result<Vec<u32>> {
    if others.is_empty() {
        if !left.is_zero() {
            sleep(left).await;
        }
        return Ok(Vec::new());
    }
    let ready = pin!(table.poll(others));
    if left.is_zero() {
        return poll_immediate(ready).await.unwrap_or(Ok(Vec::new()));
    }
    tokio::select! {
        biased;
        ready = ready => ready,
        () = sleep(left) => Ok(Vec::new()),
    }
}
