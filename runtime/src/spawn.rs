//! The one thread that starts programs.
//!
//! The daemon's other threads have a filter of system calls that lets them start none, and whatever they could start would
//! inherit it. This thread is there before the filter is. It lives as long as the daemon: the parent-death signal of the
//! jailed processes is sent when the *thread* that forked ends, and the runtime's threads come and go.

use std::{io, sync::OnceLock, thread};

use tokio::{
    process::{Child, Command},
    runtime::Handle,
    sync::{mpsc, oneshot},
};

struct Order {
    command: Command,
    runtime: Handle,
    reply: oneshot::Sender<io::Result<Child>>,
}

static ORDERS: OnceLock<mpsc::UnboundedSender<Order>> = OnceLock::new();

/// Starts the thread, if it does not run.
pub fn start() -> io::Result<()> {
    if ORDERS.get().is_some() {
        return Ok(());
    }
    let (orders, mut queue) = mpsc::unbounded_channel::<Order>();
    if ORDERS.set(orders).is_err() {
        return Ok(());
    }
    let serve = move || {
        while let Some(Order { mut command, runtime, reply }) = queue.blocking_recv() {
            let _entered = runtime.enter();
            let _ = reply.send(command.spawn()); // whoever ordered may have given up
        }
    };
    thread::Builder::new().name("spawner".into()).spawn(serve).map(drop)
}

/// Starts a program.
pub async fn spawn(command: Command) -> io::Result<Child> {
    start()?; // a test may be the first
    let gone = || io::Error::other("the thread that starts programs is gone");
    let (reply, answer) = oneshot::channel();
    let orders = ORDERS.get().ok_or_else(gone)?;
    orders.send(Order { command, runtime: Handle::current(), reply }).map_err(|_| gone())?;
    answer.await.map_err(|_| gone())?
}
