//! HTTP/2: many requests on one connection, and how each of them ends alone.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderName};
use tokio::sync::Notify;

use super::{
    super::super::connection::STREAMS_MAX,
    world::{Authority, Names, Upstream, egress},
    *,
};

/// A request as an upstream has it.
struct Asked {
    request: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
    /// From 0, over all connections.
    number: usize,
}

impl Asked {
    /// Sends the header of a response.
    fn begin(&mut self, end: bool) -> h2::SendStream<Bytes> {
        self.respond.send_response(Response::new(()), end).unwrap()
    }

    fn answer(mut self) {
        self.begin(false).send_data("hi".into(), true).unwrap();
    }

    /// Reads the request's body, and returns how it ended.
    async fn body(&mut self) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
        let (body, mut all) = (self.request.body_mut(), Vec::new());
        while let Some(data) = body.data().await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            all.extend(data);
        }
        Ok((all, body.trailers().await?))
    }
}

async fn world<F, S>(connections: usize, more: &str, script: S) -> (Egress, Route, Upstream)
where
    F: Future<Output = ()> + Send + 'static,
    S: Fn(Asked) -> F + Clone + Send + Sync + 'static,
{
    let authority = Authority::new();
    let acceptor = authority.server(authority.prove("api.test"), &["h2"], false);
    let count = Arc::new(AtomicUsize::new(0));
    let connection = move |stream, _| {
        let (acceptor, script, count) = (acceptor.clone(), script.clone(), count.clone());
        async move {
            let stream = acceptor.accept(stream).await.unwrap();
            let mut connection =
                h2::server::Builder::new().max_concurrent_streams(100).handshake(stream).await.unwrap();
            while let Some(Ok((request, respond))) = connection.accept().await {
                let asked = Asked { request, respond, number: count.fetch_add(1, SeqCst) };
                tokio::spawn(script(asked));
            }
        }
    };
    let (names, upstream) = (Names::start().await, Upstream::start("127.0.0.2", connection).await);
    names.set("api.test", &["127.0.0.2"]);
    let route = route(upstream.address, "https", "api.test", more);
    (egress(&names, Some(&authority), connections), route, upstream)
}

fn trailers(name: &'static str) -> HeaderMap {
    [(HeaderName::from_static(name), HeaderValue::from_static("1"))].into_iter().collect()
}

#[tokio::test]
async fn requests_ride_one_connection_by_the_name_that_was_judged() {
    let (seen, mut asked) = mpsc::channel(8);
    let (egress, route, upstream) = world(4, "", move |request: Asked| {
        let seen = seen.clone();
        async move {
            seen.send((request.request.uri().clone(), request.request.headers().clone())).await.unwrap();
            request.answer();
        }
    })
    .await;
    for reused in [false, true] {
        let mut outgoing = get(&route);
        outgoing.attachment.headers = vec![(http::header::AUTHORIZATION, HeaderValue::from_static("Bearer x"))];
        let reply = egress.send(outgoing).await.unwrap();
        assert_eq!((reply.protocol, reply.reused), ("h2", reused));
        assert_eq!(whole(reply).await.unwrap(), b"hi");
        let (uri, headers) = asked.recv().await.unwrap();
        assert_eq!(uri.to_string(), format!("https://api.test:{}/", upstream.address.port()));
        assert_eq!((headers.len(), headers["authorization"].as_bytes()), (1, b"Bearer x".as_slice()));
    }
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn bodies_and_trailers_go_both_ways() {
    let (egress, route, _upstream) = world(4, "", |mut asked: Asked| async move {
        let (body, end) = asked.body().await.unwrap();
        let mut stream = asked.begin(false);
        stream.send_data(body.into(), false).unwrap();
        let mut end = end.unwrap();
        end.extend(trailers("set-cookie"));
        stream.send_trailers(end).unwrap();
    })
    .await;
    let (sender, body) = frames();
    let request = request(&route, "POST", "/", &[], true);
    let sending = async {
        sender.send(data("ab")).await.unwrap();
        sender.send(data("cd")).await.unwrap();
        sender.send(Ok(Frame::trailers(trailers("x-sum")))).await.unwrap();
    };
    let (reply, ()) = tokio::join!(egress.send(outgoing(&route, request, body)), sending);
    let mut reply = reply.unwrap();
    assert_eq!(reply.body.next().await, Some(Ok(Piece::Data("abcd".into()))));
    // What would be believed too late is taken away.
    assert_eq!(reply.body.next().await, Some(Ok(Piece::Trailers(trailers("x-sum")))));
    assert_eq!(reply.body.next().await, None);
}

#[tokio::test]
async fn a_body_that_breaks_resets_its_stream_alone() {
    let (ended, mut end) = mpsc::channel(8);
    let (egress, route, upstream) = world(4, "", move |mut asked: Asked| {
        let ended = ended.clone();
        async move {
            match asked.body().await {
                Ok(_) => asked.answer(),
                Err(error) => ended.send(error).await.unwrap(),
            }
        }
    })
    .await;
    let cases: [(Fields, Frames, &str); 3] = [
        (&[], vec![data("ab"), Err(BodyError("the guest left".into()))], "the guest left"),
        (&[("content-length", "5")], vec![data("ab")], "ended after 2 bytes"),
        (&[], vec![data("ab"), Ok(Frame::trailers(trailers("authorization")))], "`authorization`"),
    ];
    for (headers, frames_to_send, words) in cases {
        let (sender, body) = frames();
        let request = request(&route, "POST", "/", headers, true);
        let sending = async move {
            for frame in frames_to_send {
                let _ = sender.send(frame).await;
            }
        };
        let (error, ()) = tokio::join!(failure(&egress, outgoing(&route, request, body)), sending);
        assert!(error.code == Code::BodyBroken && error.sent && error.message.contains(words), "{error}");
        assert!(end.recv().await.unwrap().is_reset());
    }
    assert_eq!(whole(egress.send(get(&route)).await.unwrap()).await.unwrap(), b"hi");
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn whoever_gives_up_resets_the_stream_and_the_request_body_is_dropped() {
    let (ended, mut end) = mpsc::channel(8);
    let reached = Arc::new(Notify::new());
    let reach = reached.clone();
    let (egress, route, upstream) = world(1, "", move |mut asked: Asked| {
        let (ended, reach) = (ended.clone(), reach.clone());
        async move {
            match asked.number {
                // Before the response, and within it.
                0 => {
                    reach.notify_one();
                    ended.send(asked.body().await.map(|_| ())).await.unwrap();
                }
                1 => {
                    let mut stream = asked.begin(false);
                    stream.send_data("x".into(), false).unwrap();
                    ended.send(asked.body().await.map(|_| ())).await.unwrap();
                }
                _ => asked.answer(),
            }
        }
    })
    .await;
    let post = || {
        let (sender, body) = frames();
        (sender, outgoing(&route, request(&route, "POST", "/", &[], true), body))
    };
    let (sender, request) = post();
    tokio::select! {
        _ = egress.send(request) => panic!("there was no response"),
        () = reached.notified() => {}
    }
    sender.closed().await;
    assert!(end.recv().await.unwrap().unwrap_err().is_reset());
    let (sender, request) = post();
    let reply = egress.send(request).await.unwrap();
    drop(reply);
    sender.closed().await;
    assert!(end.recv().await.unwrap().unwrap_err().is_reset());
    assert_eq!(whole(egress.send(get(&route)).await.unwrap()).await.unwrap(), b"hi");
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn a_request_that_the_upstream_refused_to_look_at_is_sent_again() {
    let (egress, route, upstream) = world(4, "", |mut asked: Asked| async move {
        match asked.number {
            1 | 3 => asked.respond.send_reset(h2::Reason::REFUSED_STREAM),
            4 => asked.respond.send_reset(h2::Reason::INTERNAL_ERROR),
            _ => asked.answer(),
        }
    })
    .await;
    whole(egress.send(get(&route)).await.unwrap()).await.unwrap();
    let reply = egress.send(get(&route)).await.unwrap();
    assert_eq!((reply.attempts, reply.reused, upstream.accepted()), (2, false, 2));
    whole(reply).await.unwrap();
    // Its body is gone by then.
    let error = failure(&egress, outgoing(&route, request(&route, "POST", "/", &[], true), bytes("x"))).await;
    assert_eq!((error.code, error.sent), (Code::HttpProtocol, false), "{error}");
    let error = failure(&egress, get(&route)).await;
    assert_eq!((error.code, error.sent), (Code::HttpProtocol, true), "{error}");
}

#[tokio::test]
async fn slow_readers_do_not_keep_another_request_waiting() {
    let (egress, route, upstream) = world(1, "", |mut asked: Asked| async move {
        if asked.number >= STREAMS_MAX - 1 {
            return asked.answer();
        }
        let mut stream = asked.begin(false);
        stream.send_data(vec![b'x'; 1 << 20].into(), true).unwrap();
        // The stream stays until it is taken or reset.
        let _ = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
    })
    .await;
    let mut unread = Vec::new();
    for _ in 0..STREAMS_MAX - 1 {
        unread.push(egress.send(get(&route)).await.unwrap());
    }
    assert_eq!(whole(egress.send(get(&route)).await.unwrap()).await.unwrap(), b"hi");
    for reply in unread {
        assert_eq!(whole(reply).await.unwrap().len(), 1 << 20);
    }
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn a_request_waits_for_a_stream_when_there_is_no_room_for_a_connection() {
    let more = "timeouts = { connect_ms = 20000 }";
    let go = Arc::new(Notify::new());
    let wait = go.clone();
    let (egress, route, upstream) = world(1, more, move |asked: Asked| {
        let wait = wait.clone();
        async move {
            if asked.number < STREAMS_MAX {
                wait.notified().await;
            }
            asked.answer();
        }
    })
    .await;
    let send = || {
        let (egress, outgoing) = (egress.clone(), get(&route));
        tokio::spawn(async move { whole(egress.send(outgoing).await.unwrap()).await.unwrap() })
    };
    // The first makes the connection.
    let first = send();
    while upstream.accepted() == 0 {
        tokio::task::yield_now().await;
    }
    let all: Vec<_> = (0..3 * STREAMS_MAX).map(|_| send()).collect();
    for _ in 0..STREAMS_MAX {
        go.notify_one();
        tokio::task::yield_now().await;
    }
    let rescue = tokio::spawn(async move {
        loop {
            go.notify_one();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert_eq!(first.await.unwrap(), b"hi");
    for done in all {
        assert_eq!(done.await.unwrap(), b"hi");
    }
    rescue.abort();
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn headers_and_bodies_that_are_too_large_end_in_their_limit() {
    let (egress, route, upstream) = world(4, "response_bytes = 8", |mut asked: Asked| async move {
        let path = asked.request.uri().path().to_owned();
        let mut response = Response::new(());
        if path == "/head" {
            for number in 0..20 {
                let name = HeaderName::try_from(format!("x{number}")).unwrap();
                response.headers_mut().insert(name, HeaderValue::try_from("y".repeat(4000)).unwrap());
            }
        } else if path == "/fields" {
            for _ in 0..101 {
                response.headers_mut().append("x", HeaderValue::from_static("y"));
            }
        }
        let Ok(mut stream) = asked.respond.send_response(response, false) else { return };
        let _ = stream.send_data("123456789".into(), true);
        let _ = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
    })
    .await;
    let cases = [
        ("/head", Code::ResponseTooLarge, "65536 bytes"),
        ("/fields", Code::ResponseTooLarge, "100 fields"),
        ("/body", Code::ResponseTooLarge, "`response_bytes` of 8"),
    ];
    for (path, code, words) in cases {
        let request = request(&route, "GET", path, &[], false);
        let error = failure(&egress, outgoing(&route, request, nothing())).await;
        assert!(error.code == code && error.message.contains(words), "{path}: {error}");
    }
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn interim_responses_without_end_are_a_limit() {
    let more = "timeouts = { first_byte_ms = 10000 }";
    let (egress, route, _upstream) = world(4, more, |mut asked: Asked| async move {
        let mut early = Response::new(());
        *early.status_mut() = http::StatusCode::EARLY_HINTS;
        let mut long = HeaderValue::try_from("y".repeat(1000)).unwrap();
        // Not compressed.
        long.set_sensitive(true);
        early.headers_mut().insert("x", long);
        while asked.respond.send_informational(early.clone()).is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let error = failure(&egress, get(&route)).await;
    assert_eq!(error.code, Code::ResponseTooLarge, "{error}");
}

#[tokio::test]
async fn timeouts_hold_for_each_stream() {
    let more = "timeouts = { first_byte_ms = 80, idle_ms = 80 }";
    let (egress, route, upstream) = world(4, more, |mut asked: Asked| async move {
        match asked.request.uri().path() {
            "/silent" => drop(std::future::poll_fn(|cx| asked.respond.poll_reset(cx)).await),
            "/idle" => {
                let mut stream = asked.begin(false);
                stream.send_data("x".into(), false).unwrap();
                let _ = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
            }
            _ => asked.answer(),
        }
    })
    .await;
    let send = |path| outgoing(&route, request(&route, "GET", path, &[], false), nothing());
    for (path, limit) in [("/silent", "`timeouts.first_byte_ms` of 80"), ("/idle", "`timeouts.idle_ms` of 80")] {
        let error = failure(&egress, send(path)).await;
        assert!(error.code == Code::HttpTimeout && error.message.contains(limit), "{error}");
    }
    assert_eq!(whole(egress.send(send("/")).await.unwrap()).await.unwrap(), b"hi");
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_requests_need_few_connections() {
    let (egress, route, upstream) = world(4, "", |asked: Asked| async move { asked.answer() }).await;
    whole(egress.send(get(&route)).await.unwrap()).await.unwrap();
    let requests = (0..200).map(|_| {
        let (egress, outgoing) = (egress.clone(), get(&route));
        tokio::spawn(async move { whole(egress.send(outgoing).await.unwrap()).await.unwrap() })
    });
    for done in requests.collect::<Vec<_>>() {
        assert_eq!(done.await.unwrap(), b"hi");
    }
    assert!(upstream.accepted() <= 4, "{}", upstream.accepted());
}
