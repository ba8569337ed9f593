//! What agents may use up: one ledger of accounts, each inside another (tenant, job, step, tool).
//!
//! Whatever costs something is reserved before it is done and committed afterwards. A reservation is made in an account
//! and in all accounts around it, or in none, so no account can pay out more than any account around it has.

mod account;
mod amounts;
mod reservation;
#[cfg(test)]
mod tests;
mod window;

pub use account::{Account, Exhausted};
pub use amounts::Amounts;
pub use reservation::Reservation;
