//! A worker that breaks the rules of the conversation: what its input names, it does to the daemon. To any other input it
//! answers as the probe would, so that whoever behaves is served.

use std::{
    collections::HashSet,
    io::Write as _,
    os::unix::net::UnixStream,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use palisade::{
    sandbox,
    step::{Call, Event, Failure, HttpRequest, Level, Outcome, Patience, Piece, StepSpec, Stream, Task, Usage},
    wire::{self, FRAME_BYTES_MAX, FromWorker, ToWorker, WireError},
    work::{self, Enter},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::threads::Threads;

#[derive(Deserialize)]
struct Input {
    /// What to do wrong.
    frames: Option<String>,
    #[serde(default)]
    acts: Vec<Value>,
}

/// One end of the conversation, and which steps were told to stop.
struct Worker {
    socket: Mutex<UnixStream>,
    cancelled: Mutex<HashSet<u64>>,
    changed: Condvar,
    /// Nothing is read any more.
    deaf: AtomicBool,
}

/// Speaks until the daemon closes the socket. Steps run at once, each in a thread. `name` says how it begins.
pub fn work(enter: Enter, name: &str) -> anyhow::Result<()> {
    work::die_of_faults()?;
    let (setup, confinement) = work::read_setup()?;
    let engine = sandbox::engine_hash()?;
    let mut started = None;
    let mut start = || started = Some((work::socket(), Threads::start()));
    let walls = enter(&work::jail_of(&setup, confinement), &mut || {}, &mut start)?;
    let (socket, threads) = started.unwrap();
    let mut reader = UnixStream::from(socket?);
    let socket = Mutex::new(reader.try_clone()?);
    let (cancelled, changed, deaf) = (Mutex::default(), Condvar::new(), AtomicBool::new(false));
    let worker = Arc::new(Worker { socket, cancelled, changed, deaf });
    match name {
        "frames" => worker.say(&FromWorker::Ready { walls, engine }),
        "frames-no-walls" => worker.say(&FromWorker::Ready { walls: Vec::new(), engine }),
        "frames-garbage" => worker.frame(&[0xff; 100]),
        "frames-nothing" => std::process::exit(0),
        "frames-event" => worker.log(1, "before anything else"),
        "frames-huge" => worker.say(&FromWorker::Ready { walls, engine: "x".repeat(5_000_000) }),
        name => anyhow::bail!("there is no such way to begin: {name}"),
    }
    loop {
        while worker.deaf.load(Ordering::Relaxed) {
            std::thread::park();
        }
        match wire::read_blocking(&mut reader) {
            Ok(ToWorker::Run { step, spec, .. }) => {
                let worker = worker.clone();
                threads.run(move || worker.run(step, &spec));
            }
            Ok(ToWorker::Cancel { step }) => {
                worker.cancelled.lock().unwrap().insert(step);
                worker.changed.notify_all();
            }
            Ok(_) => {}
            Err(WireError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

impl Worker {
    fn run(&self, step: u64, spec: &StepSpec) {
        let Task::Run { payload, .. } = &spec.task else { panic!("this worker runs steps only") };
        let input: Input = serde_json::from_slice(payload).unwrap();
        if let Some(wrong) = input.frames {
            return self.break_rules(step, &wrong);
        }
        self.log(step, "here");
        if input.acts.iter().any(|act| act.get("sleep").is_some()) {
            self.until_cancelled(step);
            return self.done(step, Outcome::Cancelled(Failure::new("CANCELLED", "the step was cancelled")));
        }
        let said: Vec<_> = input.acts.iter().map(|_| "ok: x").collect();
        self.done(step, succeeded(json!({ "outcomes": said }).to_string().into_bytes()));
    }

    fn break_rules(&self, step: u64, wrong: &str) {
        let text = |bytes: usize| "x".repeat(bytes);
        let output = |bytes: usize| FromWorker::Event {
            step,
            event: Event::Output { stream: Stream::Stdout, data: vec![b'x'; bytes] },
        };
        match wrong {
            "nothing-wrong" => {}
            "garbage" => self.frame(&[0xff; 100]),
            "an-empty-frame" => self.frame(&[]),
            "no-such-message" => self.frame(&[99, 1, 2, 3]),
            "more-after-the-value" => self.frame(&[&encoded(&done(step, Vec::new()))[..], b"more"].concat()),
            "half-a-value" => self.frame(&encoded(&done(step, vec![1; 100]))[..20]),
            "a-length-of-4-gib" => self.bytes(&[0xff; 16]),
            "a-length-of-one-more" => self.bytes(&((FRAME_BYTES_MAX + 1) as u32).to_le_bytes()),
            "a-list-of-2-to-the-64" => {
                self.frame(&[1, step as u8, 2, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1])
            }
            "text-that-is-none" => {
                let mut frame = encoded(&FromWorker::Event { step, event: log("text!") });
                let at = frame.windows(5).position(|bytes| bytes == b"text!").unwrap();
                frame[at] = 0xff;
                self.frame(&frame);
            }
            "half-a-frame" => self.bytes(&[100, 0, 0, 0, 1]),
            "byte-by-byte" => {
                let frame = wire::encode(&done(step, Vec::new())).unwrap();
                frame.iter().for_each(|byte| self.bytes(&[*byte]));
                return;
            }
            "ready-twice" => self.say(&FromWorker::Ready { walls: Vec::new(), engine: "other".into() }),
            "done-twice" => {
                self.done(step, succeeded(Vec::new()));
                self.done(step, succeeded(Vec::new()));
            }
            "event-after-done" => {
                self.done(step, succeeded(Vec::new()));
                self.log(step, "still here");
            }
            "done-of-nobody" => self.done(step + 1_000_000, succeeded(Vec::new())),
            "event-of-nobody" => self.log(u64::MAX, "here"),
            "call-of-nobody" => self.say(&FromWorker::Call { step: u64::MAX, call: 1, asked: Call::ListTools }),
            "bodies-of-nobody" => {
                for call in 0..1_000 {
                    self.say(&FromWorker::Body { step, call, piece: Piece::Data(vec![b'x'; 100]) });
                    self.say(&FromWorker::Taken { step, call, weight: u32::MAX });
                    self.say(&FromWorker::Drop { step, call });
                }
            }
            "bodies-of-nobody-without-end" => {
                (0..10_000).for_each(|call| self.say(&FromWorker::Drop { step, call }));
            }
            "events-beyond-the-window" => (0..10_000).for_each(|_| self.log(step, "flood")),
            "large-events-beyond-the-window" => (0..200).for_each(|_| self.say(&output(1 << 20))),
            "output-beyond-the-limit" => (0..3).for_each(|_| self.say(&output(1 << 20))),
            "output-in-a-piece-too-large" => self.say(&output((1 << 20) + 1)),
            "event-too-large" => self.log(step, &text(70_000)),
            "event-of-many-fields" => {
                let fields = vec![(String::new(), String::new()); 500_000];
                let event = Event::Log { level: Level::Info, message: String::new(), fields };
                self.say(&FromWorker::Event { step, event });
            }
            "calls-beyond-the-window" => {
                (0..10_000).for_each(|call| self.say(&FromWorker::Call { step, call, asked: Call::ListTools }));
            }
            "the-same-call-again" => {
                (0..10_000).for_each(|_| self.say(&FromWorker::Call { step, call: 1, asked: Call::ListTools }));
            }
            // In one piece: of frames that come one by one, each may be answered before the next.
            "calls-at-once" => {
                let call = |call| wire::encode(&FromWorker::Call { step, call, asked: Call::ListTools }).unwrap();
                self.bytes(&(0..100).flat_map(call).collect::<Vec<_>>());
            }
            "a-call-too-large" => {
                let asked = Call::CallTool { name: text(2 << 20), arguments: text((2 << 20) + 1) };
                self.say(&FromWorker::Call { step, call: 1, asked });
            }
            "a-request-of-empty-headers" => {
                let request = HttpRequest {
                    method: "GET".into(),
                    scheme: "https".into(),
                    authority: "example.com".into(),
                    path_with_query: "/".into(),
                    headers: vec![(String::new(), Vec::new()); 100_000],
                    has_body: false,
                    patience: Patience::default(),
                };
                self.say(&FromWorker::Call { step, call: 1, asked: Call::SendRequest(Box::new(request)) });
            }
            "a-value-too-large" => {
                let (space, key) = (text(1_000), text(1_000));
                let asked = Call::PutMemory { space, key, value: vec![0; 4 << 20], ttl_ms: None, if_version: None };
                self.say(&FromWorker::Call { step, call: 1, asked });
            }
            "a-result-too-large" => self.done(step, succeeded(vec![b'x'; 4 << 20])),
            "a-type-too-large" => {
                self.done(step, Outcome::Succeeded { output: Vec::new(), content_type: text(4 << 20) });
            }
            "a-failure-too-large" => self.done(step, Outcome::Failed(Failure::new(text(2 << 20), text(2 << 20)))),
            "a-limit-too-large" => {
                let failure = Failure::new("FUEL_EXHAUSTED", "fuel");
                self.done(step, Outcome::LimitExceeded { failure, limit: text(1 << 20), value: u64::MAX });
            }
            "false-usage" => {
                let usage = Usage {
                    fuel: u64::MAX,
                    memory_peak_bytes: u64::MAX,
                    wall_time_us: u64::MAX,
                    cpu_time_us: u64::MAX,
                    input_bytes: u64::MAX,
                    output_bytes: u64::MAX,
                    stdio_bytes: u64::MAX,
                    events: u64::MAX,
                    disk_bytes: i64::MIN,
                    disk_entries: i64::MAX,
                };
                self.say(&FromWorker::Done { step, outcome: succeeded(b"false".to_vec()), usage });
                return;
            }
            "a-failure-too-large-for-its-record" => {
                let text = || "\u{1}".repeat(32 << 10);
                self.done(step, Outcome::Failed(Failure::new(text(), text())));
            }
            "says-it-is-lost" => self.done(step, Outcome::WorkerLost(Failure::new("WORKER_LOST", "not at all"))),
            "says-it-is-unrecorded" => {
                self.done(step, Outcome::Unrecorded(Failure::new("JOURNAL_UNAVAILABLE", "not at all")));
            }
            "says-it-was-held" => self.done(step, Outcome::Cancelled(Failure::new("HELD", "by nobody"))),
            "says-it-was-cancelled" => self.done(step, Outcome::Cancelled(Failure::new("CANCELLED", "by nobody"))),
            "says-it-was-not-started-after-an-event" => {
                self.log(step, "here");
                self.not_started(step);
            }
            "says-it-was-not-started-after-a-call" => {
                self.say(&FromWorker::Call { step, call: 1, asked: Call::ListTools });
                self.not_started(step);
            }
            "exits" => std::process::exit(0),
            "aborts" => std::process::abort(),
            // SAFETY: none: nothing is there to be written to.
            "faults" => unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(1) },
            "last-words-without-end" => {
                let line = [b'!'; 65_536];
                while std::io::stderr().write_all(&line).is_ok() && !self.is_cancelled(step) {}
            }
            "silent" => {}
            "deaf" => self.deaf.store(true, Ordering::Relaxed),
            "goes-on-when-cancelled" => {
                self.until_cancelled(step);
                (0..60).for_each(|_| self.log(step, "I was told to stop"));
            }
            wrong => panic!("there is no such way to break the rules: {wrong}"),
        }
        // Otherwise what was wrong must have been seen: the step does not end by itself, …
        let right = ["nothing-wrong", "bodies-of-nobody"];
        // … or ends well if nobody saw it.
        let seen = [
            "calls-at-once",
            "a-call-too-large",
            "a-value-too-large",
            "a-request-of-empty-headers",
            "bodies-of-nobody-without-end",
        ];
        if right.contains(&wrong) || seen.contains(&wrong) {
            self.done(step, succeeded(Vec::new()));
        }
    }

    fn log(&self, step: u64, message: &str) {
        self.say(&FromWorker::Event { step, event: log(message) });
    }

    fn not_started(&self, step: u64) {
        self.done(step, Outcome::WorkerLost(Failure::new("STEP_NOT_STARTED", "not at all")));
    }

    fn done(&self, step: u64, outcome: Outcome) {
        self.say(&FromWorker::Done { step, outcome, usage: Usage::default() });
    }

    fn say(&self, message: &FromWorker) {
        self.bytes(&wire::encode(message).unwrap());
    }

    /// Sends bytes as a frame.
    fn frame(&self, bytes: &[u8]) {
        self.bytes(&[&(bytes.len() as u32).to_le_bytes(), bytes].concat());
    }

    fn bytes(&self, bytes: &[u8]) {
        let _ = self.socket.lock().unwrap().write_all(bytes); // fails once the daemon has seen enough
    }

    fn is_cancelled(&self, step: u64) -> bool {
        self.cancelled.lock().unwrap().contains(&step)
    }

    fn until_cancelled(&self, step: u64) {
        let cancelled = self.cancelled.lock().unwrap();
        drop(self.changed.wait_while(cancelled, |cancelled| !cancelled.remove(&step)).unwrap());
    }
}

fn log(message: &str) -> Event {
    Event::Log { level: Level::Info, message: message.into(), fields: Vec::new() }
}

fn succeeded(output: Vec<u8>) -> Outcome {
    Outcome::Succeeded { output, content_type: "application/json".into() }
}

fn done(step: u64, output: Vec<u8>) -> FromWorker {
    FromWorker::Done { step, outcome: succeeded(output), usage: Usage::default() }
}

/// Returns what is in the frame of a message.
fn encoded(message: &FromWorker) -> Vec<u8> {
    wire::encode(message).unwrap()[4..].to_vec()
}
