//! `events`: what a step tells its caller while it runs, within the step's limits.

use std::sync::Arc;

use tokio::sync::{Semaphore, TryAcquireError};
use wasmtime::component::HasData;

use super::bindings::palisade::agent::{events, types};
use crate::{
    step::{Event, FIELD_BYTES, FIXED, Level},
    wire::{FromWorker, Outbox, encode},
};

/// A limit that a host call ran into. It ends the step.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{limit}` of {value} exceeded")]
pub struct Exceeded {
    pub limit: &'static str,
    pub value: u64,
}

/// The way of one step's events to the daemon: as many at once as the caller's window is open for.
#[derive(Clone)]
pub struct Outlet {
    step: u64,
    frames: Outbox,
    window: Arc<Semaphore>,
}

impl Outlet {
    /// Returns the outlet of `step`. Credit from the daemon is added to `window`.
    pub fn new(step: u64, frames: Outbox, window: Arc<Semaphore>) -> Self {
        Self { step, frames, window }
    }

    /// Sends an event as soon as the caller has room for it.
    pub async fn send(&self, event: Event) -> wasmtime::Result<()> {
        let frame = self.frame(event)?;
        self.window.acquire().await.map_err(wasmtime::Error::new)?.forget();
        self.frames.send(&frame).await.map_err(wasmtime::Error::new)
    }

    /// Sends an event, or gives it back if there is no room for it now.
    pub fn try_send(&self, event: Event) -> wasmtime::Result<Option<Event>> {
        let credit = match self.window.try_acquire() {
            Ok(credit) => credit,
            Err(TryAcquireError::NoPermits) => return Ok(Some(event)),
            Err(closed) => return Err(wasmtime::Error::new(closed)),
        };
        let frame =
            encode(&FromWorker::Event { step: self.step, event: event.clone() }).map_err(wasmtime::Error::new)?;
        if !self.frames.try_send(&frame).map_err(wasmtime::Error::new)? {
            return Ok(Some(event));
        }
        credit.forget();
        Ok(None)
    }

    fn frame(&self, event: Event) -> wasmtime::Result<Vec<u8>> {
        encode(&FromWorker::Event { step: self.step, event }).map_err(wasmtime::Error::new)
    }
}

/// The log and progress events of one step.
pub struct EventSink {
    outlet: Outlet,
    sent: u64,
    limit: u64,
}

impl EventSink {
    /// Returns a sink that lets at most `limit` events pass.
    pub fn new(outlet: Outlet, limit: u64) -> Self {
        Self { outlet, sent: 0, limit }
    }

    /// Returns the number of events sent so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    async fn send(&mut self, event: Event, bytes: usize) -> wasmtime::Result<()> {
        if bytes as u64 > FIXED.event_bytes {
            return Err(Exceeded { limit: "event_bytes", value: FIXED.event_bytes }.into());
        }
        if self.sent == self.limit {
            return Err(Exceeded { limit: "events", value: self.limit }.into());
        }
        self.sent += 1;
        self.outlet.send(event).await
    }
}

/// Marks the linked interfaces: their data is the step's [`EventSink`].
pub struct Guest;

impl HasData for Guest {
    type Data<'a> = &'a mut EventSink;
}

impl types::Host for EventSink {}

impl events::Host for EventSink {
    async fn log(&mut self, level: events::Level, message: String, fields: Vec<events::Field>) -> wasmtime::Result<()> {
        let level = match level {
            events::Level::Trace => Level::Trace,
            events::Level::Debug => Level::Debug,
            events::Level::Info => Level::Info,
            events::Level::Warn => Level::Warn,
            events::Level::Error => Level::Error,
        };
        let bytes = message.len() + fields.iter().map(|f| f.key.len() + f.value.len() + FIELD_BYTES).sum::<usize>();
        let fields = fields.into_iter().map(|f| (f.key, f.value)).collect();
        self.send(Event::Log { level, message, fields }, bytes).await
    }

    async fn progress(&mut self, fraction: f64, message: String) -> wasmtime::Result<()> {
        let fraction = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
        let bytes = message.len();
        self.send(Event::Progress { fraction, message }, bytes).await
    }
}
