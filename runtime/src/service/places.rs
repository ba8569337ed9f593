//! The connections that may be open at once. Operators find a place when callers hold all the others: a kill gets through.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    sync::Arc,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::listen::{Connection, Io};

/// Connections of operators beside `limits.connections`.
const OPERATOR_CONNECTIONS: usize = 16;

/// Connections that wait for a place. For one more, the one that has waited longest is closed: all are accepted at once, so
/// that no operator stands behind callers where nobody sees who it is.
const WAITING_MAX: usize = 64;

/// Where connections go that have a place.
type Seated = mpsc::Sender<io::Result<Connection>>;

pub struct Places {
    all: Arc<Semaphore>,
    of_operators: Arc<Semaphore>,
    operators: BTreeSet<String>,
    waiting: VecDeque<Io>,
    seated: Seated,
}

impl Places {
    /// Returns `max` places for everybody, and some for `operators`.
    pub fn new(max: u64, operators: BTreeSet<String>, seated: Seated) -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        let (all, of_operators) = (places(max as usize), places(OPERATOR_CONNECTIONS));
        Self { all, of_operators, operators, waiting: VecDeque::new(), seated }
    }

    /// Gives a connection a place, or lets it wait for one.
    pub async fn enter(&mut self, io: Io) {
        let free = if self.waiting.is_empty() { self.all.clone().try_acquire_owned().ok() } else { None };
        if let Some(place) = free.or_else(|| self.of_operator(&io)) {
            return self.seat(io, place).await;
        }
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back(io);
    }

    /// Returns a place, once there is one. Ask while somebody waits.
    pub async fn free(&self) -> Option<OwnedSemaphorePermit> {
        self.all.clone().acquire_owned().await.ok()
    }

    pub fn somebody_waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Gives a place to the one that has waited longest.
    pub async fn seat_next(&mut self, place: OwnedSemaphorePermit) {
        if let Some(io) = self.waiting.pop_front() {
            self.seat(io, place).await;
        }
    }

    /// Returns once nobody takes connections any more.
    pub async fn closed(&self) {
        self.seated.closed().await;
    }

    fn of_operator(&self, io: &Io) -> Option<OwnedSemaphorePermit> {
        let place = || self.of_operators.clone().try_acquire_owned().ok();
        self.operators.contains(&io.peer().to_string()).then(place)?
    }

    async fn seat(&self, io: Io, place: OwnedSemaphorePermit) {
        let _ = self.seated.send(Ok(Connection::new(io, place))).await; // fails if nobody takes connections any more
    }
}
