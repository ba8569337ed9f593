//! What happens at each return from the host: the step's clock learns what time it is, and the thread goes to whoever
//! waits for it. Host calls burn no fuel, so a guest that only calls would never come to a yield of its own.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use wasmtime::{CallHook, CallHookHandler, StoreContextMut};

use super::state::StepState;

/// How long a guest may keep its thread with host calls: about as long as `FIXED.yield_fuel` takes.
const STINT: Duration = Duration::from_micros(500);

/// Stands at the way back from the host of one step.
pub struct Turn(Mutex<Instant>);

impl Turn {
    /// Returns the turn of a step that begins now.
    pub fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// Returns whether the guest had its thread for long enough, and begins the next stint if so.
    fn is_over(&self) -> bool {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let over = now.duration_since(*since) > STINT;
        if over {
            *since = now;
        }
        over
    }
}

#[async_trait::async_trait]
impl CallHookHandler<StepState> for Turn {
    async fn handle_call_event(
        &self,
        mut store: StoreContextMut<'_, StepState>,
        event: CallHook,
    ) -> wasmtime::Result<()> {
        if !matches!(event, CallHook::ReturningFromHost) {
            return Ok(());
        }
        let fuel_left = store.get_fuel()?;
        store.data_mut().notice_answers(fuel_left);
        if self.is_over() {
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}
