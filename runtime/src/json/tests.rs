//! Tests of strict JSON: what is refused, what becomes one, and that no schema or value costs too much.

mod canonical;
mod schema;
