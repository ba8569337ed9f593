//! The key-value store behind the memory power: what agents keep between steps, by tenant and space.
//!
//! All of it is in one SQLite file. Who may use which space is decided elsewhere; here every caller is believed.

mod database;
mod error;
mod item;
mod store;
#[cfg(test)]
mod tests;
mod write;

pub use error::MemoryError;
pub use item::{Item, Listed, PutOptions, Quota, SpaceInfo, Writer};
pub use store::{KEY_BYTES_MAX, LIST_MAX, MemoryStore};
