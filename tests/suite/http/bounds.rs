//! How often, how many at once, and for how long.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use palisade_proto::v1;
use serde_json::{Value, json};

use super::{ALL, API, answered, api, asked, code, get, governed, rule, upstream, with};
use crate::harness::{
    Daemon, tester,
    upstream::{Gate, Piece, Reply, Upstream},
};

/// A slow answer, as soon as the gate is open.
fn waits(upstream: &Upstream, path: &str) -> Arc<Gate> {
    let gate = Gate::new();
    let opened = gate.clone();
    upstream.on(path, move |_| Reply::text("").body(vec![Piece::Wait(opened.clone()), Piece::Bytes(b"late".to_vec())]));
    gate
}

/// Registers the agent `other`, which has the rule `api` as it is.
async fn other(daemon: &Daemon) {
    daemon.register(&tester("1", API).replace("\"tester\"", "\"other\""), false).await.unwrap();
}

async fn as_other(daemon: &Daemon, acts: Value) -> Vec<String> {
    let request = v1::RunStepRequest { agent: "other".into(), ..crate::harness::asked(acts) };
    daemon.run(request).await.unwrap().outcomes()
}

#[tokio::test]
async fn a_rate_that_is_used_up_says_how_long_to_wait() {
    let (daemon, upstream) = api("rate = { requests = 2, seconds = 3600 }").await;
    other(&daemon).await;
    let said = daemon.ask(json!([get(&upstream, "/"), get(&upstream, "/"), get(&upstream, "/")])).await;
    assert!(said[..2].iter().all(|said| answered(said)["status"] == 200));
    assert_eq!(code(&said[2]), "RATE_LIMITED");
    let message = daemon.records(&["denial"]).await[0]["body"]["error"]["message"].as_str().unwrap().to_owned();
    let wait = message.split("wait ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    assert!(wait.is_some_and(|seconds| (3_500..=3_600).contains(&seconds)), "{message}");
    assert_eq!(code(&as_other(&daemon, json!([get(&upstream, "/")])).await[0]), "RATE_LIMITED", "it is everybody's");
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test]
async fn an_agents_own_bounds_cost_others_nothing() {
    let (daemon, upstream) = api("rate = { requests = 4, seconds = 3600 }\nconcurrency = 2").await;
    other(&daemon).await;
    let narrow = "rate = { requests = 2, seconds = 3600 }\nconcurrency = 1";
    daemon.register(&tester("2", &format!("{API}{narrow}\n")), true).await.unwrap();
    let gate = waits(&upstream, "/slow");
    // One is under way, another one waits for the agent's only place.
    let both = json!({ "http-many": { "requests": [
        asked(&upstream, "/slow", json!({})), asked(&upstream, "/slow", json!({})),
    ] } });
    let daemon = Arc::new(daemon);
    let running = tokio::spawn({
        let daemon = daemon.clone();
        async move { daemon.ask(json!([both])).await }
    });
    upstream.until("the first is under way", |upstream| !upstream.seen().is_empty()).await;
    while daemon.records(&["intent"]).await.len() < 2 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let said = as_other(&daemon, json!([get(&upstream, "/")])).await;
    assert_eq!(answered(&said[0])["status"], 200, "there is a place left for others");
    gate.open();
    running.await.unwrap();
    // Its own rate is used up, and however often it tries, there is one more for others.
    let said = daemon.ask(json!([get(&upstream, "/"), get(&upstream, "/"), get(&upstream, "/")])).await;
    assert!(said.iter().all(|said| code(said) == "RATE_LIMITED"), "{said:?}");
    assert_eq!(answered(&as_other(&daemon, json!([get(&upstream, "/")])).await[0])["status"], 200);
    assert_eq!(code(&as_other(&daemon, json!([get(&upstream, "/")])).await[0]), "RATE_LIMITED");
}

/// Says how many of 36 requests of three steps an upstream ever sees at once. It has the next one come while it holds one.
async fn most_at_once(rule: &str, config: &str) -> usize {
    let (daemon, upstream) = governed(ALL, rule, config).await;
    let (under_way, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (entered, peak) = (under_way.clone(), most.clone());
    upstream.on("/", move |_| {
        peak.fetch_max(entered.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let (left, gate) = (entered.clone(), Gate::new());
        let opened = gate.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            left.fetch_sub(1, Ordering::SeqCst);
            opened.open();
        });
        Reply::text("").body(vec![Piece::Wait(gate), Piece::Bytes(b"x".to_vec())])
    });
    let acts = json!([{ "http-many": { "requests": vec![asked(&upstream, "/", json!({})); 12] } }]);
    for said in futures::future::join_all((0..3).map(|_| daemon.ask(acts.clone()))).await {
        let outcomes = answered(&said[0]);
        assert!(outcomes.as_array().unwrap().iter().all(|outcome| outcome["status"] == 200), "{outcomes}");
    }
    assert_eq!(upstream.seen().len(), 36);
    most.load(Ordering::SeqCst)
}

#[tokio::test]
async fn no_more_are_under_way_at_once_than_every_level_allows() {
    assert!(most_at_once("concurrency = 36", "").await > 3);
    assert_eq!(most_at_once("concurrency = 3", "").await, 3);
    assert_eq!(most_at_once("concurrency = 36", "[limits]\nhttp_requests = 3\n").await, 3);
    assert_eq!(most_at_once("concurrency = 36", "[limits]\negress_connections = 3\n").await, 3);
}

#[tokio::test]
async fn requests_that_wait_for_their_rule_take_no_place_of_others() {
    let (slow, fast) = (upstream().await, upstream().await);
    let gate = waits(&slow, "/");
    let config =
        format!("{}{}[limits]\nhttp_requests = 3\n", rule("slow", &slow, "concurrency = 1"), rule("api", &fast, ""));
    let daemon = Arc::new(Daemon::governed(ALL, &config).await);
    daemon.agent(&format!("{API}[[egress]]\nrule = \"slow\"\n")).await.unwrap();
    let many = json!([{ "http-many": { "requests": vec![asked(&slow, "/", json!({})); 8] } }]);
    let running = tokio::spawn({
        let daemon = daemon.clone();
        async move { daemon.ask(many).await }
    });
    while daemon.records(&["intent"]).await.len() < 8 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    slow.until("one is under way", |slow| slow.seen().len() == 1).await;
    assert_eq!(answered(&daemon.ask(json!([get(&fast, "/")])).await[0])["status"], 200);
    gate.open();
    let outcomes = answered(&running.await.unwrap()[0]);
    assert!(outcomes.as_array().unwrap().iter().all(|outcome| outcome["body"] == "late"), "{outcomes}");
}

#[tokio::test]
async fn versions_of_an_agent_do_not_widen_each_others_bounds() {
    let (daemon, upstream) = api("concurrency = 16").await;
    for (version, concurrency) in [("2", 1), ("3", 2)] {
        daemon.register(&tester(version, &format!("{API}concurrency = {concurrency}\n")), true).await.unwrap();
    }
    let gate = waits(&upstream, "/");
    let daemon = Arc::new(daemon);
    let running: Vec<_> = ["2", "3", "2", "3", "2", "3"]
        .into_iter()
        .map(|version| {
            let (daemon, act) = (daemon.clone(), get(&upstream, "/"));
            let agent = format!("tester@{version}");
            tokio::spawn(async move {
                let request = v1::RunStepRequest { agent, ..crate::harness::asked(json!([act])) };
                daemon.run(request).await.unwrap().outcomes()
            })
        })
        .collect();
    while daemon.records(&["intent"]).await.len() < 6 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // What may leave has left by the time another agent's request was answered.
    other(&daemon).await;
    upstream.on("/other", |_| Reply::text("other"));
    assert_eq!(answered(&as_other(&daemon, json!([get(&upstream, "/other")])).await[0])["body"], "other");
    let held = upstream.seen().iter().filter(|seen| seen.path() == "/").count();
    assert!(held <= 3, "{held} of six are under way");
    gate.open();
    for running in running {
        assert_eq!(answered(&running.await.unwrap()[0])["body"], "late");
    }
}

#[tokio::test]
async fn each_time_out_is_named() {
    let timeouts = "timeouts = { connect_ms = 60, first_byte_ms = 70, idle_ms = 80, total_ms = 300 }";
    // Accepted by the kernel, and nobody answers to TLS.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let tls = format!(
        "[[egress]]\nname = \"tls\"\nhost = \"127.0.0.1\"\nport = {port}\ncidrs = [\"127.0.0.1/32\"]\n{timeouts}\n"
    );
    let (daemon, upstream) = governed(ALL, timeouts, &tls).await;
    daemon.register(&tester("2", &format!("{API}[[egress]]\nrule = \"tls\"\n")), true).await.unwrap();
    upstream.on("/first", |_| Reply::Raw(vec![Piece::Hang]));
    upstream.on("/idle", |_| Reply::text("").body(vec![Piece::Bytes(b"begun".to_vec()), Piece::Hang]));
    let drip = || Piece::Drip(vec![b'x'; 1_000], Duration::from_millis(20));
    upstream.on("/total", move |_| Reply::text("").body(vec![drip(), Piece::Bytes(Vec::new())]));
    let to_silent = json!({ "scheme": "https", "authority": format!("127.0.0.1:{port}") });
    let acts = [
        ("connect_ms", with(&upstream, "/", to_silent)),
        ("first_byte_ms", get(&upstream, "/first")),
        ("idle_ms", get(&upstream, "/idle")),
        ("total_ms", get(&upstream, "/total")),
    ];
    let said = daemon.ask(acts.iter().map(|(_, act)| act.clone()).chain([get(&upstream, "/")]).collect()).await;
    for ((name, _), said) in acts.iter().zip(&said) {
        assert!(code(said) == "HTTP_TIMEOUT" && said.contains(&format!("timeouts.{name}")), "{name}: {said}");
    }
    assert_eq!(answered(&said[4])["status"], 200);
}

#[tokio::test]
async fn a_guest_that_is_less_patient_waits_less_and_never_longer() {
    let (daemon, upstream) = api("timeouts = { first_byte_ms = 100 }").await;
    upstream.on("/hangs", |_| Reply::Raw(vec![Piece::Hang]));
    let patience = |ms: u64| with(&upstream, "/hangs", json!({ "first_byte_timeout_ms": ms }));
    let said = daemon.ask(json!([patience(30), patience(60_000)])).await;
    assert!(said.iter().all(|said| code(said) == "HTTP_TIMEOUT"), "{said:?}");
    assert!(said[0].contains("of 30") && said[1].contains("of 100"), "{said:?}");
}

#[tokio::test]
async fn a_rate_that_was_used_up_is_there_again_after_the_wait() {
    let (daemon, upstream) = api("rate = { requests = 1, seconds = 1 }").await;
    let act = get(&upstream, "/");
    let said = daemon.ask(json!([act, act, { "sleep": { "milliseconds": 1_000 } }, act])).await;
    assert_eq!(answered(&said[0])["status"], 200);
    assert!(code(&said[1]) == "RATE_LIMITED" && said[1].contains("wait 1 s"), "{said:?}");
    assert_eq!(answered(&said[3])["status"], 200);
}

#[tokio::test]
async fn what_a_body_may_be_is_checked_in_both_directions() {
    let types = "request_types = [\"application/json\"]\nresponse_types = [\"text/*\"]";
    let (daemon, upstream) = api(&format!("methods = [\"GET\", \"POST\"]\n{types}")).await;
    upstream.on("/text", |_| Reply::text("text"));
    upstream.on("/zip", |_| {
        Reply::status(200).header("content-type", "application/zip").body(vec![Piece::Bytes(b"PK".to_vec())])
    });
    upstream.on("/empty", |_| Reply::status(204));
    let typed = |content_type: &str| {
        with(
            &upstream,
            "/text",
            json!({ "method": "POST", "headers": [["content-type", content_type]], "body": ["{}"] }),
        )
    };
    let acts = json!([
        typed("application/json"),
        typed("text/plain"),
        get(&upstream, "/text"),
        get(&upstream, "/zip"),
        get(&upstream, "/empty"),
        with(&upstream, "/text", json!({ "method": "POST", "body": ["{}"] })),
    ]);
    let said = daemon.ask(acts).await;
    assert_eq!(answered(&said[0])["body"], "text");
    assert_eq!(code(&said[1]), "NOT_IN_MANIFEST");
    assert_eq!(answered(&said[2])["body"], "text");
    assert!(code(&said[3]) == "RESPONSE_REFUSED" && !said[3].contains("PK"), "{said:?}");
    assert_eq!(answered(&said[4])["status"], 204);
    assert_eq!(code(&said[5]), "NOT_IN_MANIFEST", "a body of no type is none of these");
    assert_eq!(upstream.seen().len(), 4);
}

#[tokio::test]
async fn nobody_sends_what_the_ceiling_leaves_out() {
    let config = "[ceiling]\neffects = [\"read\", \"external-send\"]\n";
    let (daemon, upstream) = governed(ALL, "methods = [\"GET\", \"POST\", \"DELETE\"]", config).await;
    let delete = with(&upstream, "/", json!({ "method": "DELETE" }));
    let said = daemon.ask(json!([get(&upstream, "/"), super::post(&upstream, "/"), delete])).await;
    assert_eq!((&answered(&said[0])["status"], &answered(&said[1])["status"]), (&json!(200), &json!(200)));
    assert_eq!(code(&said[2]), "ABOVE_CEILING");
    assert!(upstream.seen().iter().all(|seen| seen.method != "DELETE"));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let (elsewhere, (daemon, upstream)) = (upstream().await, api("").await);
    let to = format!("http://{}/stolen", elsewhere.address);
    let location = to.clone();
    upstream.on("/moved", move |_| Reply::status(302).header("location", location.as_str()));
    let url = format!("http://{}/moved", upstream.address);
    let said =
        daemon.ask(json!([get(&upstream, "/moved"), { "fetch": { "url": url } }, get(&elsewhere, "/stolen")])).await;
    let moved = answered(&said[0]);
    assert_eq!(moved["status"], 302);
    assert!(moved["headers"].to_string().contains(&to), "{moved}");
    assert!(said[1].contains("302"), "{said:?}");
    assert_eq!(code(&said[2]), "NOT_IN_MANIFEST", "to follow it is another request");
    assert!(elsewhere.connections().is_empty());
}
