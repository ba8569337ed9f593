//! `palisade run`: push if it is a file, run, print what comes.

use std::{
    io::{IsTerminal as _, Read as _, Write as _, stdout},
    path::Path,
    process::ExitCode,
};

use palisade_proto::v1::{self, run_step_response::Message, step_result::Outcome};
use tokio::signal::ctrl_c;

use super::{Client, Common, Failure, arguments, arguments::Output, component, print};
use crate::{
    config::{Limits, Mount},
    step::Quota,
};

/// Runs one step. The exit code says how it ended.
pub async fn run(arguments: arguments::Run, common: &Common) -> Result<ExitCode, Failure> {
    let (directories, uses) = mounts(&arguments.mount, common)?;
    let input = input(arguments.input.as_deref())?;
    let env = arguments.env.iter().map(|pair| {
        let split = pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        split.ok_or_else(|| Failure::usage(format!("`--env {pair}`: expected NAME=VALUE")))
    });
    let env = env.collect::<Result<_, _>>()?;

    let client = Client::connect(common, directories).await?;
    let (component, agent) = if Path::new(&arguments.target).is_file() {
        (component::push(&client, Path::new(&arguments.target), None, None).await?.name, String::new())
    } else if arguments.target.starts_with("agents/") {
        (String::new(), arguments.target)
    } else {
        (arguments.target, String::new())
    };
    let timeout =
        arguments.timeout.map(|ms| prost_types::Duration { seconds: ms / 1000, nanos: (ms % 1000) as i32 * 1_000_000 });
    let narrow =
        v1::Narrowing { tools: arguments.only_tool, spaces: arguments.only_space, egress: arguments.only_egress };
    let narrow = Some(narrow).filter(|narrow| *narrow != v1::Narrowing::default());
    let request = v1::RunStepRequest {
        component,
        input,
        content_type: String::new(),
        args: arguments.args,
        env,
        workspace: arguments.workspace.map(|id| print::resource("workspaces", &id)).unwrap_or_default(),
        mounts: uses,
        limits: Some(v1::StepLimits {
            fuel: arguments.fuel,
            memory_bytes: arguments.memory,
            timeout,
            ..v1::StepLimits::default()
        }),
        agent,
        job: arguments.job.unwrap_or_default(),
        budget: None,
        narrow,
        seed: arguments.seed.map(|seed| seed.0),
        start_time: arguments.start_time,
    };
    let ended = tokio::select! {
        ended = follow(&client, request, common) => Some(ended),
        // Hanging up cancels the step.
        _ = ctrl_c() => None,
    };
    let Some(ended) = ended else {
        // A daemon of our own still has the end to record. Whoever cannot wait for that interrupts once more.
        tokio::select! {
            closed = client.close() => closed?,
            _ = ctrl_c() => {}
        }
        return Ok(ExitCode::from(130));
    };
    let ended = client.finish(ended).await?;
    if let Some(file) = &arguments.checkpoint {
        hold(&ended, file)?;
    }
    Ok(exit_code(&ended, arguments.exit_code))
}

async fn follow(client: &Client, request: v1::RunStepRequest, common: &Common) -> Result<v1::StepResult, Failure> {
    let mut mid_line = false;
    let mut responses = client.steps().run_step(request).await?.into_inner();
    while let Some(response) = responses.message().await? {
        let Some(message) = response.message else { continue };
        if common.output == Output::Json {
            writeln!(stdout(), "{}", print::message(&message))?;
        }
        match message {
            Message::Accepted(_) => {}
            Message::Event(event) if common.output == Output::Table => mid_line = show(event, common, mid_line)?,
            Message::Event(_) => {}
            Message::Result(result) => {
                if common.output == Output::Table {
                    end_line(mid_line);
                    conclude(&result, common)?;
                }
                return Ok(result);
            }
        }
    }
    Err(Failure::new(Failure::UNAVAILABLE, "the daemon ended the stream without a result"))
}

/// Keeps the checkpoint of a result.
fn hold(result: &v1::StepResult, file: &Path) -> Result<(), Failure> {
    if result.checkpoint.is_empty() {
        return Err(Failure::other("the result came without a checkpoint: the daemon did not wait for its record"));
    }
    std::fs::write(file, &result.checkpoint)
        .map_err(|e| Failure::other(format!("cannot write the checkpoint to `{}`: {e}", file.display())))
}

/// Prints an event. Returns whether the guest's standard error is in the middle of a line.
fn show(event: v1::StepEvent, common: &Common, mid_line: bool) -> Result<bool, Failure> {
    use v1::step_event::Kind;
    let by_tool = !event.tool.is_empty();
    let speaker = if by_tool { format!("[{}] ", print::one_line(&event.tool)) } else { String::new() };
    match event.kind {
        // What a tool prints is not the step's data.
        Some(Kind::Output(chunk)) if chunk.stream() == v1::output_chunk::Stream::Stdout && !by_tool => {
            stdout().write_all(&chunk.data)?;
            stdout().flush()?;
        }
        Some(Kind::Output(chunk)) => {
            std::io::stderr().write_all(&chunk.data)?;
            return Ok(!chunk.data.ends_with(b"\n"));
        }
        Some(Kind::Log(log)) if !common.quiet => {
            end_line(mid_line);
            eprintln!("{speaker}{}", print::log(&log));
            return Ok(false);
        }
        Some(Kind::Progress(progress)) if !common.quiet => {
            end_line(mid_line);
            eprintln!("{speaker}{:3.0} % {}", progress.fraction * 100.0, print::safe(&progress.message));
            return Ok(false);
        }
        _ => {}
    }
    Ok(mid_line)
}

fn end_line(mid_line: bool) {
    if mid_line {
        eprintln!();
    }
}

fn conclude(result: &v1::StepResult, common: &Common) -> Result<(), Failure> {
    let mut stdout = stdout();
    stdout.write_all(&result.output)?;
    if !result.output.is_empty() && (stdout.is_terminal() || !result.output.ends_with(b"\n")) {
        stdout.write_all(b"\n")?;
    }
    stdout.flush()?;
    if let Some(failure) = &result.failure {
        eprintln!("{}: {}", print::outcome(result.outcome()), print::failure(failure));
    }
    if let (Some(usage), false) = (&result.usage, common.quiet) {
        eprintln!("{}", print::usage(usage, result.spent.as_ref()));
    }
    Ok(())
}

fn exit_code(result: &v1::StepResult, own: bool) -> ExitCode {
    if let (Some(code), true) = (result.exit_code, own) {
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    let timed_out = result.failure.as_ref().is_some_and(|failure| failure.limit == "timeout_ms");
    match result.outcome() {
        Outcome::Succeeded => ExitCode::SUCCESS,
        Outcome::LimitExceeded if timed_out => ExitCode::from(Failure::TIME),
        Outcome::WorkerLost => ExitCode::from(Failure::UNAVAILABLE),
        _ => ExitCode::from(Failure::STEP),
    }
}

/// Returns what the step is given: text that looks like JSON as it is, else a file's or standard input's bytes.
fn input(argument: Option<&str>) -> Result<Vec<u8>, Failure> {
    match argument {
        None => Ok(Vec::new()),
        Some("-") => {
            let mut input = Vec::new();
            std::io::stdin().read_to_end(&mut input)?;
            Ok(input)
        }
        Some(text) if text.trim_start().starts_with(['{', '[', '"']) => Ok(text.as_bytes().to_vec()),
        Some(file) => {
            std::fs::read(file).map_err(|e| Failure::new(Failure::NOT_FOUND, format!("cannot read `{file}`: {e}")))
        }
    }
}

/// Returns the mounts of a daemon of our own, and what the step asks of them.
fn mounts(arguments: &[String], common: &Common) -> Result<(Vec<Mount>, Vec<v1::MountUse>), Failure> {
    let (mut directories, mut uses) = (Vec::new(), Vec::new());
    for (index, argument) in arguments.iter().enumerate() {
        let wrong = |problem: &str| Failure::usage(format!("`--mount {argument}`: {problem}"));
        let (what, rest) = argument.split_once(":/").ok_or_else(|| wrong("expected WHAT:/path[:ro|rw]"))?;
        let (path, mode) = match rest.rsplit_once(':') {
            Some((path, mode)) => (path, mode),
            None => (rest, "ro"),
        };
        let writable = match mode {
            "ro" => false,
            "rw" => true,
            _ => return Err(wrong("the mode is `ro` or `rw`")),
        };
        let mount = if what.starts_with(['/', '.']) {
            if common.endpoint.is_some() {
                return Err(wrong("a daemon mounts only what its configuration names; leave --endpoint out"));
            }
            let limits = Limits::default();
            let quota = Quota { bytes: limits.workspace_bytes.max, entries: limits.workspace_entries.max };
            let name = format!("mount-{index}");
            directories.push(Mount {
                name: name.parse().map_err(Failure::usage)?,
                path: std::path::absolute(what)?,
                writable: writable.then_some(quota),
                labels: Vec::new(),
            });
            name
        } else if common.endpoint.is_none() {
            return Err(wrong("a directory begins with `/` or `.`; a mount's name needs --endpoint"));
        } else {
            what.to_owned()
        };
        let read_only = !writable && rest.ends_with(":ro");
        uses.push(v1::MountUse { mount, path: format!("/{path}"), read_only });
    }
    Ok((directories, uses))
}
