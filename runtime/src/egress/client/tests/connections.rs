//! Connections: how many there are, who rides which, and when they are closed.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, oneshot},
};

use super::{
    http1::{once, world},
    world::{OK, Upstream, answer, read_head},
    *,
};

#[tokio::test]
async fn a_connection_is_used_again_by_the_same_origin_only() {
    let (egress, route, upstream) = world(16, "", |stream, _| answer(stream, OK)).await;
    let other_revision = super::route(upstream.address, "http", "api.test", "response_bytes = 99");
    let mut other_tenant = get(&route);
    other_tenant.tenant = "umbrella".into();
    let cases = [
        (get(&route), false),
        (get(&route), true),
        (get(&route), true),
        (other_tenant, false),
        (get(&other_revision), false),
        (get(&route), true),
        (get(&other_revision), true),
    ];
    for (outgoing, reused) in cases {
        let reply = egress.send(outgoing).await.unwrap();
        assert_eq!((reply.reused, reply.attempts, reply.protocol), (reused, 1, "http/1.1"));
        whole(reply).await.unwrap();
    }
    assert_eq!(upstream.accepted(), 3);
    egress.forget();
    assert!(!egress.send(get(&route)).await.unwrap().reused);
}

#[tokio::test]
async fn a_connection_that_was_lent_before_everything_was_forgotten_does_not_come_back() {
    let (egress, route, upstream) = world(4, "", |stream, _| answer(stream, OK)).await;
    let reply = egress.send(get(&route)).await.unwrap();
    egress.forget();
    whole(reply).await.unwrap();
    assert!(!egress.send(get(&route)).await.unwrap().reused);
    assert_eq!(upstream.accepted(), 2);
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_a_while() {
    let (closed, was_closed) = oneshot::channel();
    let closed = Arc::new(std::sync::Mutex::new(Some(closed)));
    let (mut egress, route, _upstream) = world(4, "", move |stream, _| {
        let closed = closed.clone();
        async move {
            answer(stream, OK).await;
            let _ = closed.lock().unwrap().take().unwrap().send(());
        }
    })
    .await;
    Arc::get_mut(&mut egress.0).unwrap().pool = Pool::new(4, Duration::from_millis(40));
    whole(egress.send(get(&route)).await.unwrap()).await.unwrap();
    was_closed.await.unwrap();
}

/// Answers the first request on a connection, and treats the second as `script` says.
async fn stale(more: &str, partial: &'static str) -> (Egress, Route, Upstream) {
    world(4, more, move |mut stream, number| async move {
        if number > 0 {
            return answer(stream, OK).await;
        }
        read_head(&mut stream).await;
        stream.write_all(OK.as_bytes()).await.unwrap();
        read_head(&mut stream).await;
        stream.write_all(partial.as_bytes()).await.unwrap();
    })
    .await
}

#[tokio::test]
async fn a_repeatable_request_is_sent_again_when_a_used_connection_breaks_in_silence() {
    let (egress, route, upstream) = stale("", "").await;
    whole(egress.send(get(&route)).await.unwrap()).await.unwrap();
    let reply = egress.send(Outgoing { repeatable: true, ..get(&route) }).await.unwrap();
    assert_eq!((reply.attempts, reply.reused), (2, false));
    assert_eq!(whole(reply).await.unwrap(), b"hi");
    assert_eq!(upstream.accepted(), 2);
}

#[tokio::test]
async fn a_request_is_not_sent_again_when_it_may_have_had_an_effect() {
    let first = |route: &Route| get(route);
    let post = |route: &Route| outgoing(route, request(route, "POST", "/", &[], true), bytes("x"));
    let cases: [(&str, bool, bool); 3] = [("", false, false), ("HTTP/1.1 2", true, false), ("", true, true)];
    for (partial, repeatable, with_body) in cases {
        let (egress, route, upstream) = stale("", partial).await;
        whole(egress.send(first(&route)).await.unwrap()).await.unwrap();
        let outgoing = if with_body { post(&route) } else { get(&route) };
        let error = failure(&egress, Outgoing { repeatable, ..outgoing }).await;
        assert_eq!((error.code, error.sent), (Code::HttpProtocol, true), "{error}");
        assert_eq!(upstream.accepted(), 1);
    }
    // Nor is one that broke on a fresh connection.
    let (egress, route, upstream) =
        world(4, "", |mut stream, _| async move { drop(read_head(&mut stream).await) }).await;
    assert_eq!(failure(&egress, Outgoing { repeatable: true, ..get(&route) }).await.code, Code::HttpProtocol);
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn a_connection_that_the_upstream_closed_is_not_used() {
    let (egress, route, upstream) = world(4, "", |stream, _| once(stream, OK.into())).await;
    for _ in 0..3 {
        let reply = egress.send(get(&route)).await.unwrap();
        assert_eq!(whole(reply).await.unwrap(), b"hi");
    }
    assert_eq!(upstream.accepted(), 3);
}

#[tokio::test]
async fn a_body_that_nobody_reads_ends_with_the_exchange() {
    let more = "timeouts = { total_ms = 500 }";
    let (egress, route, upstream) = world(1, more, |mut stream, number| async move {
        if number > 0 {
            return answer(stream, OK).await;
        }
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(&[b'x'; 1000]).await.is_ok() {}
    })
    .await;
    let unread = egress.send(get(&route)).await.unwrap();
    // There is one connection: it comes free when the first exchange is over.
    let patient = super::route(upstream.address, "http", "api.test", "");
    assert_eq!(whole(egress.send(get(&patient)).await.unwrap()).await.unwrap(), b"hi");
    assert_eq!(whole(unread).await.unwrap_err().code, Code::HttpTimeout);
}

#[tokio::test]
async fn whoever_gives_up_closes_the_connection_and_frees_it() {
    let (closed, mut was_closed) = mpsc::channel(8);
    let reached = Arc::new(Notify::new());
    let reach = reached.clone();
    let script = move |mut stream: TcpStream, number: usize| {
        let (closed, reach) = (closed.clone(), reach.clone());
        async move {
            match number {
                0 => {
                    read_head(&mut stream).await;
                    reach.notify_one();
                }
                1 => {
                    read_head(&mut stream).await;
                    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nx").await.unwrap();
                }
                _ => return answer(stream, OK).await,
            }
            let _ = stream.read_to_end(&mut Vec::new()).await;
            closed.send(number).await.unwrap();
        }
    };
    let (egress, route, _upstream) = world(1, "", script).await;
    tokio::select! {
        _ = egress.send(get(&route)) => panic!("there was no response"),
        () = reached.notified() => {}
    }
    assert_eq!(was_closed.recv().await, Some(0));
    let mut reply = egress.send(get(&route)).await.unwrap();
    assert_eq!(reply.body.next().await, Some(Ok(Piece::Data("x".into()))));
    drop(reply);
    assert_eq!(was_closed.recv().await, Some(1));
    assert_eq!(whole(egress.send(get(&route)).await.unwrap()).await.unwrap(), b"hi");
}

#[tokio::test]
async fn a_request_without_a_connection_is_told_so() {
    let (egress, route, upstream) = world(1, "", |mut stream, _| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nx").await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let _held = egress.send(get(&route)).await.unwrap();
    let route = super::route(upstream.address, "http", "api.test", "timeouts = { connect_ms = 60 }");
    let error = failure(&egress, get(&route)).await;
    assert_eq!((error.code, error.sent, upstream.accepted()), (Code::EgressBusy, false, 1));
    assert!(error.message.contains("`egress_connections` is 1"), "{error}");
}

/// Sends 200 requests at once, of each route in turn, and returns when all were answered.
async fn two_hundred(egress: &Egress, routes: &[Route]) {
    let requests = (0..200).map(|number| {
        let (egress, outgoing) = (egress.clone(), get(&routes[number % routes.len()]));
        tokio::spawn(async move { whole(egress.send(outgoing).await.unwrap()).await.unwrap() })
    });
    for done in requests.collect::<Vec<_>>() {
        assert_eq!(done.await.unwrap(), b"hi");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_requests_share_a_few_connections() {
    let (egress, route, upstream) = world(8, "", |stream, _| answer(stream, OK)).await;
    two_hundred(&egress, &[route]).await;
    assert!(upstream.accepted() <= 8, "{}", upstream.accepted());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_other_origins_make_room_for_each_other() {
    let (egress, route, upstream) = world(2, "", |stream, _| answer(stream, OK)).await;
    let other = |bytes: u32| super::route(upstream.address, "http", "api.test", &format!("response_bytes = {bytes}"));
    two_hundred(&egress, &[route.clone(), other(98), other(99)]).await;
    // All of them are idle now: none of the two is lost.
    let held = [egress.send(get(&route)).await.unwrap(), egress.send(get(&other(97))).await.unwrap()];
    assert_eq!(held.map(|reply| reply.status), [200, 200]);
}

/// A number that looks random: the same in every run.
fn scattered(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_given_up_at_any_moment_leave_nothing_behind() {
    let (egress, route, _upstream) = world(8, "", |stream, _| answer(stream, OK)).await;
    let requests = (0..1000).map(|number| {
        let (egress, post) = (egress.clone(), request(&route, "POST", "/", &[], true));
        let outgoing = outgoing(&route, post, bytes("some"));
        let exchange = async move { whole(egress.send(outgoing).await?).await };
        tokio::spawn(tokio::time::timeout(Duration::from_micros(scattered(number) % 200_000), exchange))
    });
    for done in requests.collect::<Vec<_>>() {
        if let Ok(done) = done.await.unwrap() {
            assert_eq!(done.unwrap(), b"hi");
        }
    }
    assert_eq!(whole(egress.send(get(&route)).await.unwrap()).await.unwrap(), b"hi");
    egress.forget();
    let none_open = async {
        while egress.0.pool.open() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), none_open).await.unwrap();
}
