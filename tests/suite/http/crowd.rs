//! A thousand requests at once.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{ALL, answered, streams::resident};
use crate::harness::Daemon;

const STEPS: usize = 50;
const EACH: usize = 20;

/// What a request under way may cost the daemon beside its bodies, of which there are none here. The most that one can
/// cost is `EXCHANGE_BYTES_MAX`.
const BYTES_EACH: usize = 128 << 10;

/// Answers nobody before so many have asked, and from then on everybody.
#[derive(Clone)]
struct Holding {
    address: SocketAddr,
    until: Arc<Mutex<usize>>,
    asked: watch::Sender<usize>,
    under_way: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Holding {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let holding = Self {
            address: listener.local_addr().unwrap(),
            until: Arc::default(),
            asked: watch::Sender::new(0),
            under_way: Arc::default(),
            most: Arc::default(),
        };
        let serving = holding.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        holding
    }

    /// Begins another round.
    fn hold_until(&self, asked: usize) {
        *self.until.lock().unwrap() = asked;
        self.asked.send_replace(0);
        self.most.store(0, Ordering::SeqCst);
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut head = Vec::new();
        while let Ok(1..) = stream.read_buf(&mut head).await {
            if !head.ends_with(b"\r\n\r\n") {
                continue;
            }
            head.clear();
            self.most.fetch_max(self.under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            self.asked.send_modify(|asked| *asked += 1);
            let until = *self.until.lock().unwrap();
            self.asked.subscribe().wait_for(|asked| *asked >= until).await.unwrap();
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            if stream.write_all(b"HTTP/1.1 200 -\r\ncontent-length: 0\r\n\r\n").await.is_err() {
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_of_fifty_steps_are_under_way_at_once_and_again() {
    let upstream = Holding::start().await;
    let (ip, port) = (upstream.address.ip(), upstream.address.port());
    let rule = |name: &str, concurrency: usize| {
        format!(
            "[[egress]]\nname = \"{name}\"\nscheme = \"http\"\nhost = \"{ip}\"\nport = {port}\ncidrs = [\"{ip}/32\"]\n\
             paths = [\"/{name}\"]\nconcurrency = {concurrency}\nrate = {{ requests = 100_000, seconds = 60 }}\n"
        )
    };
    let config = format!("{}{}", rule("wide", STEPS * EACH), rule("tight", 100));
    let daemon = Daemon::governed(ALL, &config).await;
    daemon.agent("[[egress]]\nrule = \"wide\"\n[[egress]]\nrule = \"tight\"\n").await.unwrap();
    daemon.ask(json!([])).await;
    let before = resident(&daemon);
    let round = async |path: &str, held: usize| {
        upstream.hold_until(held);
        let request = json!({ "scheme": "http", "authority": upstream.address.to_string(), "path": path });
        let acts = json!([{ "http-many": { "requests": vec![request; EACH] } }]);
        let steps = futures::future::join_all((0..STEPS).map(|_| daemon.ask(acts.clone())));
        let all_asked = async {
            upstream.asked.subscribe().wait_for(|asked| *asked >= held).await.unwrap();
            resident(&daemon)
        };
        let (said, resident) = tokio::join!(steps, all_asked);
        for said in said {
            let outcomes = answered(&said[0]);
            assert_eq!(outcomes.as_array().unwrap().len(), EACH);
            assert!(outcomes.as_array().unwrap().iter().all(|outcome| outcome["status"] == 200), "{outcomes}");
        }
        (resident.saturating_sub(before), upstream.most.load(Ordering::SeqCst))
    };
    for _ in 0..2 {
        let (grown, most) = round("/wide", STEPS * EACH).await;
        assert_eq!(most, STEPS * EACH);
        assert!(grown < STEPS * EACH * BYTES_EACH, "it grew by {} KiB for each", (grown >> 10) / (STEPS * EACH));
    }
    let (_, most) = round("/tight", 100).await;
    assert_eq!(most, 100, "the rule's concurrency holds, and all of it is used");
    assert_eq!(daemon.records(&["denial"]).await.len(), 0);
}
