//! The product's behaviour, as sentences: the real daemon, real jailed workers, real sockets, real WebAssembly.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bad_modules;
mod callers;
mod cli;
mod commands;
mod components;
mod disk_full;
mod docs;
mod environment;
mod events;
mod filesystem;
mod guest_sdk;
mod harness;
mod limits;
mod requests;
mod shutdown;
mod sockets;
mod stdio;
mod steps;
mod system;
mod tidy;
mod walls;
mod workers;
mod workspaces;
