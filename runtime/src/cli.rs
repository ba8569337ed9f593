//! The command line: the daemon for operators, the client for everybody else.
//!
//! Data goes to standard output, everything else to standard error.

mod agent;
mod arguments;
mod audit;
mod client;
mod component;
mod config;
mod control;
mod credential;
mod doctor;
mod failure;
mod learn;
mod new;
mod policy;
mod print;
mod record;
mod run;
mod serve;
mod timeline;
mod tool;
mod verify;
mod workspace;

use std::process::ExitCode;

use clap::CommandFactory as _;
use palisade_proto::v1::hold::Action;

pub use arguments::{Arguments, Command, Common};
use client::Client;
use failure::Failure;

/// Runs a command and returns how the process ends.
pub fn run(command: Command, common: Common) -> ExitCode {
    if let Command::Serve(_) = command
        && let Err(failure) = serve::restrict()
    {
        return failure.report();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::other(error).report(),
    };
    let ended = runtime.block_on(dispatch(command, &common));
    // A blocking task may hang on a terminal that nobody types on.
    runtime.shutdown_background();
    ended.unwrap_or_else(|failure| failure.report())
}

async fn dispatch(command: Command, common: &Common) -> Result<ExitCode, Failure> {
    match command {
        Command::Serve(arguments) => serve::serve(arguments, common).await?,
        Command::Run(arguments) => return run::run(arguments, common).await,
        Command::Component(command) => component::component(command, common).await?,
        Command::Workspace(command) => workspace::workspace(command, common).await?,
        Command::Agent(command) => agent::agent(command, common).await?,
        Command::Tool(command) => tool::tool(command, common).await?,
        Command::Credential(command) => credential::credential(command, common).await?,
        Command::Kill(order) => control::impose(Action::Kill, order, common).await?,
        Command::Freeze(order) => control::impose(Action::Freeze, order, common).await?,
        Command::Cordon(order) => control::impose(Action::Cordon, order, common).await?,
        Command::Drain(drain) => control::drain(drain, common).await?,
        Command::Hold(command) => control::hold(command, common).await?,
        Command::Policy(command) => return policy::policy(command, common).await,
        Command::Audit(command) => return audit::audit(command, common).await,
        Command::Info => doctor::info(common).await?,
        Command::New(command) => new::new(command)?,
        Command::Doctor => return doctor::doctor(common).await,
        Command::Config(command) => config::config(command)?,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "palisade", &mut std::io::stdout());
        }
        Command::Worker | Command::Compile => return Err(Failure::usage("started by the daemon, never by people")),
    }
    Ok(ExitCode::SUCCESS)
}
