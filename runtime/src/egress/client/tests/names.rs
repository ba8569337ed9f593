//! Which names are asked for, and which addresses are dialled.

use std::net::IpAddr;

use hickory_resolver::proto::{op::ResponseCode, rr::RecordType};
use tokio::net::TcpListener;

use super::{
    world::{Names, OK, Said, Upstream, answer, egress},
    *,
};

async fn upstream(ip: &str) -> Upstream {
    Upstream::start(ip, |stream, _| answer(stream, OK)).await
}

#[tokio::test]
async fn only_the_name_itself_is_asked_for() {
    let (names, upstream) = (Names::start().await, upstream("127.0.0.2").await);
    names.set("api.test", &["127.0.0.2"]);
    let egress = egress(&names, None, 4);
    let reply = egress.send(get(&route(upstream.address, "http", "api.test", ""))).await.unwrap();
    assert_eq!(reply.address, upstream.address);
    assert_eq!(whole(reply).await.unwrap(), b"hi");
    let mut asked = names.asked.lock().unwrap().clone();
    asked.sort();
    assert_eq!(asked, [("api.test.".into(), RecordType::A), ("api.test.".into(), RecordType::AAAA)]);
}

#[tokio::test]
async fn a_name_of_the_hosts_file_is_asked_for_all_the_same() {
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let known = hosts.lines().flat_map(|line| line.split('#').next().unwrap_or("").split_whitespace().skip(1));
    let known: Vec<&str> = known.filter(|name| !name.contains("localhost") && !name.contains('_')).collect();
    let names = Names::start().await;
    let egress = egress(&names, None, 4);
    for name in known {
        let route = route("127.0.0.1:80".parse().unwrap(), "http", &name.to_lowercase(), "");
        assert_eq!(failure(&egress, get(&route)).await.code, Code::DnsFailed, "{name}");
    }
}

#[tokio::test]
async fn one_forbidden_answer_refuses_the_name() {
    let (names, canary) = (Names::start().await, upstream("127.0.0.1").await);
    let port = canary.address.port();
    let good = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let good = Upstream::at(good, |stream, _| answer(stream, OK));
    let egress = egress(&names, None, 4);
    let route = route(good.address, "http", "api.test", "cidrs = [\"127.0.0.2/32\"]");
    for bad in ["127.0.0.1", "10.0.0.1", "::1", "169.254.169.254", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "0.0.0.0"] {
        names.set("api.test", &["127.0.0.2", bad]);
        let error = failure(&egress, get(&route)).await;
        assert_eq!((error.code, error.sent), (Code::AddressForbidden, false), "{bad}: {error}");
    }
    assert_eq!((canary.accepted(), good.accepted()), (0, 0));
    names.set("api.test", &["127.0.0.2"]);
    assert_eq!(whole(egress.send(get(&route)).await.unwrap()).await.unwrap(), b"hi");
}

#[tokio::test]
async fn an_alias_of_a_forbidden_address_is_refused() {
    let (names, canary) = (Names::start().await, upstream("127.0.0.1").await);
    names.say("api.test", Said::Alias("inside.test.", vec!["127.0.0.1".parse().unwrap()]));
    let egress = egress(&names, None, 4);
    let route = route(canary.address, "http", "api.test", "cidrs = []");
    assert_eq!(failure(&egress, get(&route)).await.code, Code::AddressForbidden);
    assert_eq!(canary.accepted(), 0);
}

#[tokio::test]
async fn a_name_that_moves_is_judged_again() {
    let (names, canary) = (Names::start().await, upstream("127.0.0.1").await);
    let good = TcpListener::bind(("127.0.0.2", canary.address.port())).await.unwrap();
    let good = Upstream::at(good, |stream, _| answer(stream, OK));
    let egress = egress(&names, None, 4);
    let route = route(good.address, "http", "api.test", "cidrs = [\"127.0.0.2/32\"]");
    names.set("api.test", &["127.0.0.2"]);
    whole(egress.send(get(&route)).await.unwrap()).await.unwrap();
    names.set("api.test", &["127.0.0.1"]);
    // The first connection is open still, and is not a way around.
    assert_eq!(failure(&egress, get(&route)).await.code, Code::AddressForbidden);
    assert_eq!((canary.accepted(), good.accepted()), (0, 1));
}

#[tokio::test]
async fn a_connection_to_an_address_that_the_name_left_is_not_used() {
    let (names, first) = (Names::start().await, upstream("127.0.0.2").await);
    let second = TcpListener::bind(("127.0.0.3", first.address.port())).await.unwrap();
    let second = Upstream::at(second, |stream, _| answer(stream, OK));
    let egress = egress(&names, None, 4);
    let route = route(first.address, "http", "api.test", "");
    for address in ["127.0.0.2", "127.0.0.3"] {
        names.set("api.test", &[address]);
        let reply = egress.send(get(&route)).await.unwrap();
        assert_eq!((reply.reused, reply.address.ip().to_string().as_str()), (false, address));
        whole(reply).await.unwrap();
    }
    assert_eq!((first.accepted(), second.accepted()), (1, 1));
}

#[tokio::test]
async fn names_without_an_answer_fail_in_words() {
    let names = Names::start().await;
    let egress = egress(&names, None, 4);
    let route = |more| route("127.0.0.1:80".parse().unwrap(), "http", "api.test", more);
    let (patient, hasty) = (route(""), route("timeouts = { connect_ms = 200 }"));
    let many: Vec<IpAddr> = (0..33).map(|last| IpAddr::from([127, 0, 1, last])).collect();
    let cases = [
        (Said::Code(ResponseCode::NXDomain), Code::DnsFailed, "no address"),
        (Said::Addresses(vec![]), Code::DnsFailed, "no address"),
        (Said::Code(ResponseCode::ServFail), Code::DnsFailed, "cannot be looked up"),
        (Said::Code(ResponseCode::Refused), Code::DnsFailed, "cannot be looked up"),
        (Said::Addresses(many), Code::DnsFailed, "33 addresses"),
        (Said::Nothing, Code::HttpTimeout, "`timeouts.connect_ms` of 200"),
    ];
    for (said, code, words) in cases {
        names.say("api.test", said);
        // What a name has not is remembered for a while.
        egress.0.resolver.as_ref().unwrap().forget();
        let route = if code == Code::HttpTimeout { &hasty } else { &patient };
        let error = failure(&egress, get(route)).await;
        assert_eq!((error.code, error.sent), (code, false), "{error}");
        assert!(error.message.contains(words), "{error}");
    }
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_does_not_connect() {
    let (names, upstream) = (Names::start().await, upstream("127.0.0.9").await);
    names.set("api.test", &["127.0.0.7", "127.0.0.8", "127.0.0.9"]);
    let egress = egress(&names, None, 4);
    let route = route(upstream.address, "http", "api.test", "");
    assert_eq!(egress.send(get(&route)).await.unwrap().address, upstream.address);
    names.set("api.test", &["127.0.0.7"]);
    let error = failure(&egress, get(&route)).await;
    assert_eq!((error.code, error.sent), (Code::ConnectFailed, false), "{error}");
}

#[tokio::test]
async fn our_own_listeners_are_never_reached() {
    let (names, own) = (Names::start().await, upstream("127.0.0.1").await);
    names.set("api.test", &["127.0.0.1"]);
    let mut egress = egress(&names, None, 4);
    Arc::get_mut(&mut egress.0).unwrap().own.push(own.address);
    for host in ["api.test", "127.0.0.1"] {
        let error = failure(&egress, get(&route(own.address, "http", host, ""))).await;
        assert_eq!(error.code, Code::AddressForbidden, "{error}");
    }
    assert_eq!(own.accepted(), 0);
}

#[tokio::test]
async fn an_address_is_a_host_where_its_network_is_listed() {
    let (names, upstream) = (Names::start().await, upstream("127.0.0.1").await);
    let egress = egress(&names, None, 4);
    assert_eq!(egress.send(get(&route(upstream.address, "http", "127.0.0.1", ""))).await.unwrap().status, 200);
    assert!(names.asked.lock().unwrap().is_empty());
}
