//! Connections that read: a few, which callers take turns with.

use std::{
    path::Path,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use rusqlite::Connection;

use super::schema::open_reader;

/// Readers at a time. More wait.
const CONNECTIONS: usize = 4;

/// Why something cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot read the journal: {0}")]
    Database(#[from] rusqlite::Error),
    #[error("record {0} of the journal is not there or broken: export the journal and verify it")]
    Broken(u64),
    #[error("{asked} is out of range: the journal has the records 1 to {last}")]
    OutOfRange { asked: u64, last: u64 },
    #[error("the journal is closed")]
    Closed,
}

pub struct Readers {
    /// None once closed.
    idle: Mutex<Option<Vec<Connection>>>,
    returned: Condvar,
}

impl Readers {
    /// Opens the connections. Blocks.
    pub fn open(path: &Path) -> rusqlite::Result<Self> {
        let idle = (0..CONNECTIONS).map(|_| open_reader(path)).collect::<rusqlite::Result<Vec<_>>>()?;
        Ok(Self { idle: Mutex::new(Some(idle)), returned: Condvar::new() })
    }

    /// Reads with a connection, when one is free. Blocks.
    pub fn with<T>(&self, read: impl FnOnce(&Connection) -> Result<T, ReadError>) -> Result<T, ReadError> {
        let lease = Lease { readers: self, connection: Some(self.take()?) };
        lease.connection.as_ref().map_or(Err(ReadError::Closed), read)
    }

    /// Closes the connections that nobody reads with now, and the others when they come back.
    pub fn close(&self) {
        self.idle().take();
        self.returned.notify_all();
    }

    fn take(&self) -> Result<Connection, ReadError> {
        let mut idle = self.idle();
        loop {
            match idle.as_mut().ok_or(ReadError::Closed)?.pop() {
                Some(connection) => return Ok(connection),
                None => idle = self.returned.wait(idle).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, Option<Vec<Connection>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Brings its connection back.
struct Lease<'a> {
    readers: &'a Readers,
    connection: Option<Connection>,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let (Some(connection), Some(idle)) = (self.connection.take(), self.readers.idle().as_mut()) {
            idle.push(connection);
            self.readers.returned.notify_one();
        }
    }
}
