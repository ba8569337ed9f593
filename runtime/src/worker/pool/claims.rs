//! What is counted, or kept for somebody, while a worker is started or looked for.

use std::sync::Arc;

use super::{Place, Pool};
use crate::worker::{home::Home, life::Worker};

/// A worker that is being started, as far as the count of all goes.
pub struct Room {
    pub pool: Arc<Pool>,
    pub spare: bool,
}

impl Room {
    pub fn taken_by(self, worker: Arc<Worker>) {
        self.pool.places().alive.push(worker);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut places = self.pool.places();
        if self.spare {
            places.starting_spares -= 1;
        } else {
            places.starting -= 1;
        }
    }
}

/// A home for which a worker is looked for. Without one it is forgotten again.
pub struct Claim<'a> {
    pub pool: &'a Pool,
    pub home: &'a Home,
    pub place: &'a Place,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut places = self.pool.places();
        if self.place.get().is_some() {
            places.homes.entry(self.home.clone()).or_insert_with(|| self.place.clone());
        } else if places.homes.get(self.home).is_some_and(|place| Arc::ptr_eq(place, self.place)) {
            places.homes.remove(self.home);
        }
    }
}
