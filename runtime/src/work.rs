//! `palisade worker`: one tenant's steps, in the jail. Started by the daemon, never by people.

use std::{
    cell::Cell,
    collections::HashMap,
    fs::File,
    io,
    num::NonZero,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, Barrier, Mutex, PoisonError, mpsc},
    thread::available_parallelism,
    time::Duration,
};

use anyhow::Context as _;
use libc::c_int;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use tokio::{
    net::{UnixStream, unix::OwnedReadHalf},
    runtime::Runtime,
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

use crate::{
    host::{Gate, Outlet, Trees},
    jail::{Access, Jail, JailError, Role},
    sandbox::{self, Runner, Ways},
    step::{FIXED, StepSpec},
    wire::{self, Confinement, EVENT_WINDOW, FromWorker, Outbox, ToWorker, Wall, WireError, WorkerSetup},
};

/// How a worker enters its jail: [`crate::jail::enter`], but for tests that take a wall away.
pub type Enter = fn(&Jail, &mut dyn FnMut(), &mut dyn FnMut()) -> Result<Vec<Wall>, JailError>;

/// Runs the worker until the daemon closes the socket, which is its standard input.
pub fn work(enter: Enter) -> anyhow::Result<()> {
    die_of_panics();
    die_of_faults()?;
    let (setup, confinement) = read_setup()?;
    // The engine maps its pool and opens its page map while that is still possible.
    let prepare = || -> anyhow::Result<_> {
        let engine = sandbox::worker_engine(setup.slots, setup.memory_bytes_max)?;
        let hash = sandbox::engine_hash()?;
        Ok((Runner::new(engine, setup.artifacts.join(&hash))?, hash, available_parallelism()?))
    };
    // All threads and the event loop are there before the filter of system calls, which leaves no way to make more.
    let start = |prepared: anyhow::Result<_>| -> anyhow::Result<_> {
        let (runner, engine, threads) = prepared?;
        let runtime = runtime(threads)?;
        let entered = runtime.enter();
        let socket = std::os::unix::net::UnixStream::from(socket()?);
        socket.set_nonblocking(true)?;
        let socket = UnixStream::from_std(socket)?;
        drop(entered);
        Ok((runner, engine, runtime, socket))
    };
    let (prepared, started) = (Cell::new(None), Cell::new(None));
    let walls = enter(&jail_of(&setup, confinement), &mut || prepared.set(Some(prepare())), &mut || {
        started.set(prepared.take().map(start))
    })?;
    let (runner, engine, runtime, socket) = started.take().context("the jail was entered unprepared")??;
    // From here on, nothing that the guest or the daemon does can open the jail again.
    // As a task of its own: what `block_on` polls runs beside the threads that steps run on, a hop away.
    runtime.block_on(runtime.spawn(serve(Arc::new(runner), socket, walls, engine)))?
}

/// Returns a runtime all of whose threads run, and none of which ever ends: half of them run steps, the others are for
/// what the engine does not want to do on those.
fn runtime(threads: NonZero<usize>) -> io::Result<Runtime> {
    const FOR_EVER: Duration = Duration::from_secs(1 << 32);
    let (running, all) = mpsc::sync_channel(2 * threads.get());
    let tell = move || {
        let _ = running.try_send(());
    };
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(threads.get()).max_blocking_threads(threads.get()).thread_keep_alive(FOR_EVER);
    // Between so many turns of guests, which can be long, somebody looks whether the daemon said something: to stop one,
    // above all.
    builder.event_interval(2);
    let runtime = builder.on_thread_start(tell).enable_io().enable_time().build()?;
    // As many tasks at once as there can be threads for them.
    let busy = Arc::new(Barrier::new(threads.get() + 1));
    for _ in 0..threads.get() {
        let busy = busy.clone();
        runtime.spawn_blocking(move || busy.wait());
    }
    busy.wait();
    for _ in 0..2 * threads.get() {
        all.recv().map_err(io::Error::other)?;
    }
    Ok(runtime)
}

async fn serve(runner: Arc<Runner>, socket: UnixStream, walls: Vec<Wall>, engine: String) -> anyhow::Result<()> {
    let (reader, writer) = socket.into_split();
    let frames = Outbox::new(writer);
    frames.send(&wire::encode(&FromWorker::Ready { walls, engine })?).await?;
    tokio::select! {
        read = read_requests(runner, reader, frames.clone()) => read,
        broken = frames.flush() => Err(broken).context("cannot write to the daemon"),
    }
}

/// What a running step listens to.
struct Running {
    cancel: CancellationToken,
    window: Arc<Semaphore>,
    ways: Ways,
}

type Steps = Arc<Mutex<HashMap<u64, Running>>>;

async fn read_requests(runner: Arc<Runner>, mut reader: OwnedReadHalf, frames: Outbox) -> anyhow::Result<()> {
    let mut reader = tokio::io::BufReader::with_capacity(64 << 10, &mut reader);
    let steps = Steps::default();
    let lock = || steps.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        match wire::read(&mut reader).await {
            Ok(ToWorker::Run { step, caller, spec }) => {
                let (cancel, window) = (CancellationToken::new(), Arc::new(Semaphore::new(EVENT_WINDOW)));
                let mut running = lock();
                let caller = caller.and_then(|caller| running.get(&caller)).map(|caller| &caller.ways.trees);
                let ways = Ways {
                    outlet: Outlet::new(step, frames.clone(), window.clone()),
                    gate: Gate::new(step, frames.clone()),
                    trees: Trees::of(&spec.mounts, caller),
                };
                running.insert(step, Running { cancel: cancel.clone(), window, ways: ways.clone() });
                drop(running);
                tokio::spawn(run(runner.clone(), step, *spec, ways, cancel, frames.clone(), steps.clone()));
            }
            Ok(ToWorker::Answer { step, call, at_ms, answer }) => {
                if let Some(running) = lock().get(&step) {
                    running.ways.gate.answer(call, at_ms, answer);
                }
            }
            Ok(ToWorker::Body { step, call, piece }) => {
                if let Some(running) = lock().get(&step) {
                    running.ways.gate.piece(call, piece);
                }
            }
            Ok(ToWorker::Taken { step, call, weight }) => {
                if let Some(running) = lock().get(&step) {
                    running.ways.gate.taken(call, weight);
                }
            }
            Ok(ToWorker::Credit { step, events }) => {
                if let Some(running) = lock().get(&step) {
                    running.window.add_permits(events as usize);
                }
            }
            Ok(ToWorker::Cancel { step }) => {
                if let Some(running) = lock().get(&step) {
                    running.cancel.cancel();
                }
            }
            Ok(ToWorker::Setup(..)) => anyhow::bail!("the daemon set this worker up twice"),
            Err(WireError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

async fn run(
    runner: Arc<Runner>,
    step: u64,
    spec: StepSpec,
    ways: Ways,
    cancel: CancellationToken,
    frames: Outbox,
    steps: Steps,
) {
    let (outcome, usage) = runner.run(spec, ways, &cancel).await;
    steps.lock().unwrap_or_else(PoisonError::into_inner).remove(&step);
    match wire::encode(&FromWorker::Done { step, outcome, usage }) {
        Ok(frame) => drop(frames.send(&frame).await), // fails only if the daemon is gone
        Err(error) => abort_with(&error.to_string()),
    }
}

/// Returns the jail of a worker that is set up like this.
pub fn jail_of(setup: &WorkerSetup, confinement: Confinement) -> Jail {
    let artifacts = (setup.artifacts.clone(), Access::Code);
    let read_only = setup.read_only.iter().map(|path| (path.clone(), Access::ReadOnly));
    let read_write = setup.read_write.iter().map(|path| (path.clone(), Access::ReadWrite));
    Jail {
        role: Role::Worker,
        confinement,
        files: read_only.chain(read_write).chain([artifacts]).collect(),
        file_bytes_max: setup.file_bytes_max,
        memory_bytes_max: memory_bytes_max(setup),
        // Every slot with all its files open.
        descriptors_max: u64::from(setup.slots) * (FIXED.resources + 32) + 64,
        cpu_seconds_max: None,
    }
}

/// Returns the bytes of memory of a worker: every slot at its largest, and what the process itself needs.
fn memory_bytes_max(setup: &WorkerSetup) -> u64 {
    u64::from(setup.slots) * (setup.memory_bytes_max + (16 << 20)) + (1 << 30)
}

/// Returns what the daemon says first.
pub fn read_setup() -> anyhow::Result<(WorkerSetup, Confinement)> {
    let mut socket = File::from(socket()?);
    match wire::read_blocking(&mut socket).context("palisade worker is started by `palisade serve`")? {
        ToWorker::Setup(setup, confinement) => Ok((setup, confinement)),
        _ => anyhow::bail!("expected to be set up first"),
    }
}

/// Returns the socket that the daemon gave as standard input.
pub fn socket() -> io::Result<OwnedFd> {
    io::stdin().as_fd().try_clone_to_owned()
}

/// A panic in here may be a guest's doing: nothing of this process is trusted after one.
pub fn die_of_panics() {
    std::panic::set_hook(Box::new(|panic| abort_with(&panic.to_string())));
}

/// A fault outside of any guest ends the process. The engine's handlers pass on what is no guest's to those that were there
/// before: Rust's own would ask for the default action, which the jail does not let it have, and fault again for ever.
pub fn die_of_faults() -> io::Result<()> {
    extern "C" fn die(_signal: c_int) {
        const LAST_WORDS: &[u8] = b"a fault outside of any guest\n";
        // SAFETY: both are made for handlers of signals; the bytes live for ever.
        unsafe {
            libc::write(libc::STDERR_FILENO, LAST_WORDS.as_ptr().cast(), LAST_WORDS.len());
            libc::abort()
        }
    }
    let action = SigAction::new(SigHandler::Handler(die), SaFlags::SA_ONSTACK, SigSet::empty());
    for signal in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE] {
        // SAFETY: the handler does nothing that a handler may not.
        unsafe { sigaction(signal, &action)? };
    }
    Ok(())
}

fn abort_with(why: &str) -> ! {
    eprintln!("{why}");
    std::process::abort()
}
