//! Accounts, and what they hold.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{Amounts, Reservation, window::Window};

/// One limit on what is used up. Clones are the same account.
#[derive(Clone)]
pub struct Account(Arc<Inner>);

struct Inner {
    name: String,
    limit: Amounts,
    parent: Option<Account>,
    /// Locked before the books of the parent, never after them: so nobody waits in a circle.
    books: Mutex<Books>,
}

struct Books {
    spent: Amounts,
    reserved: Amounts,
    window: Option<Window>,
}

/// An account that has too little left for what is asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the budget of `{account}` allows {limit} {dimension}: {asked} asked, {left} left{}", Resets(.resets_in))]
pub struct Exhausted {
    /// The name of the account, which can be one around the account that was asked.
    pub account: String,
    /// One of [`Amounts::names`]: the first that does not suffice.
    pub dimension: &'static str,
    pub limit: u64,
    pub left: u64,
    pub asked: u64,
    /// How long until the account has its whole limit again. [`None`] if waiting does not help: the account has no
    /// window, or more is asked than its limit.
    pub resets_in: Option<Duration>,
}

impl Account {
    /// Opens an account, inside another or on its own. Its limit may be above that of the account around it, which then
    /// decides.
    pub fn new(name: impl Into<String>, limit: Amounts, parent: Option<Account>) -> Self {
        Self::open(name.into(), limit, parent, None)
    }

    /// Opens an account on its own, whose limit holds for each window of time.
    ///
    /// Windows follow each other from now on. With a new one nothing is spent, but what is reserved stays reserved and
    /// is spent in the window in which it is committed.
    pub fn windowed(name: impl Into<String>, limit: Amounts, window: Duration) -> Self {
        Self::open(name.into(), limit, None, Some(Window::new(window)))
    }

    #[cfg(test)]
    pub(super) fn windowed_by(window: Window, limit: Amounts) -> Self {
        Self::open("tenant".into(), limit, None, Some(window))
    }

    /// Adds what was spent before, as after a restart. The accounts around this one are not told.
    pub fn with_spent(self, prior: Amounts) -> Self {
        let mut books = self.books();
        books.spent = books.spent.saturating_add(prior);
        drop(books);
        self
    }

    /// Reserves amounts in this account and in all around it, or in none of them.
    pub fn reserve(&self, amounts: Amounts) -> Result<Reservation, Exhausted> {
        self.hold(amounts)?;
        Ok(Reservation::new(self.clone(), amounts))
    }

    /// Reserves amounts and commits them at once.
    pub fn spend(&self, amounts: Amounts) -> Result<(), Exhausted> {
        self.reserve(amounts)?.commit(amounts);
        Ok(())
    }

    /// Returns what can be reserved now: the least of what this account and those around it have left.
    pub fn left(&self) -> Amounts {
        let books = self.books();
        let left = self.0.left(&books);
        self.0.parent.as_ref().map_or(left, |parent| left.min(parent.left()))
    }

    /// Returns what was committed, in the present window if there are windows. It is above the limit where more was
    /// used than had been reserved.
    pub fn spent(&self) -> Amounts {
        self.books().spent
    }

    /// Returns what is reserved and not yet committed.
    pub fn reserved(&self) -> Amounts {
        self.books().reserved
    }

    /// Returns the limit of this account alone.
    pub fn limit(&self) -> Amounts {
        self.0.limit
    }

    fn open(name: String, limit: Amounts, parent: Option<Account>, window: Option<Window>) -> Self {
        let books = Books { spent: Amounts::default(), reserved: Amounts::default(), window };
        Self(Arc::new(Inner { name, limit, parent, books: Mutex::new(books) }))
    }

    pub(super) fn hold(&self, asked: Amounts) -> Result<(), Exhausted> {
        let mut books = self.books();
        let left = self.0.left(&books);
        if let Some(dimension) = asked.first_above(left) {
            return Err(self.0.exhausted(&books, dimension, left, asked));
        }
        // The books stay locked until those around them have agreed.
        if let Some(parent) = &self.0.parent {
            parent.hold(asked)?;
        }
        books.reserved = books.reserved.saturating_add(asked);
        Ok(())
    }

    /// Ends a reservation: releases it and counts what was really used.
    pub(super) fn settle(&self, reserved: Amounts, used: Amounts) {
        let mut books = self.books();
        if let Some(parent) = &self.0.parent {
            parent.settle(reserved, used);
        }
        books.reserved = books.reserved.saturating_sub(reserved);
        books.spent = books.spent.saturating_add(used);
    }

    /// Locks the books, in the present window.
    fn books(&self) -> MutexGuard<'_, Books> {
        let mut books = self.0.books.lock().unwrap_or_else(PoisonError::into_inner);
        if books.window.as_mut().is_some_and(Window::begins_anew) {
            books.spent = Amounts::default();
        }
        books
    }
}

impl Inner {
    fn left(&self, books: &Books) -> Amounts {
        self.limit.saturating_sub(books.spent).saturating_sub(books.reserved)
    }

    fn exhausted(&self, books: &Books, dimension: usize, left: Amounts, asked: Amounts) -> Exhausted {
        let waiting_helps = asked.first_above(self.limit).is_none();
        Exhausted {
            account: self.name.clone(),
            dimension: Amounts::names()[dimension],
            limit: self.limit.to_array()[dimension],
            left: left.to_array()[dimension],
            asked: asked.to_array()[dimension],
            resets_in: books.window.as_ref().filter(|_| waiting_helps).map(Window::remaining),
        }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("name", &self.0.name).field("limit", &self.0.limit).finish_non_exhaustive()
    }
}

struct Resets<'a>(&'a Option<Duration>);

impl fmt::Display for Resets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            // Rounded up: who waits for so long finds a new window.
            Some(rest) => write!(f, ", and it resets in {} s", rest.as_millis().div_ceil(1000)),
            None => Ok(()),
        }
    }
}
