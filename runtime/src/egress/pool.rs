//! The connections that are open: how many there are, and which of them a request may ride.

use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{
    connection::{Connection, STREAMS_MAX},
    host::Host,
    request::Scheme,
};
use crate::step::Name;

/// What two requests have in common if one may ride the other's connection; they also agree on the address. A rule that
/// changes has another revision, so nothing that was decided under the old one is ever relied on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    pub tenant: String,
    pub rule: Name,
    pub revision: String,
    pub scheme: Scheme,
    pub host: Host,
    pub port: u16,
    pub identity: Option<String>,
}

/// All connections of an egress.
pub struct Pool {
    slots: Arc<Slots>,
    state: Mutex<State>,
    idle: Duration,
}

#[derive(Default)]
struct State {
    held: HashMap<Arc<Origin>, Vec<Held>>,
    /// Changes when everything is forgotten: what was lent before does not come back.
    generation: u64,
    reaping: bool,
}

struct Held {
    address: SocketAddr,
    connection: Connection,
    rides: Arc<Rides>,
}

/// The requests on a held connection. One of HTTP/1.1 is not held while it has one.
struct Rides {
    count: AtomicUsize,
    /// When one last ended.
    ended: Mutex<Instant>,
}

/// One request on an HTTP/2 connection.
struct Ride {
    rides: Arc<Rides>,
    slots: Arc<Slots>,
}

struct Slots {
    open: AtomicUsize,
    max: usize,
    freed: Notify,
}

/// The right to one open connection.
pub struct Slot(Arc<Slots>);

/// A connection, lent for one request. Dropping it closes an HTTP/1.1 connection; an HTTP/2 one serves others too.
pub struct Lease {
    pub connection: Connection,
    pub address: SocketAddr,
    /// Whether an earlier request used it.
    pub reused: bool,
    pool: Arc<Pool>,
    origin: Arc<Origin>,
    generation: u64,
    _ride: Option<Ride>,
}

/// What there is for a request.
pub enum Taken {
    /// A connection that is open.
    Open(Lease),
    /// Room for a new one.
    Room(Slot),
}

impl Pool {
    /// At most `max` connections are open; one without a request is closed after `idle`.
    pub fn new(max: usize, idle: Duration) -> Arc<Self> {
        let slots = Arc::new(Slots { open: AtomicUsize::new(0), max, freed: Notify::new() });
        Arc::new(Self { slots, state: Mutex::default(), idle })
    }

    /// Waits for a connection to one of `addresses`, or room for one. With `fresh`, only for room.
    pub async fn take(self: &Arc<Self>, origin: &Arc<Origin>, addresses: &[SocketAddr], fresh: bool) -> Taken {
        loop {
            // Listens before it looks: what comes free in between is not missed.
            let mut freed = pin!(self.slots.freed.notified());
            freed.as_mut().enable();
            if !fresh && let Some(lease) = self.find(origin, addresses) {
                return Taken::Open(lease);
            }
            if let Some(slot) = Slots::take(&self.slots) {
                return Taken::Room(slot);
            }
            self.close_oldest();
            freed.await;
        }
    }

    /// Takes in a connection that was made for `origin`.
    pub fn lend(self: &Arc<Self>, origin: &Arc<Origin>, address: SocketAddr, connection: Connection) -> Lease {
        let mut state = self.state();
        let (pool, origin, generation) = (self.clone(), origin.clone(), state.generation);
        let ride = match &connection {
            Connection::One(_) => None,
            Connection::Many(many) => {
                let held = Held::new(address, Connection::Many(many.clone()));
                let ride = self.ride(&held);
                self.hold(&mut state, &origin, held);
                Some(ride)
            }
        };
        Lease { connection, address, reused: false, pool, origin, generation, _ride: ride }
    }

    /// Closes every connection as soon as it is without a request.
    pub fn forget(&self) {
        let mut state = self.state();
        state.generation += 1;
        let held = std::mem::take(&mut state.held);
        drop(state);
        drop(held);
    }

    /// Returns how many connections are open.
    #[cfg(test)]
    pub fn open(&self) -> usize {
        self.slots.open.load(Relaxed)
    }

    fn find(self: &Arc<Self>, origin: &Arc<Origin>, addresses: &[SocketAddr]) -> Option<Lease> {
        let mut state = self.state();
        let held = state.held.get_mut(origin)?;
        let closed: Vec<Held> = held.extract_if(.., |held| !held.connection.is_ready()).collect();
        // The one that was used last of HTTP/1.1, the first with room of HTTP/2: others get old, and are closed.
        let fits = |held: &Held| addresses.contains(&held.address) && held.has_room();
        let found = held.iter().rposition(|held| fits(held) && !held.connection.http2());
        let found = found.or_else(|| held.iter().position(fits)).map(|index| match &held[index] {
            Held { connection: Connection::Many(many), address, .. } => {
                (Connection::Many(many.clone()), *address, Some(self.ride(&held[index])))
            }
            Held { .. } => {
                let Held { connection, address, .. } = held.remove(index);
                (connection, address, None)
            }
        });
        if held.is_empty() {
            state.held.remove(origin);
        }
        let generation = state.generation;
        drop(state);
        drop(closed);
        let (connection, address, ride) = found?;
        let (pool, origin) = (self.clone(), origin.clone());
        Some(Lease { connection, address, reused: true, pool, origin, generation, _ride: ride })
    }

    /// Counts a request on a connection. Called under the lock, so that there are never too many.
    fn ride(&self, held: &Held) -> Ride {
        held.rides.count.fetch_add(1, Relaxed);
        Ride { rides: held.rides.clone(), slots: self.slots.clone() }
    }

    fn hold(self: &Arc<Self>, state: &mut State, origin: &Arc<Origin>, held: Held) {
        state.held.entry(origin.clone()).or_default().push(held);
        if !state.reaping {
            state.reaping = true;
            tokio::spawn(reap(Arc::downgrade(self), self.idle));
        }
    }

    /// Makes room: closes the connection that has been without a request for longest.
    fn close_oldest(&self) {
        let mut state = self.state();
        let idle = state.held.values().flatten().filter(|held| held.is_idle());
        let Some(oldest) = idle.map(Held::since).min() else { return };
        let closed = state.close(|held| held.since() == oldest);
        drop(state);
        drop(closed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes out the idle connections of which `which` is true.
    fn close(&mut self, which: impl Fn(&Held) -> bool) -> Vec<Held> {
        let mut closed = Vec::new();
        self.held.retain(|_, held| {
            closed.extend(held.extract_if(.., |held| held.is_idle() && which(held)));
            !held.is_empty()
        });
        closed
    }
}

impl Held {
    fn new(address: SocketAddr, connection: Connection) -> Self {
        let rides = Rides { count: AtomicUsize::new(0), ended: Mutex::new(Instant::now()) };
        Self { address, connection, rides: Arc::new(rides) }
    }

    fn is_idle(&self) -> bool {
        self.rides.count.load(Relaxed) == 0
    }

    fn has_room(&self) -> bool {
        self.rides.count.load(Relaxed) < STREAMS_MAX
    }

    fn since(&self) -> Instant {
        *self.rides.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ride {
    fn drop(&mut self) {
        *self.rides.ended.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.rides.count.fetch_sub(1, Relaxed);
        // Not every one of those who wait can use it: all of them look.
        self.slots.freed.notify_waiters();
    }
}

impl Slots {
    fn take(slots: &Arc<Self>) -> Option<Slot> {
        let more = |open| (open < slots.max).then_some(open + 1);
        slots.open.fetch_update(Relaxed, Relaxed, more).ok().map(|_| Slot(slots.clone()))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
        self.0.freed.notify_one();
    }
}

impl Lease {
    /// Gives an HTTP/1.1 connection back, for the next request.
    pub fn give_back(self) {
        let Self { connection, address, pool, origin, generation, .. } = self;
        let mut state = pool.state();
        if generation == state.generation {
            pool.hold(&mut state, &origin, Held::new(address, connection));
            drop(state);
            pool.slots.freed.notify_one();
        }
    }
}

/// Closes what has been idle for too long, until nothing is held.
async fn reap(pool: Weak<Pool>, idle: Duration) {
    // Never so short that it would be busy with looking.
    let pause = (idle / 2).max(Duration::from_millis(10));
    loop {
        tokio::time::sleep(pause).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut state = pool.state();
        let closed = state.close(|held| held.since().elapsed() >= idle);
        state.reaping = !state.held.is_empty();
        let done = !state.reaping;
        drop(state);
        drop(closed);
        if done {
            return;
        }
    }
}
