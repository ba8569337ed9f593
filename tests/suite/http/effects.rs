//! What a request does out there is on record before it is done, and is done once.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
};

use serde_json::{Value, json};

use super::{ALL, API, answered, api, code, get, post, rule, upstream, with};
use crate::{
    disk_full,
    harness::{
        Daemon, PATIENCE, asked,
        upstream::{Piece, Reply, Upstream},
    },
};

/// Answers, and closes each connection instead of answering a second request on it.
fn closes_what_is_used_again(upstream: &Upstream) {
    let served = AtomicUsize::new(usize::MAX);
    upstream.on("/", move |seen| {
        let again = served.swap(seen.connection, Ordering::Relaxed) == seen.connection;
        if again { Reply::Raw(vec![Piece::Close]) } else { Reply::text("served") }
    });
}

#[tokio::test]
async fn a_kill_while_the_upstream_has_the_request_is_an_unknown_outcome_and_no_second_request() {
    let (mut daemon, upstream) = api("methods = [\"GET\", \"POST\"]").await;
    upstream.on("/once", |_| Reply::Raw(vec![Piece::Hang]));
    let running = daemon.steps().run_step(asked(json!([post(&upstream, "/once")]))).await.unwrap();
    upstream.until("it has the request", |upstream| upstream.seen().iter().any(|seen| seen.complete)).await;
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    drop(running);
    let daemon = daemon.again().await;
    let (intents, outcomes) = (daemon.records(&["intent"]).await, daemon.records(&["outcome"]).await);
    assert_eq!((intents.len(), outcomes.len()), (1, 1), "what left was on the disk before");
    assert_eq!((&intents[0]["body"]["verb"], &outcomes[0]["body"]["status"]), (&json!("POST"), &json!("unknown")));
    assert_eq!(answered(&daemon.ask(json!([get(&upstream, "/")])).await[0])["status"], 200);
    assert_eq!(upstream.seen().iter().filter(|seen| seen.path() == "/once").count(), 1);
}

#[tokio::test]
async fn nothing_leaves_that_cannot_be_recorded() {
    let upstream = upstream().await;
    let config = rule("api", &upstream, "methods = [\"GET\", \"POST\"]");
    let daemon = disk_full::configured(disk_full::seeded_bytes() + (6 << 20), ALL, &config).await;
    daemon.agent(API).await.unwrap();
    let acts = json!([
        post(&upstream, "/before"),
        { "write": { "path": "/workspace/filler", "bytes": 64 << 20 } },
        post(&upstream, "/must-not-leave"),
        { "remove": "/workspace/filler" },
        post(&upstream, "/after"),
    ]);
    let said = daemon.ask(acts).await;
    assert!(said[1].starts_with("error"), "the disk is full: {said:?}");
    assert_eq!(code(&said[2]), "JOURNAL_UNAVAILABLE");
    let paths: Vec<_> = upstream.seen().iter().map(|seen| seen.path().to_owned()).collect();
    assert_eq!(paths, ["/before", "/after"]);
}

#[tokio::test]
async fn what_was_sent_and_not_answered_is_unknown_if_it_has_an_effect() {
    let (daemon, upstream) = api("methods = [\"GET\", \"POST\"]").await;
    upstream.on("/cut", |_| Reply::Raw(vec![Piece::Close]));
    upstream.on("/broken", |_| Reply::raw("HTTP/1.1 200 -\r\ncontent-length: 9\r\n\r\nhal"));
    let acts = json!([get(&upstream, "/cut"), post(&upstream, "/cut"), post(&upstream, "/broken")]);
    let said = daemon.ask(acts).await;
    assert!(said.iter().all(|said| code(said) == "HTTP_PROTOCOL"), "{said:?}");
    let statuses: Vec<Value> =
        daemon.records(&["outcome"]).await.iter().map(|outcome| outcome["body"]["status"].clone()).collect();
    // Of the last one it is known that it was taken, and of the first that it changes nothing.
    assert_eq!(statuses, ["failed", "unknown", "failed"]);
}

#[tokio::test]
async fn an_upstream_that_was_not_reached_did_nothing() {
    let upstream = upstream().await;
    // Where nobody listens any more.
    let nobody = std::net::TcpListener::bind("127.0.0.9:0").unwrap().local_addr().unwrap();
    let to = format!("scheme = \"http\"\nhost = \"127.0.0.9\"\nport = {}\ncidrs = [\"127.0.0.9/32\"]", nobody.port());
    let config = format!("[[egress]]\nname = \"api\"\n{to}\nmethods = [\"POST\"]\n");
    let daemon = Daemon::governed(ALL, &config).await;
    daemon.agent(API).await.unwrap();
    let act = with(&upstream, "/", json!({ "authority": nobody.to_string(), "method": "POST" }));
    assert_eq!(code(&daemon.ask(json!([act])).await[0]), "CONNECT_FAILED");
    assert_eq!(daemon.records(&["outcome"]).await[0]["body"]["status"], "failed");
}

#[tokio::test]
async fn each_request_that_may_be_repeated_carries_an_id_of_its_own() {
    let rule = "methods = [\"POST\"]\nidempotency_header = \"idempotency-key\"";
    let (daemon, upstream) = api(rule).await;
    let own = json!({ "method": "POST", "headers": [["Idempotency-Key", "mine"]] });
    let acts = json!([post(&upstream, "/"), post(&upstream, "/"), with(&upstream, "/", own)]);
    let said = daemon.ask(acts.clone()).await;
    assert_eq!(code(&said[2]), "REQUEST_INVALID");
    daemon.ask(acts).await;
    let ids: BTreeSet<_> = upstream.seen().iter().map(|seen| seen.value("idempotency-key").unwrap()).collect();
    assert_eq!((ids.len(), upstream.seen().len()), (4, 4), "{ids:?}");
    let intents = daemon.records(&["intent"]).await;
    let named = intents
        .iter()
        .map(|intent| format!("{}-{}", intent["step"].as_str().unwrap().trim_start_matches("steps/"), intent["call"]));
    assert_eq!(ids, named.collect(), "the journal says which call it was");
}

#[tokio::test]
async fn a_connection_that_went_stale_costs_a_request_nothing_where_that_is_safe() {
    let (daemon, upstream) = api("methods = [\"GET\", \"POST\"]").await;
    closes_what_is_used_again(&upstream);
    let said = daemon.ask(json!([get(&upstream, "/"), get(&upstream, "/")])).await;
    assert!(said.iter().all(|said| answered(said)["body"] == "served"), "{said:?}");
    let outcomes = daemon.records(&["outcome"]).await;
    let attempts = outcomes.iter().map(|outcome| outcome["body"]["http"]["answered"]["attempts"].clone());
    assert_eq!(attempts.collect::<Vec<_>>(), [1, 2]);
    assert_eq!(upstream.seen().len(), 3);
}

#[tokio::test]
async fn a_connection_that_went_stale_never_doubles_an_effect() {
    let (daemon, upstream) = api("methods = [\"GET\", \"POST\"]").await;
    closes_what_is_used_again(&upstream);
    let empty = json!({ "method": "POST" });
    let said = daemon.ask(json!([get(&upstream, "/"), with(&upstream, "/", empty)])).await;
    assert_eq!(code(&said[1]), "HTTP_PROTOCOL");
    assert_eq!(upstream.seen().iter().filter(|seen| seen.method == "POST").count(), 1);
    assert_eq!(daemon.records(&["outcome"]).await[1]["body"]["status"], "unknown");
}

#[tokio::test]
async fn an_effect_with_an_id_is_asked_for_again_under_the_same_id() {
    let (daemon, upstream) = api("methods = [\"GET\", \"POST\"]\nidempotency_header = \"idempotency-key\"").await;
    closes_what_is_used_again(&upstream);
    let empty = json!({ "method": "POST" });
    let said = daemon.ask(json!([get(&upstream, "/"), with(&upstream, "/", empty)])).await;
    assert_eq!(answered(&said[1])["body"], "served");
    let ids: Vec<_> =
        upstream.seen().iter().filter(|seen| seen.method == "POST").map(|s| s.value("idempotency-key")).collect();
    assert!(ids.len() == 2 && ids[0] == ids[1] && ids[0].is_some(), "{ids:?}");
}

#[tokio::test]
async fn a_step_that_is_cancelled_in_the_middle_leaves_an_unknown_outcome() {
    let (daemon, upstream) = api("methods = [\"POST\"]").await;
    upstream.on("/", |_| Reply::Raw(vec![Piece::Hang]));
    let running = daemon.steps().run_step(asked(json!([post(&upstream, "/")]))).await.unwrap();
    upstream.until("it has the request", |upstream| !upstream.seen().is_empty()).await;
    drop(running);
    upstream.until("the connection is closed", |upstream| upstream.connections()[0].closed).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while daemon.records(&["result"]).await.is_empty() {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let outcomes = daemon.records(&["outcome"]).await;
    assert_eq!((outcomes.len(), &outcomes[0]["body"]["status"]), (1, &json!("unknown")));
}
