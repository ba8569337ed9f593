//! Write an agent step for [Palisade](https://github.com/palisade/palisade) as one Rust function.
//!
//! ```no_run
//! use palisade_guest::{Error, events, step};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Input {
//!     name: String,
//! }
//!
//! #[derive(Serialize)]
//! struct Output {
//!     greeting: String,
//! }
//!
//! #[step]
//! fn greet(input: Input) -> Result<Output, Error> {
//!     events::info!("greeting", name = input.name);
//!     Ok(Output { greeting: format!("Hello, {}!", input.name) })
//! }
//! ```
//!
//! Build it with `cargo build --target wasm32-wasip2` as a `cdylib`, run it with `palisade run`. On any other
//! target the crate still builds, and events go to standard error, so that `cargo test` tests a step as the
//! plain function that it is.
//!
//! Files need nothing of this crate: `std::fs` works, below `/workspace` and below the mounts that the
//! caller named. `std::env`, `std::time` and standard output work as well. Sockets do not: they answer
//! "permission denied".

pub mod events;
mod run;

pub use palisade_guest_macros::step;
pub use run::Error;

#[doc(hidden)]
pub mod __private {
    #[cfg(target_arch = "wasm32")]
    pub use crate::run::bindings;
    pub use crate::run::call;
}
