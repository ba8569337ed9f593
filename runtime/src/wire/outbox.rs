//! The sending end of a socket, for many tasks: a frame is written at once by whoever has it, without a hop through
//! another task, unless the socket is full.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{net::unix::OwnedWriteHalf, sync::Notify};

use super::WireError;

/// Bytes that may wait for the socket; whoever wants to send more waits itself.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// A clonable sending end.
#[derive(Clone)]
pub struct Outbox(Arc<Inner>);

struct Inner {
    socket: OwnedWriteHalf,
    waiting: Mutex<Waiting>,
    /// Something waits.
    more: Notify,
    /// There is room to wait again.
    room: Notify,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    broken: bool,
}

impl Outbox {
    /// Returns the sending end of `socket`. What does not go out at once needs [`Outbox::flush`] to be polled.
    pub fn new(socket: OwnedWriteHalf) -> Self {
        let inner = Inner { socket, waiting: Mutex::default(), more: Notify::new(), room: Notify::new() };
        Self(Arc::new(inner))
    }

    /// Sends a frame, whole and in order. Fails if the other end is gone.
    pub async fn send(&self, frame: &[u8]) -> Result<(), WireError> {
        loop {
            let room = self.0.room.notified();
            if self.try_send(frame)? {
                return Ok(());
            }
            room.await;
        }
    }

    /// Sends a frame unless too much waits already; returns whether it did.
    pub fn try_send(&self, frame: &[u8]) -> Result<bool, WireError> {
        let mut waiting = self.waiting();
        if waiting.broken {
            return Err(WireError::Closed);
        }
        if waiting.bytes.len() > WAITING_BYTES_MAX {
            return Ok(false);
        }
        let mut rest = frame;
        while waiting.bytes.is_empty() && !rest.is_empty() {
            match self.0.socket.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    waiting.broken = true;
                    self.0.more.notify_one();
                    return Err(error.into());
                }
            }
        }
        if !rest.is_empty() {
            waiting.bytes.extend_from_slice(rest);
            self.0.more.notify_one();
        }
        Ok(true)
    }

    /// Says that the other end is gone: whoever waits for room fails.
    pub fn close(&self) {
        let mut waiting = self.waiting();
        (waiting.broken, waiting.bytes) = (true, Vec::new());
        self.0.more.notify_one();
        self.0.room.notify_waiters();
    }

    /// Writes what waits, for ever. Returns only if the other end is gone.
    pub async fn flush(&self) -> WireError {
        loop {
            self.0.more.notified().await;
            if let Err(error) = self.write_waiting().await {
                self.waiting().broken = true;
                self.0.room.notify_waiters();
                return error;
            }
        }
    }

    async fn write_waiting(&self) -> Result<(), WireError> {
        loop {
            {
                let mut waiting = self.waiting();
                if waiting.broken {
                    return Err(WireError::Closed);
                }
                match self.0.socket.try_write(&waiting.bytes) {
                    Ok(written) => drop(waiting.bytes.drain(..written)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
                if waiting.bytes.len() <= WAITING_BYTES_MAX {
                    self.0.room.notify_waiters();
                }
                if waiting.bytes.is_empty() {
                    return Ok(());
                }
            }
            self.0.socket.writable().await?;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
