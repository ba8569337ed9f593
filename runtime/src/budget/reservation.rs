//! Amounts that are set aside until it is known what was used.

use super::{Account, Amounts, Exhausted};

/// Amounts that are reserved in an account and in all around it. Dropping it releases them.
#[derive(Debug)]
#[must_use = "dropping a reservation releases it"]
pub struct Reservation {
    account: Account,
    reserved: Amounts,
    used: Amounts,
}

impl Reservation {
    pub(super) fn new(account: Account, reserved: Amounts) -> Self {
        Self { account, reserved, used: Amounts::default() }
    }

    /// Returns what is reserved.
    pub fn reserved(&self) -> Amounts {
        self.reserved
    }

    /// Reserves more, in the same accounts; or nothing more, if one of them has too little left.
    pub fn extend(&mut self, more: Amounts) -> Result<(), Exhausted> {
        self.account.hold(more)?;
        self.reserved = self.reserved.saturating_add(more);
        Ok(())
    }

    /// Releases the reservation and counts what was really used, less or more than was reserved.
    ///
    /// More is counted in full, as it has been used: it can bring an account above its limit, and then nothing can be
    /// reserved there until a new window begins.
    pub fn commit(mut self, used: Amounts) {
        self.used = used;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.account.settle(self.reserved, self.used);
    }
}
