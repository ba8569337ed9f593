//! Hostile callers (RPC-00 to RPC-11): what is malformed is refused by name or closed, what floods is bounded, and who
//! behaves is served all the while.

mod authority;
mod connections;
mod frames;
mod http2;
mod messages;
mod names;
mod uploads;
