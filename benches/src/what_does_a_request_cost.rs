//! What does a request over HTTP cost through the gate, beside the same request by an HTTP client of the host's, to the
//! same server?

use std::{
    convert::Infallible,
    fs,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::Bytes;
use futures::future::try_join_all;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::{client::conn::http1 as client, server::conn::http1 as server, service::service_fn};
use hyper_util::rt::TokioIo;
use palisade_proto::v1::{
    self, agents_client::AgentsClient, output_chunk::Stream, run_step_response::Message, step_event,
    step_result::Outcome, steps_client::StepsClient,
};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::Channel;

use crate::{
    Server, guest, home,
    load::{self, Round},
    report::{Goal, Report, Row, quantile},
};

/// Bytes of the response's body.
const BYTES: usize = 1 << 10;
const PATH: &str = "/kibibyte";

/// Rounds of the two alternate, so that a noisy moment hits both.
const ROUND: Duration = Duration::from_millis(600);
const ROUNDS: usize = 5;

/// Steps, and requests of each that are under way: a step can have 24.
const SHAPES: [(usize, usize); 2] = [(1, 1), (4, 16)];

/// What a request may cost of the plain one's time, and the share of its throughput that this leaves.
const LATENCY: f64 = 1.5;
const THROUGHPUT: f64 = 0.67;

const MANIFEST: &str = r#"
name = "fetches"
version = "1"
component = "fetches"
owner = "benches"
powers = ["http"]
[[egress]]
rule = "upstream"
"#;

const POLICIES: &str = r#"
@id("run") permit (principal, action == Palisade::Action::"RunStep", resource);
@id("get")
permit (principal == Palisade::Agent::"fetches", action == Palisade::Action::"SendRequest",
    resource == Palisade::Host::"127.0.0.1")
when { context.rule == "upstream" && context.method == "GET" };
"#;

pub async fn measure(report: &mut Report) -> anyhow::Result<()> {
    let upstream = Server::upstream()?;
    for acknowledge in ["asynchronous", "durable"] {
        let dir = home()?;
        let daemon = start(&dir, acknowledge, &upstream.address).await?;
        let steps = StepsClient::new(load::connect(&daemon.address).await?);
        for (count, at_once) in SHAPES {
            let mut plain = Plain::connect(&upstream.address, count * at_once).await?;
            let gated = || gated(&steps, &upstream.address, count, at_once);
            gated().await?;
            plain.round().await?;
            let (mut ours, mut theirs) = (Rounds::default(), Rounds::default());
            for _ in 0..ROUNDS {
                ours.add(gated().await?);
                theirs.add(plain.round().await?);
            }
            let what = format!("GET of 1 KiB, {acknowledge} : hyper");
            compare(report, &what, count * at_once, ours, theirs);
        }
    }
    Ok(())
}

#[derive(Default)]
struct Rounds {
    latencies_us: Vec<f64>,
    rates: Vec<f64>,
}

impl Rounds {
    fn add(&mut self, round: Round) {
        self.latencies_us.extend(round.latencies_us);
        self.rates.push(round.calls_per_second);
    }
}

/// One under way, the goal is about the median; with more, about the throughput.
fn compare(report: &mut Report, what: &str, in_flight: usize, mut ours: Rounds, mut theirs: Rounds) {
    let samples = ours.latencies_us.len();
    let row = |name: &str, (ours, theirs), unit, goal| Row {
        id: format!("G5 {name} at {in_flight}"),
        what: what.into(),
        ours,
        theirs,
        unit,
        samples,
        goal,
    };
    let (median, throughput) =
        if in_flight == 1 { (Goal::AtMost(LATENCY), Goal::None) } else { (Goal::None, Goal::AtLeast(THROUGHPUT)) };
    let p50 = (quantile(&mut ours.latencies_us, 0.5), quantile(&mut theirs.latencies_us, 0.5));
    report.add(row("p50", p50, "µs", median));
    let rates = (quantile(&mut ours.rates, 0.5), quantile(&mut theirs.rates, 0.5));
    report.add(row("throughput", rates, "requests/s", throughput));
}

/// Starts a daemon in `dir` whose agent may get from the upstream.
async fn start(dir: &TempDir, acknowledge: &str, upstream: &str) -> anyhow::Result<Server> {
    let (config, policies) = (dir.path().join("palisade.toml"), dir.path().join("policies"));
    let (_, port) = upstream.rsplit_once(':').context("no port")?;
    let rule = format!(
        r#"
[journal]
acknowledge = "{acknowledge}"
[[egress]]
name = "upstream"
scheme = "http"
host = "127.0.0.1"
port = {port}
cidrs = ["127.0.0.1/32"]
rate = {{ requests = 1_000_000_000, seconds = 1 }}
concurrency = 1_000
"#
    );
    fs::write(&config, rule)?;
    fs::create_dir(&policies)?;
    fs::write(policies.join("bench.cedar"), POLICIES)?;
    let daemon = Server::serve(dir, |serve| serve.arg("--config").arg(config).arg("--policies").arg(&policies))?;
    load::push(&daemon.address, &guest("fetches"), "fetches").await?;
    let agent = v1::RegisterAgentRequest { manifest: MANIFEST.into(), ..Default::default() };
    AgentsClient::new(load::connect(&daemon.address).await?).register_agent(agent).await?;
    Ok(daemon)
}

/// What the guest says of its requests.
#[derive(Deserialize)]
struct Said {
    latencies_ns: Vec<u64>,
    bytes: usize,
    took_ns: u64,
}

/// Sends requests for a round, from so many steps. Each step times its own: how it starts and ends does not count.
async fn gated(steps: &StepsClient<Channel>, upstream: &str, count: usize, at_once: usize) -> anyhow::Result<Round> {
    let said = try_join_all((0..count).map(|_| step(steps.clone(), upstream, at_once))).await?;
    let mut round = Round { latencies_us: Vec::new(), calls_per_second: 0.0 };
    for Said { latencies_ns, bytes, took_ns } in said {
        anyhow::ensure!(bytes == latencies_ns.len() * BYTES, "{bytes} bytes of {} responses", latencies_ns.len());
        round.calls_per_second += latencies_ns.len() as f64 / (took_ns as f64 / 1e9);
        round.latencies_us.extend(latencies_ns.into_iter().map(|ns| ns as f64 / 1e3));
    }
    Ok(round)
}

/// Runs one step, to what it says.
async fn step(mut steps: StepsClient<Channel>, upstream: &str, at_once: usize) -> anyhow::Result<Said> {
    let budget = v1::Budget { host_calls: Some(100_000), bytes_in: Some(1 << 30), ..Default::default() };
    let args = [upstream, PATH, &ROUND.as_millis().to_string(), &at_once.to_string()];
    let request = v1::RunStepRequest {
        agent: "fetches".into(),
        args: args.map(String::from).into(),
        budget: Some(budget),
        ..Default::default()
    };
    let mut messages = steps.run_step(request).await?.into_inner();
    let (mut output, mut result) = (Vec::new(), None);
    while let Some(message) = messages.message().await? {
        match message.message {
            Some(Message::Event(v1::StepEvent { kind: Some(step_event::Kind::Output(chunk)), .. }))
                if chunk.stream() == Stream::Stdout =>
            {
                output.extend_from_slice(&chunk.data);
            }
            Some(Message::Result(ended)) => result = Some(ended),
            _ => {}
        }
    }
    let result = result.context("the step has no result")?;
    anyhow::ensure!(result.outcome() == Outcome::Succeeded, "the step ended with {result:?}");
    Ok(serde_json::from_slice(&output)?)
}

type Sender = client::SendRequest<Empty<Bytes>>;

/// Connections of a plain client, each for one request at a time.
struct Plain {
    authority: String,
    connections: Vec<Sender>,
}

impl Plain {
    async fn connect(authority: &str, count: usize) -> anyhow::Result<Self> {
        let mut connections = Vec::new();
        for _ in 0..count {
            let tcp = TcpStream::connect(authority).await?;
            tcp.set_nodelay(true)?;
            let (sender, connection) = client::handshake(TokioIo::new(tcp)).await?;
            tokio::spawn(connection);
            connections.push(sender);
        }
        Ok(Self { authority: authority.into(), connections })
    }

    /// Sends requests for a round, on every connection one after another.
    async fn round(&mut self) -> anyhow::Result<Round> {
        // As tasks of their own, as in the daemon: what `block_on` polls is a hop away from where sockets are polled.
        let tasks: Vec<_> = self
            .connections
            .drain(..)
            .map(|sender| tokio::spawn(again_and_again(sender, self.authority.clone())))
            .collect();
        let mut all = Round { latencies_us: Vec::new(), calls_per_second: 0.0 };
        for ended in try_join_all(tasks).await? {
            let (sender, round) = ended?;
            self.connections.push(sender);
            all.latencies_us.extend(round.latencies_us);
            all.calls_per_second += round.calls_per_second;
        }
        Ok(all)
    }
}

async fn again_and_again(mut sender: Sender, authority: String) -> anyhow::Result<(Sender, Round)> {
    let start = Instant::now();
    let mut latencies_us = Vec::new();
    while start.elapsed() < ROUND {
        let start = Instant::now();
        sender.ready().await?;
        let request = Request::get(PATH).header(header::HOST, &authority).body(Empty::new())?;
        let response = sender.send_request(request).await?;
        let bytes = response.into_body().collect().await?.to_bytes().len();
        anyhow::ensure!(bytes == BYTES, "a response of {bytes} bytes");
        latencies_us.push(start.elapsed().as_secs_f64() * 1e6);
    }
    let calls_per_second = latencies_us.len() as f64 / start.elapsed().as_secs_f64();
    Ok((sender, Round { latencies_us, calls_per_second }))
}

/// Answers every request with the same bytes, until it is killed.
pub async fn serve_upstream() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        tokio::spawn(async move {
            let service = service_fn(|_| async {
                let mut response = Response::new(Full::new(Bytes::from_static(&[b'x'; BYTES])));
                let media_type = header::HeaderValue::from_static("application/octet-stream");
                response.headers_mut().insert(header::CONTENT_TYPE, media_type);
                Ok::<_, Infallible>(response)
            });
            // Fails when the other side goes away.
            let _ = server::Builder::new().serve_connection(TokioIo::new(tcp), service).await;
        });
    }
}
