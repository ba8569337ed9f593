//! Strict JSON for the arguments and results of tools: one reading of a text, one way to write it, one check.
//!
//! A text is parsed once by [`Canonical::parse`], which refuses whatever two parsers could read differently. What is
//! checked, decided on, recorded and executed afterwards are its canonical bytes (RFC 8785). Schemas come from tools
//! and values from guests. Neither is trusted: what a check may cost is limited before it starts.

mod admit;
mod canonical;
mod cost;
mod place;
mod schema;
mod strict;
#[cfg(test)]
mod tests;

pub use canonical::{BadJson, Canonical, DEPTH_MAX, INTEGER_MAX};
pub use schema::{BadSchema, Problem, SCHEMA_BYTES_MAX, SCHEMA_DEPTH_MAX, Schema};
