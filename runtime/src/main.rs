//! `palisade`: one binary, three roles. `docs/architecture.md` says what each must never know.

use std::process::ExitCode;

use clap::Parser as _;
use palisade::{cli, compile, jail, work};

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    match arguments.command {
        cli::Command::Worker => jailed(work::work(jail::enter)),
        cli::Command::Compile => jailed(compile::compile()),
        command => cli::run(command, arguments.common),
    }
}

/// A jailed process says its last words on standard error, where the daemon reads them.
fn jailed(ended: anyhow::Result<()>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
