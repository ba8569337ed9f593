//! What the hostile tests run in place of `palisade`: the same daemon, whose workers lack a wall. Which one is missing,
//! the file's name says; `tests/hostile/settings.rs` makes the links. The daemon starts itself as its workers, so there
//! is nothing of this in the shipped program.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../guests/src/files/case.rs"]
mod case;
mod denied;
mod evil;
mod frames;
mod missing;
mod raw;
mod threads;

use std::process::ExitCode;

use clap::Parser as _;
use palisade::{cli, compile, jail, work};

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    let ended = match arguments.command {
        cli::Command::Worker => worker(),
        cli::Command::Compile => compile::compile(),
        command => return cli::run(command, arguments.common),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn worker() -> anyhow::Result<()> {
    let program = std::env::current_exe()?;
    match program.file_name().and_then(|name| name.to_str()) {
        // Guests have the WASI wall only.
        Some("wasm-wall") => work::work(missing::jail),
        // The same, and the kernel's own resolver of paths is away as well: wasmtime's remains.
        Some("wasm-wall-own-resolver") => work::work(missing::jail_and_openat2),
        // Native code in the jail, in place of guests.
        Some("os-wall") => evil::work(jail::enter),
        // Native code with nothing around it: what the oracles must see.
        Some("no-wall") => evil::work(missing::jail),
        // The same in the jail, but for what it says to the daemon.
        Some(name) if name.starts_with("frames") => frames::work(jail::enter, name),
        name => anyhow::bail!("{name:?} is no setting: this program is for the hostile tests"),
    }
}
