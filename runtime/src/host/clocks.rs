//! `clocks`: a step's own time. It begins when the step is said to begin and goes on by a nanosecond for each unit of
//! fuel that the guest burns. It jumps where time passes for the guest as well: to the end of a sleep, and to the moment
//! at which the daemon answered a host call. How fast the machine is and what else runs on it, a guest cannot see.

use std::collections::HashMap;

use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource},
};
use wasmtime_wasi::p2::{DynPollable, Pollable, bindings::clocks::wall_clock::Datetime, subscribe};

use crate::sandbox::StepState;

/// What the clocks say of themselves: answers come by whole milliseconds.
const RESOLUTION_NS: u64 = 1_000_000;

/// The time of one step.
pub struct Clock {
    /// Milliseconds since 1970.
    start_ms: u64,
    /// The step's limit: what is not left of it was burnt.
    fuel: u64,
    /// Nanoseconds that passed and burnt nothing.
    idle_ns: u64,
    /// When each timer is over, by its pollable.
    timers: HashMap<u32, u64>,
}

impl Clock {
    /// Returns the clock of a step that has so much fuel.
    pub fn new(start_ms: u64, fuel: u64) -> Self {
        Self { start_ms, fuel, idle_ns: 0, timers: HashMap::new() }
    }

    /// Returns the nanoseconds since the step's start. They never go back.
    pub fn now(&self, fuel_left: u64) -> u64 {
        self.idle_ns.saturating_add(self.fuel.saturating_sub(fuel_left))
    }

    /// Goes on to `time`, unless it is later already.
    pub fn reach(&mut self, time: u64, fuel_left: u64) {
        self.idle_ns = self.idle_ns.saturating_add(time.saturating_sub(self.now(fuel_left)));
    }

    /// Goes on to so many milliseconds after the start.
    pub fn reach_ms(&mut self, ms: u64, fuel_left: u64) {
        self.reach(ms.saturating_mul(1_000_000), fuel_left);
    }

    /// Returns when a timer is over, if the pollable is one.
    pub fn deadline(&self, pollable: u32) -> Option<u64> {
        self.timers.get(&pollable).copied()
    }

    /// Forgets a pollable.
    pub fn forget(&mut self, pollable: u32) {
        self.timers.remove(&pollable);
    }

    /// Returns the time of day when the step began. To a guest, every file is of that moment.
    pub fn start(&self) -> Datetime {
        self.time_of_day(0)
    }

    fn time_of_day(&self, now: u64) -> Datetime {
        let ns = u128::from(self.start_ms) * 1_000_000 + u128::from(now);
        Datetime { seconds: (ns / 1_000_000_000) as u64, nanoseconds: (ns % 1_000_000_000) as u32 }
    }
}

/// Links both clocks. By hand, because the fuel that is left is the store's to know.
pub fn link(linker: &mut Linker<StepState>) -> wasmtime::Result<()> {
    type Store<'a> = StoreContextMut<'a, StepState>;
    let mut wall = linker.instance("wasi:clocks/wall-clock@0.2.12")?;
    wall.func_wrap("now", |store: Store<'_>, (): ()| Ok((store.data().clock.time_of_day(now(&store)?),)))?;
    wall.func_wrap("resolution", |_: Store<'_>, (): ()| {
        Ok((Datetime { seconds: 0, nanoseconds: RESOLUTION_NS as u32 },))
    })?;
    let mut monotonic = linker.instance("wasi:clocks/monotonic-clock@0.2.12")?;
    monotonic.func_wrap("now", |store: Store<'_>, (): ()| Ok((now(&store)?,)))?;
    monotonic.func_wrap("resolution", |_: Store<'_>, (): ()| Ok((RESOLUTION_NS,)))?;
    monotonic
        .func_wrap("subscribe-instant", |mut store: Store<'_>, (when,): (u64,)| Ok((timer(&mut store, when)?,)))?;
    monotonic.func_wrap("subscribe-duration", |mut store: Store<'_>, (wait,): (u64,)| {
        let when = now(&store)?.saturating_add(wait);
        Ok((timer(&mut store, when)?,))
    })
}

fn now(store: &StoreContextMut<'_, StepState>) -> wasmtime::Result<u64> {
    Ok(store.data().clock.now(store.get_fuel()?))
}

fn timer(store: &mut StoreContextMut<'_, StepState>, deadline: u64) -> wasmtime::Result<Resource<DynPollable>> {
    let state = store.data_mut();
    let timer = state.table().push(Timer)?;
    let pollable = subscribe(state.table(), timer)?;
    state.clock.timers.insert(pollable.rep(), deadline);
    Ok(pollable)
}

/// Holds a timer's place in the table. When it is over, `poll` knows from the clock.
struct Timer;

#[async_trait::async_trait]
impl Pollable for Timer {
    async fn ready(&mut self) {
        std::future::pending().await
    }
}
