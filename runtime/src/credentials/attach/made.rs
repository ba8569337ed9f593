//! What was made of values, kept until they change.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::credentials::{secret::Secret, source::Unreadable};

/// Keeps what was made last.
pub struct Made<T>(Mutex<State<T>>);

struct State<T> {
    made: Option<(Vec<Arc<Secret>>, T)>,
    version: u64,
}

impl<T: Clone> Made<T> {
    /// Returns what `make` makes of the values, and how often it was made. The same values are the same `Arc`s.
    pub fn of(
        &self,
        values: &[&Arc<Secret>],
        make: impl FnOnce() -> Result<T, Unreadable>,
    ) -> Result<(T, u64), Unreadable> {
        let mut state = self.state();
        if let Some((of, made)) = &state.made
            && of.len() == values.len()
            && of.iter().zip(values).all(|(old, new)| Arc::ptr_eq(old, new))
        {
            return Ok((made.clone(), state.version));
        }
        // Whatever fails now: the old values are not the ones of now.
        state.made = None;
        let made = make()?;
        state.made = Some((values.iter().map(|value| (*value).clone()).collect(), made.clone()));
        state.version += 1;
        Ok((made, state.version))
    }

    /// Drops what was made. Returns whether there was something.
    pub fn forget(&self) -> bool {
        self.state().made.take().is_some()
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Made<T> {
    fn default() -> Self {
        Self(Mutex::new(State { made: None, version: 0 }))
    }
}
