//! TLS: who is believed, and what is shown to whom.

use std::sync::Mutex;

use rcgen::CertificateParams;
use tokio::io::AsyncWriteExt;

use super::{
    world::{Authority, Names, OK, Proof, Upstream, egress, read_head},
    *,
};

/// What an upstream sees: the name that was asked for, who asked, and the first bytes of HTTP.
type Seen = (Option<String>, Option<Vec<u8>>, String);

/// An upstream that proves itself by `proof`, and the egress that trusts `authority`.
async fn world(authority: &Authority, proof: Proof, clients: bool) -> (Egress, Upstream, Arc<Mutex<Vec<Seen>>>) {
    let acceptor = authority.server(proof, &["http/1.1"], clients);
    let seen = Arc::<Mutex<Vec<Seen>>>::default();
    let noted = seen.clone();
    let script = move |stream: tokio::net::TcpStream, _| {
        let (acceptor, noted) = (acceptor.clone(), noted.clone());
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            loop {
                let head = read_head(&mut stream).await;
                let session = stream.get_ref().1;
                let client = session.peer_certificates().map(|chain| chain[0].to_vec());
                noted.lock().unwrap().push((session.server_name().map(Into::into), client, head.clone()));
                if head.is_empty() || stream.write_all(OK.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    };
    let (names, upstream) = (Names::start().await, Upstream::start("127.0.0.2", script).await);
    names.set("api.test", &["127.0.0.2"]);
    names.set("other.test", &["127.0.0.2"]);
    (egress(&names, Some(authority), 8), upstream, seen)
}

#[tokio::test]
async fn the_name_is_the_host_everywhere() {
    let authority = Authority::new();
    let (egress, upstream, seen) = world(&authority, authority.prove("api.test"), false).await;
    let reply = egress.send(get(&route(upstream.address, "https", "api.test", ""))).await.unwrap();
    assert_eq!((reply.protocol, reply.address), ("http/1.1", upstream.address));
    assert_eq!(whole(reply).await.unwrap(), b"hi");
    let (name, client, head) = seen.lock().unwrap()[0].clone();
    assert_eq!((name.as_deref(), client), (Some("api.test"), None));
    assert!(head.contains(&format!("host: api.test:{}\r\n", upstream.address.port())), "{head}");
}

#[tokio::test]
async fn who_does_not_prove_the_name_gets_nothing() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let dated = |from: i32, to: i32| {
        let mut params = CertificateParams::new(vec!["api.test".into()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        authority.sign(params)
    };
    let cases = [
        ("api.test", authority.prove("other.test")),
        ("api.test", authority.prove("*.api.test")),
        ("api.test", authority.prove("127.0.0.2")),
        ("api.test", stranger.prove("api.test")),
        ("api.test", dated(2001, 2002)),
        ("api.test", dated(3001, 3002)),
        ("127.0.0.2", authority.prove("api.test")),
        ("127.0.0.2", authority.prove("127.0.0.3")),
    ];
    for (host, proof) in cases {
        let (egress, upstream, seen) = world(&authority, proof, false).await;
        let error = failure(&egress, get(&route(upstream.address, "https", host, ""))).await;
        assert_eq!((error.code, error.sent), (Code::TlsFailed, false), "{error}");
        assert!(seen.lock().unwrap().iter().all(|(_, _, head)| head.is_empty()));
    }
}

#[tokio::test]
async fn an_address_is_proved_by_a_certificate_for_it() {
    let authority = Authority::new();
    let (egress, upstream, seen) = world(&authority, authority.prove("127.0.0.2"), false).await;
    let reply = egress.send(get(&route(upstream.address, "https", "127.0.0.2", ""))).await.unwrap();
    assert_eq!(whole(reply).await.unwrap(), b"hi");
    assert_eq!(seen.lock().unwrap()[0].0, None);
}

#[tokio::test]
async fn what_does_not_speak_tls_gets_nothing() {
    let (names, authority) = (Names::start().await, Authority::new());
    names.set("api.test", &["127.0.0.2"]);
    let upstream = Upstream::start("127.0.0.2", |stream, _| super::world::answer(stream, OK)).await;
    let egress = egress(&names, Some(&authority), 4);
    let error =
        failure(&egress, get(&route(upstream.address, "https", "api.test", "timeouts = { connect_ms = 200 }"))).await;
    assert!([Code::TlsFailed, Code::HttpTimeout].contains(&error.code), "{error}");
}

#[tokio::test]
async fn another_host_does_not_ride_a_connection_whose_certificate_names_both() {
    let authority = Authority::new();
    let both = CertificateParams::new(vec!["api.test".into(), "other.test".into()]).unwrap();
    let (egress, upstream, seen) = world(&authority, authority.sign(both), false).await;
    for host in ["api.test", "other.test"] {
        let reply = egress.send(get(&route(upstream.address, "https", host, ""))).await.unwrap();
        assert!(!reply.reused);
        whole(reply).await.unwrap();
    }
    let names: Vec<Option<String>> = seen.lock().unwrap().iter().map(|(name, ..)| name.clone()).collect();
    assert_eq!(names, [Some("api.test".into()), Some("other.test".into())]);
}

#[tokio::test]
async fn a_connection_shows_one_certificate_only() {
    let authority = Authority::new();
    let (egress, upstream, seen) = world(&authority, authority.prove("api.test"), true).await;
    let route = route(upstream.address, "https", "api.test", "");
    let identity = |id: &str| {
        let (chain, key) = authority.prove(&format!("{id}.test"));
        Arc::new(Identity { id: id.into(), chain, key })
    };
    let (first, second) = (identity("first"), identity("second"));
    for (identity, reused) in [(&first, false), (&second, false), (&first, true), (&second, true)] {
        let attachment = Attachment { identity: Some(identity.clone()), ..Attachment::default() };
        let reply = egress.send(Outgoing { attachment, ..get(&route) }).await.unwrap();
        assert_eq!(reply.reused, reused);
        whole(reply).await.unwrap();
    }
    let shown: Vec<Vec<u8>> = seen.lock().unwrap().iter().filter_map(|(_, client, _)| client.clone()).collect();
    let (first, second) = (first.chain[0].to_vec(), second.chain[0].to_vec());
    assert_eq!(shown, [first.clone(), second.clone(), first, second]);
    // Nobody without one gets through, least of all on their connections.
    let error = failure(&egress, get(&route)).await;
    assert_eq!(error.code, Code::TlsFailed, "{error}");
}

#[tokio::test]
async fn a_body_that_ends_without_a_goodbye_is_not_whole() {
    let authority = Authority::new();
    let acceptor = authority.server(authority.prove("api.test"), &["http/1.1"], false);
    let script = move |stream: tokio::net::TcpStream, _| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf of").await.unwrap();
            stream.get_mut().0.shutdown().await.unwrap();
        }
    };
    let (names, upstream) = (Names::start().await, Upstream::start("127.0.0.2", script).await);
    names.set("api.test", &["127.0.0.2"]);
    let egress = egress(&names, Some(&authority), 4);
    let error = failure(&egress, get(&route(upstream.address, "https", "api.test", ""))).await;
    assert_eq!(error.code, Code::HttpProtocol, "{error}");
}
