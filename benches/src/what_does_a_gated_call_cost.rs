//! What does a host call through the gate cost a step, beside a bare round trip between two processes?

use std::{
    fs::File,
    io::Write as _,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream as StdUnixStream,
    },
    path::Path,
    process::{Child, Command},
    time::Instant,
};

use palisade_proto::v1::{self, steps_client::StepsClient};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};
use tonic::transport::Channel;

use crate::{
    governed, home, load,
    report::{Goal, Report, Row, quantile},
};

/// Bytes of a bare round trip, each way.
const BYTES: usize = 64;
const TRIPS: usize = 1_000;
const ROUNDS: usize = 15;

pub async fn measure(report: &mut Report) -> anyhow::Result<()> {
    let dir = home()?;
    let daemon = governed::start(&dir, "durable").await?;
    let steps = StepsClient::new(load::connect(&daemon.address).await?);
    let mut peer = Peer::start()?;
    let goal = Goal::AtMost(2.0);
    let nothing = json!({ "memory-get": { "space": "notes", "key": "none" } });
    // The records of 30 calls are under way to the disk while the step goes on; those of 1,000 hold it up.
    let reads = [
        ("tools.list", json!("list-tools"), 30, goal),
        ("memory.get of nothing", nothing, 30, goal),
        ("memory.get", governed::get(), 30, goal),
        ("memory.get, 1,000 in a row", governed::get(), 1_000, Goal::None),
        ("tools.call", governed::call(), 30, Goal::None),
    ];
    for (what, act, count, goal) in reads {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(per_call(&steps, &act, count).await?);
            theirs.push(peer.round_trip().await?);
        }
        report.add(row(format!("{what} : socketpair round trip"), ours, theirs, count, goal));
    }
    // Its intent is on the disk before it acts, and the value is before it answers.
    let (count, mut ours, mut theirs) = (20, Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(per_call(&steps, &governed::put(), count).await?);
        theirs.push(synced_write(dir.path(), count)?);
    }
    report.add(row("memory.put : write + fdatasync".into(), ours, theirs, count, Goal::None));
    Ok(())
}

/// Returns the row of the rounds' medians.
fn row(what: String, mut ours: Vec<f64>, mut theirs: Vec<f64>, count: u64, goal: Goal) -> Row {
    let samples = ours.len() * count as usize;
    let (ours, theirs) = (quantile(&mut ours, 0.5), quantile(&mut theirs, 0.5));
    Row { id: "G2".into(), what, ours, theirs, unit: "µs", samples, goal }
}

/// Returns the microseconds that one call adds to a step, by the worker's clock.
async fn per_call(steps: &StepsClient<Channel>, act: &Value, count: u64) -> anyhow::Result<f64> {
    let without = wall_us(steps, act, 0).await?;
    let with = wall_us(steps, act, count).await?;
    Ok((with - without) / count as f64)
}

async fn wall_us(steps: &StepsClient<Channel>, act: &Value, count: u64) -> anyhow::Result<f64> {
    let budget = v1::Budget { host_calls: Some(10_000), tool_calls: Some(10_000), ..Default::default() };
    let repeat = json!([{ "repeat": { "count": count, "act": act } }]);
    let request = v1::RunStepRequest { budget: Some(budget), ..governed::request(&repeat) };
    let result = load::run(steps.clone(), request).await?;
    let wall = result.usage.and_then(|usage| usage.wall_time).unwrap_or_default();
    Ok(wall.seconds as f64 * 1e6 + f64::from(wall.nanos) / 1e3)
}

/// Returns the microseconds of one write that waits for the disk.
fn synced_write(dir: &Path, count: u64) -> anyhow::Result<f64> {
    let mut file = File::create(dir.join("written"))?;
    let start = Instant::now();
    for _ in 0..count {
        file.write_all(&[0; BYTES])?;
        file.sync_data()?;
    }
    Ok(start.elapsed().as_secs_f64() * 1e6 / count as f64)
}

/// The other end of a socketpair: this program again, as a worker is to the daemon. It ends with its socket.
struct Peer {
    socket: Option<UnixStream>,
    child: Child,
}

impl Peer {
    fn start() -> anyhow::Result<Self> {
        let (ours, theirs) = StdUnixStream::pair()?;
        let child = Command::new(std::env::current_exe()?).arg("answer").stdin(OwnedFd::from(theirs)).spawn()?;
        ours.set_nonblocking(true)?;
        Ok(Self { socket: Some(UnixStream::from_std(ours)?), child })
    }

    /// Returns the microseconds of a round trip, one after the other.
    async fn round_trip(&mut self) -> anyhow::Result<f64> {
        let Some(mut socket) = self.socket.take() else { anyhow::bail!("the other end is gone") };
        // As a task of its own, as in the daemon: what `block_on` polls is a hop away from where sockets are polled.
        let trips = tokio::spawn(async move {
            let mut words = [0; BYTES];
            let start = Instant::now();
            for _ in 0..TRIPS {
                socket.write_all(&words).await?;
                socket.read_exact(&mut words).await?;
            }
            let took = start.elapsed().as_secs_f64() * 1e6 / TRIPS as f64;
            anyhow::Ok((socket, took))
        });
        let (socket, took) = trips.await??;
        self.socket = Some(socket);
        Ok(took)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.socket = None;
        let _ = self.child.wait(); // fails if it was waited for already
    }
}

/// Sends back what comes through standard input, which is a socket, until that is closed.
pub async fn answer() -> anyhow::Result<()> {
    let socket = StdUnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    socket.set_nonblocking(true)?;
    let mut socket = UnixStream::from_std(socket)?;
    let mut words = [0; BYTES];
    while socket.read_exact(&mut words).await.is_ok() {
        socket.write_all(&words).await?;
    }
    Ok(())
}
