//! Write an agent step or a tool for [Palisade](https://github.com/palisade/palisade) as one Rust function.
//!
//! A step is run by a caller:
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
//! A tool is called by steps, and by other tools. What it says of itself comes from its comments and types:
//!
//! ```no_run
//! use palisade_guest::{
//!     Error,
//!     schemars::{self, JsonSchema},
//!     tool,
//! };
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize, JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct Arguments {
//!     /// The number of the ticket.
//!     ticket: u32,
//! }
//!
//! #[derive(Serialize, JsonSchema)]
//! struct Output {
//!     text: String,
//! }
//!
//! /// Reads a ticket.
//! #[tool]
//! fn read(arguments: Arguments) -> Result<Output, Error> {
//!     Ok(Output { text: std::fs::read_to_string(format!("/workspace/{}", arguments.ticket))? })
//! }
//! ```
//!
//! `derive(JsonSchema)` finds its crate by the name `schemars`, and the `self` above brings that into scope: a project
//! needs no dependency of its own. One that wants a feature of schemars, for the types of chrono for example, names
//! `schemars = "1"` with that feature beside this crate.
//!
//! An agent whose manifest and policy let it calls tools with [`tools::call`], remembers with [`memory::space`] and
//! sends HTTP requests with [`http::get`]. A refusal is a [`CallError`] or an [`http::Error`]; with `?` it becomes an
//! [`Error`] and keeps its code.
//!
//! Build with `cargo build --target wasm32-wasip2` as a `cdylib`; `palisade run` runs a step, `palisade tool register`
//! registers a tool. On any other target the crate still builds, so that `cargo test` tests a step or a tool as the
//! plain function that it is: events go to standard error, memory is a map, and there are no tools and no HTTP.
//!
//! Files need nothing of this crate: `std::fs` works, below `/workspace` and below the mounts that were granted.
//! `std::env`, `std::time` and standard output work as well. Sockets do not: they answer "permission denied". Other HTTP
//! clients for WASI 0.2 work, and are judged like [`http`].

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod bindings;
pub mod events;
pub mod http;
mod invoke;
pub mod memory;
mod run;
mod schema;
pub mod tools;
mod types;

pub use palisade_guest_macros::{step, tool};
pub use schemars;
pub use types::{CallError, Denial, Error, Exhaustion};

#[doc(hidden)]
pub mod __private {
    #[cfg(target_arch = "wasm32")]
    pub use crate::bindings;
    pub use crate::{
        invoke::{Description, NoArguments, describe, invoke},
        run::call,
    };
}
