//! What a step's store says of its limits, asked as it is made for a step. What no getter tells (the stack, directory
//! streams, random bytes, header fields) is hit by guests in `tests/suite/limits.rs` and its neighbours.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use tokio::{net::UnixStream, sync::Semaphore};
use wasmtime::ResourceLimiter as _;

use super::{Ways, limiter::Limiter, run::store, worker_engine};
use crate::{
    host::{Gate, Outlet, Trees},
    step::{Digest, FIXED, Origin, StepLimits, StepSpec, Task},
    wire::{EVENT_WINDOW, Outbox},
};

const LIMITS: StepLimits = StepLimits {
    fuel: 123_456_789,
    memory_bytes: 7 << 16,
    timeout_ms: 1_000,
    output_bytes: 10,
    stdio_bytes: 20,
    events: 30,
};

#[tokio::test]
async fn a_steps_store_holds_the_limits_that_are_documented() {
    let frames = Outbox::new(UnixStream::pair().unwrap().0.into_split().1);
    let ways = Ways {
        outlet: Outlet::new(1, frames.clone(), Arc::new(Semaphore::new(EVENT_WINDOW))),
        gate: Gate::new(1, frames),
        trees: Trees::of(&[], None),
    };
    let mut spec = StepSpec {
        component: Digest::of(b"none"),
        task: Task::Describe,
        args: Vec::new(),
        env: Vec::new(),
        mounts: Vec::new(),
        limits: LIMITS,
        origin: Origin { seed: [0; 32], start_ms: 0 },
    };
    let engine = worker_engine(1, 1 << 20).unwrap();
    let mut store = store(&engine, &mut spec, ways).unwrap();
    assert_eq!(store.get_fuel().unwrap(), LIMITS.fuel);
    assert_eq!(store.hostcall_fuel() as u64, FIXED.hostcall_bytes);
    assert_eq!(store.max_component_handles() as u64, FIXED.handles);
    assert_eq!(store.data_mut().table().max_capacity() as u64, FIXED.resources);
    let limiter = &mut store.data_mut().limiter;
    assert_eq!(limiter.instances() as u64, u64::from(FIXED.core_instances));
    assert_eq!(limiter.memories() as u64, u64::from(FIXED.memories));
    assert_eq!(limiter.tables() as u64, u64::from(FIXED.tables));
    let elements = FIXED.table_elements as usize;
    assert!(!limiter.table_growing(0, elements + 1, None).unwrap());
    // Elements are memory too.
    let mut roomy = Limiter::new(FIXED.table_elements * 8);
    assert!(roomy.table_growing(0, elements, None).unwrap() && !roomy.table_growing(0, 1, None).unwrap());
    // All memories together, to the page.
    assert!(limiter.memory_growing(0, 4 << 16, None).unwrap() && limiter.memory_growing(0, 3 << 16, None).unwrap());
    assert!(!limiter.memory_growing(3 << 16, 4 << 16, None).unwrap());
    assert_eq!(limiter.memory_peak_bytes(), LIMITS.memory_bytes);
}
