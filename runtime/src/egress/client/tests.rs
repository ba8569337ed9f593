//! Real requests to upstreams on loopback addresses, with names from a name server of our own.

mod connections;
mod http1;
mod http2;
mod names;
mod responses;
mod tls;
mod world;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use tokio::sync::mpsc;

use super::{
    super::{error::BodyError, reply::Piece, request::RawRequest, rule::Rule},
    *,
};

/// Header fields of a guest.
type Fields = &'static [(&'static str, &'static str)];

/// What a guest's body is made of.
type Frames = Vec<Result<Frame<Bytes>, BodyError>>;

/// A route for one host, to all of 127.0.0.0/8; `more` is added to the rule.
fn route(upstream: SocketAddr, scheme: &str, host: &str, more: &str) -> Route {
    let text = format!(
        "name = \"test\"\nscheme = \"{scheme}\"\nhost = \"{host}\"\nport = {}\nmethods = [\"GET\", \"HEAD\", \"POST\"]\n{more}",
        upstream.port()
    );
    let text = if more.contains("cidrs") { text } else { format!("cidrs = [\"127.0.0.0/8\"]\n{text}") };
    let rule: Rule = toml::from_str(&text).unwrap();
    rule.check().unwrap();
    Route::of(&rule)
}

fn request(route: &Route, method: &str, target: &str, headers: &[(&str, &str)], body: bool) -> Request {
    // "GET, HEAD, POST http://api.test:80/**"
    let words = route.in_words();
    let (scheme, rest) = words.rsplit(' ').next().unwrap().split_once("://").unwrap();
    let raw = RawRequest {
        method: method.into(),
        scheme: scheme.into(),
        authority: rest.split_once('/').unwrap().0.into(),
        path_with_query: target.into(),
        headers: headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect(),
        body,
    };
    let request = Request::parse(raw).unwrap();
    route.admits(&request).unwrap();
    request
}

fn nothing() -> RequestBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn bytes(text: &'static str) -> RequestBody {
    Full::from(text).map_err(|never| match never {}).boxed_unsync()
}

/// A body that is sent frame by frame. Dropping the sender is its end.
fn frames() -> (mpsc::Sender<Result<Frame<Bytes>, BodyError>>, RequestBody) {
    let (sender, receiver) = mpsc::channel(1);
    let next = |mut receiver: mpsc::Receiver<_>| async { receiver.recv().await.map(|frame| (frame, receiver)) };
    (sender, StreamBody::new(futures::stream::unfold(receiver, next)).boxed_unsync())
}

fn data(text: &'static str) -> Result<Frame<Bytes>, BodyError> {
    Ok(Frame::data(text.into()))
}

fn outgoing(route: &Route, request: Request, body: RequestBody) -> Outgoing {
    let (tenant, route, attachment) = (String::from("acme"), route.clone(), Attachment::default());
    Outgoing { tenant, timeouts: *route.timeouts(), route, request, attachment, body, repeatable: false }
}

fn get(route: &Route) -> Outgoing {
    outgoing(route, request(route, "GET", "/", &[], false), nothing())
}

/// Reads a whole body.
async fn whole(mut reply: Reply) -> Result<Vec<u8>, SendError> {
    let mut all = Vec::new();
    while let Some(piece) = reply.body.next().await {
        match piece? {
            Piece::Data(data) => all.extend(data),
            Piece::Trailers(_) => {}
        }
    }
    Ok(all)
}

/// Sends, and returns how it failed, wherever it did.
async fn failure(egress: &Egress, outgoing: Outgoing) -> SendError {
    match egress.send(outgoing).await {
        Ok(reply) => whole(reply).await.expect_err("the exchange is whole"),
        Err(error) => error,
    }
}
