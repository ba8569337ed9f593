//! What an upstream answers: the first byte says whether to a HEAD, a GET or a POST; the rest are its bytes on a
//! connection over HTTP/1.1. It is refused, or is one response: within its bounds, as long as it says, and without what
//! is of the connection only.
#![no_main]

use std::{net::SocketAddr, sync::LazyLock, time::Duration};

use http_body_util::{BodyExt as _, Empty};
use libfuzzer_sys::fuzz_target;
use palisade::egress::{
    Attachment, Egress, Outgoing, Piece, RawRequest, Request, Route, Rule, Settings,
    headers::{FIELDS_MAX, content_length, is_forbidden_trailer},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    runtime::Runtime,
};

const BODY_BYTES_MAX: usize = 2048;
const OF_THE_CONNECTION: [&str; 5] = ["connection", "keep-alive", "te", "transfer-encoding", "upgrade"];

struct World {
    runtime: Runtime,
    upstream: TcpListener,
    address: SocketAddr,
    route: Route,
    egress: Egress,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let entered = runtime.enter();
    let upstream = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a socket");
    let address = upstream.local_addr().expect("an address");
    let rule = format!(
        "name = \"fuzz\"\nscheme = \"http\"\nhost = \"127.0.0.1\"\nport = {}\nmethods = [\"GET\", \"HEAD\", \"POST\"]\n\
         cidrs = [\"127.0.0.0/8\"]\nresponse_bytes = {BODY_BYTES_MAX}\n",
        address.port()
    );
    let rule: Rule = toml::from_str(&rule).expect("a rule");
    let settings = Settings {
        names: false,
        dns_servers: Vec::new(),
        ca_files: Vec::new(),
        own: Vec::new(),
        connections: 4,
        idle: Duration::from_secs(1),
    };
    let egress = Egress::new(settings).expect("no names are looked up");
    drop(entered);
    World { route: Route::of(&rule), runtime, upstream, address, egress }
});

fuzz_target!(|data: &[u8]| {
    let Some((method, bytes)) = data.split_first() else { return };
    let method = ["HEAD", "GET", "POST"][usize::from(method % 3)];
    WORLD.runtime.block_on(async {
        tokio::join!(answer(bytes), ask(method));
    });
});

/// Answers one connection with these bytes, whatever it asks.
async fn answer(bytes: &[u8]) {
    let Ok((mut stream, _)) = WORLD.upstream.accept().await else { return };
    let mut head = [0; 1024];
    // Either side may have enough at any time.
    let _ = stream.read(&mut head).await;
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    while stream.read(&mut head).await.is_ok_and(|count| count > 0) {}
}

async fn ask(method: &str) {
    let World { route, egress, address, .. } = &*WORLD;
    let raw = RawRequest {
        method: method.into(),
        scheme: "http".into(),
        authority: address.to_string(),
        path_with_query: "/".into(),
        headers: Vec::new(),
        body: false,
    };
    let outgoing = Outgoing {
        tenant: "fuzz".into(),
        route: route.clone(),
        request: Request::parse(raw).expect("a request"),
        timeouts: *route.timeouts(),
        attachment: Attachment::default(),
        body: Empty::new().map_err(|never| match never {}).boxed_unsync(),
        repeatable: false,
    };
    if let Ok(mut reply) = egress.send(outgoing).await {
        assert_ne!(reply.status, 101);
        assert!(reply.headers.len() <= FIELDS_MAX);
        assert!(OF_THE_CONNECTION.iter().all(|name| !reply.headers.contains_key(*name)), "{:?}", reply.headers);
        let said = content_length(&reply.headers).expect("a length is one number");
        let (mut bytes, mut whole) = (0, true);
        while let Some(piece) = reply.body.next().await {
            match piece {
                Ok(Piece::Data(data)) => bytes += data.len(),
                Ok(Piece::Trailers(trailers)) => assert!(!trailers.keys().any(is_forbidden_trailer), "{trailers:?}"),
                Err(_) => whole = false,
            }
        }
        assert!(bytes <= BODY_BYTES_MAX);
        let bodiless = method == "HEAD" || matches!(reply.status, 204 | 304);
        assert!(!bodiless || bytes == 0);
        assert!(bodiless || !whole || said.is_none_or(|said| said == bytes as u64), "{said:?} said, {bytes} came");
    }
    egress.forget();
}
