//! HTTP/2 by hyper.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::{Piece, Reply, Seen, State, Stream};

/// Serves one connection until either side ends it.
pub async fn serve(state: Arc<State>, id: usize, stream: impl Stream + 'static) {
    let service = service_fn(move |request| answer(state.clone(), id, request));
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).max_header_list_size(1 << 20);
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

type Body = StreamBody<stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

async fn answer(state: Arc<State>, id: usize, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (parts, mut body) = request.into_parts();
    let mut headers = vec![
        (":scheme".to_owned(), parts.uri.scheme_str().unwrap_or_default().into()),
        (":authority".to_owned(), parts.uri.authority().map(|authority| authority.as_str()).unwrap_or_default().into()),
    ];
    headers.extend(plain(&parts.headers));
    let target = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let mut head = format!("{} {target} HTTP/2\r\n", parts.method).into_bytes();
    for (name, value) in &headers {
        head.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    let sni = state.of(id).sni;
    state.change(id, |connection| connection.bytes.extend(&head));
    let at = state.keep(Seen {
        connection: id,
        sni,
        protocol: "h2",
        method: parts.method.to_string(),
        target,
        headers,
        head,
        body: Vec::new(),
        trailers: Vec::new(),
        complete: false,
    });
    let mut whole = true;
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => {
                state.complete(at, |seen| seen.body.extend(&data));
                state.change(id, |connection| connection.bytes.extend(&data));
            }
            Ok(Err(frame)) => {
                let trailers = frame.trailers_ref().map(plain).unwrap_or_default();
                state.complete(at, |seen| seen.trailers = trailers);
            }
            // It would say so for ever.
            Err(_) => {
                whole = false;
                break;
            }
        }
    }
    let seen = state.complete(at, |seen| seen.complete = whole);
    let Reply::Answer { status, headers, body, trailers } = (state.handler(seen.path()).1)(&seen) else {
        panic!("raw bytes are for HTTP/1.1: serve {} without h2", seen.path());
    };
    let mut end = HeaderMap::new();
    for (name, value) in trailers {
        end.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, HeaderValue::from_bytes(&value).unwrap());
    }
    // hyper sends what it is given, also to a HEAD.
    let (body, end) = if seen.method == "HEAD" { (Vec::new(), HeaderMap::new()) } else { (body, end) };
    Ok(response.body(StreamBody::new(frames(body, end))).unwrap())
}

fn frames(pieces: Vec<Piece>, end: HeaderMap) -> stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>> {
    let end = (!end.is_empty()).then_some(end);
    let frames = stream::unfold((pieces.into_iter().peekable(), end), |(mut pieces, mut end)| async move {
        loop {
            // What has not ended is not taken off.
            let data = match pieces.peek_mut() {
                None => return Some((Frame::trailers(end.take()?), (pieces, end))),
                Some(Piece::Forever(bytes)) => return Some((Frame::data(bytes.clone().into()), (pieces, end))),
                Some(Piece::Drip(bytes, every)) if !bytes.is_empty() => {
                    tokio::time::sleep(*every).await;
                    return Some((Frame::data(vec![bytes.remove(0)].into()), (pieces, end)));
                }
                Some(Piece::Wait(gate)) => {
                    gate.clone().opened().await;
                    None
                }
                Some(Piece::Hang) => std::future::pending().await,
                Some(Piece::Bytes(bytes)) => Some(std::mem::take(bytes)),
                Some(Piece::Drip(..) | Piece::Close) => None,
            };
            pieces.next();
            if let Some(data) = data {
                return Some((Frame::data(data.into()), (pieces, end)));
            }
        }
    });
    Box::pin(futures::StreamExt::map(frames, Ok))
}

fn plain(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}
