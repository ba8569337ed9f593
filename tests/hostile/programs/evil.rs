//! A worker that is evil: it says what a worker must say to be given steps, and then does in native code what its
//! input names, as if a guest had taken the whole process. The input is the probe's, so that a table needs no second
//! form: `{"acts": [{"file-cases": [...]}]}`. Another act is one more arm of [`Act`].

use std::{
    collections::BTreeMap,
    fs::File,
    sync::{Arc, Mutex},
};

use palisade::{
    sandbox,
    step::{Outcome, StepSpec, Task, Usage},
    wire::{self, FromWorker, ToWorker, WireError},
    work::{self, Enter},
};
use serde::Deserialize;
use serde_json::json;

use crate::{case::Case, denied, raw, threads::Threads};

#[derive(Deserialize)]
struct Input {
    acts: Vec<Act>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Act {
    /// What guests do to files, in raw system calls from the mounts.
    FileCases(Vec<Case>),
    /// The same over and over; answers how often each answer came.
    FileRace { cases: Vec<Case>, times: u64 },
    /// System calls that nobody needs, on a file outside.
    DeniedCalls(String),
}

/// Speaks until the daemon closes the socket. Steps run at once, each in a thread.
pub fn work(enter: Enter) -> anyhow::Result<()> {
    let (setup, confinement) = work::read_setup()?;
    let engine = sandbox::engine_hash()?;
    let mut started = None;
    let mut start = || started = Some((work::socket(), Threads::start()));
    let walls = enter(&work::jail_of(&setup, confinement), &mut || {}, &mut start)?;
    let (socket, threads) = started.unwrap();
    let mut reader = File::from(socket?);
    let writer = Arc::new(Mutex::new(reader.try_clone()?));
    wire::write_blocking(&mut *writer.lock().unwrap(), &FromWorker::Ready { walls, engine })?;
    loop {
        match wire::read_blocking(&mut reader) {
            Ok(ToWorker::Run { step, spec, .. }) => {
                let writer = writer.clone();
                threads.run(move || run(step, &spec, &writer));
            }
            Ok(_) => {}
            Err(WireError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn run(step: u64, spec: &StepSpec, writer: &Mutex<File>) {
    let Task::Run { payload, .. } = &spec.task else { panic!("the evil worker runs steps only") };
    let input: Input = serde_json::from_slice(payload).unwrap();
    let outcomes: Vec<_> = input.acts.iter().map(|act| perform(spec, act)).collect();
    let output = serde_json::to_vec(&json!({ "outcomes": outcomes })).unwrap();
    let usage = Usage { output_bytes: output.len() as u64, input_bytes: payload.len() as u64, ..Usage::default() };
    let outcome = Outcome::Succeeded { output, content_type: "application/json".into() };
    wire::write_blocking(&mut *writer.lock().unwrap(), &FromWorker::Done { step, outcome, usage }).unwrap();
}

fn perform(spec: &StepSpec, act: &Act) -> String {
    match act {
        Act::FileCases(cases) => format!("ok: {}", json!(raw::all(&spec.mounts, cases))),
        Act::FileRace { cases, times } => {
            let mut outcomes = BTreeMap::<String, u64>::new();
            for said in (0..*times).flat_map(|_| raw::all(&spec.mounts, cases)) {
                *outcomes.entry(said).or_default() += 1;
            }
            format!("ok: {}", json!(outcomes))
        }
        Act::DeniedCalls(path) => format!("ok: {}", json!(denied::all(path))),
    }
}
