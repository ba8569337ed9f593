//! The product's behaviour, as sentences: the real daemon, real jailed workers, real sockets, real WebAssembly.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admission;
mod agents;
mod bad_modules;
mod budgets;
mod callers;
mod cli;
mod cli_governed;
mod commands;
mod components;
mod control;
mod credentials;
mod deploy;
mod determinism;
mod disk_full;
mod docs;
mod environment;
mod events;
mod filesystem;
mod gate;
mod guest_sdk;
mod harness;
#[path = "../hostile/main.rs"]
mod hostile;
mod http;
mod journal;
mod learning;
mod limits;
mod memory;
mod overshoot;
mod policies;
mod precedence;
mod recycling;
mod requests;
mod shutdown;
mod sockets;
mod stdio;
mod steps;
mod system;
mod telemetry;
mod tenants;
mod tidy;
mod tools;
mod walls;
mod workers;
mod workspaces;
