//! Ordinary clients, and what a request leaves in journal and trace.

use std::fs;

use palisade_proto::v1::{self, output_chunk::Stream, step_result::Outcome};
use serde_json::json;

use super::{ALL, API, answered, api, get, post, rule, upstream, with};
use crate::{
    harness::{Daemon, data_dir, guest, palisade, tester, upstream::Reply, write_policies},
    telemetry::collector::Collector,
};

#[tokio::test]
async fn an_ordinary_client_gets_a_response_and_is_denied_like_everybody_else() {
    let (daemon, upstream) = api("methods = [\"GET\", \"POST\"]").await;
    upstream.on("/hello", |_| Reply::text("world"));
    upstream.on("/post", |seen| Reply::text([b"got ", seen.body.as_slice()].concat()));
    let header = v1::PushHeader { alias: "fetch".into(), ..Default::default() };
    daemon.push_as(&fs::read(guest("fetch")).unwrap(), header).await.unwrap();
    let manifest = tester("1", API).replace("\"tester\"", "\"fetcher\"").replace("\"probe\"", "\"fetch\"");
    daemon.register(&manifest, false).await.unwrap();
    let fetch = async |args: &[&str]| {
        let args = args.iter().map(ToString::to_string).collect();
        let request = v1::RunStepRequest { agent: "fetcher".into(), args, ..Default::default() };
        daemon.run(request).await.unwrap()
    };
    let url = |path: &str| format!("http://{}{path}", upstream.address);
    let got = fetch(&[&url("/hello")]).await;
    assert_eq!((got.outcome(), got.output(Stream::Stdout).as_str()), (Outcome::Succeeded, "200\nworld\n"));
    let posted = fetch(&[&url("/post"), "a body"]).await;
    assert_eq!(posted.output(Stream::Stdout), "200\ngot a body\n");
    let denied = fetch(&["http://127.0.0.1:1/"]).await;
    assert!(denied.result.exit_code.is_some_and(|code| code != 0), "{:?}", denied.result);
    assert!(denied.output(Stream::Stderr).contains("HttpRequestDenied"), "{}", denied.output(Stream::Stderr));
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test]
async fn the_sdks_client_gets_posts_and_streams() {
    let (daemon, upstream) = api("methods = [\"GET\", \"POST\"]").await;
    upstream.on("/length", |seen| Reply::text(seen.body.len().to_string()));
    upstream.on("/gone", |_| Reply::status(410));
    let url = |path: &str| format!("http://{}{path}", upstream.address);
    let said = daemon
        .ask(json!([
            { "fetch": { "url": url("/length") } },
            { "fetch": { "method": "POST", "url": url("/length"), "body": "12345" } },
            { "fetch": { "method": "POST", "url": url("/length"), "stream": 200_000 } },
            { "fetch": { "url": url("/gone") } },
            { "fetch": { "url": "https://elsewhere.example/" } },
        ]))
        .await;
    assert_eq!(said[..3], ["ok: 200 0", "ok: 200 5", "ok: 200 200000"]);
    assert!(said[3].starts_with("error: ") && said[3].contains("410"), "{said:?}");
    assert!(said[4].starts_with("error: NOT_IN_MANIFEST"), "{said:?}");
}

#[tokio::test]
async fn an_intent_and_an_outcome_say_what_left_and_what_came() {
    let (daemon, upstream) = api("methods = [\"GET\", \"POST\"]\nlabels = [\"partner\"]").await;
    upstream.on("/v1/things", |_| Reply::text("an answer"));
    daemon
        .ask(json!([with(&upstream, "/v1/things?q=canary-q", json!({ "method": "POST", "body": ["a ", "body"] }))]))
        .await;
    let (intents, outcomes) = (daemon.records(&["intent"]).await, daemon.records(&["outcome"]).await);
    assert_eq!((intents.len(), outcomes.len()), (1, 1));
    let (intent, outcome) = (&intents[0]["body"], &outcomes[0]["body"]);
    assert_eq!((&intent["power"], &intent["verb"], &intent["rule"]), (&json!("http"), &json!("POST"), &json!("api")));
    assert_eq!((&intent["effect"], &intent["decision"]["verdict"]), (&json!("external-send"), &json!("allow")));
    for key in ["url", "path", "question"] {
        let said = intent[key].as_str().unwrap();
        assert!(said.contains("/v1/things") && !said.contains("canary-q"), "{key}: {said}");
    }
    assert_eq!(outcome["status"], "done");
    let http = &outcome["http"];
    assert_eq!((&http["answered"]["status"], &http["answered"]["protocol"]), (&json!(200), &json!("http/1.1")));
    assert_eq!(http["answered"]["address"], json!(upstream.address.to_string()));
    for (way, text) in [("request", "a body"), ("response", "an answer")] {
        let digest = http[way]["digest"].as_str().unwrap().to_owned();
        assert_eq!(http[way]["bytes"], json!(text.len()));
        let payload = daemon.audit().get_payload(v1::GetPayloadRequest { digest }).await.unwrap().into_inner();
        assert_eq!(payload.content, text.as_bytes());
    }
    assert!(outcomes[0]["sequence"].as_u64() > intents[0]["sequence"].as_u64());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_span_says_which_rule_a_request_went_by_and_who_answered_what() {
    let (upstream, collector) = (upstream().await, Collector::start().await);
    upstream.on("/gone", |_| Reply::status(410));
    let dir = data_dir();
    fs::create_dir(dir.path().join("policies")).unwrap();
    write_policies(dir.path(), ALL);
    let mut command = palisade();
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint);
    let config = format!("{}[policy]\ndir = {:?}\n", rule("api", &upstream, ""), dir.path().join("policies"));
    let mut daemon = Daemon::launch(dir, &config, command).await;
    daemon.agent(API).await.unwrap();
    daemon.ask(json!([get(&upstream, "/gone?q=canary-q"), post(&upstream, "/")])).await;
    daemon.stop().await;
    let trace = collector.trace();
    let of = |method: &str| {
        let mut spans = trace.0.iter().filter(|span| span.attributes["http.request.method"] == method);
        spans.next().unwrap_or_else(|| panic!("no span of {method}: {trace:#?}"))
    };
    let attributes = &of("GET").attributes;
    assert_eq!(attributes["palisade.egress.rule"], "api");
    assert_eq!(attributes["server.address"], "127.0.0.1");
    assert_eq!(attributes["http.response.status_code"], 410, "{attributes}");
    assert_eq!(attributes["network.peer.address"], "127.0.0.1");
    assert!(of("POST").attributes.get("http.response.status_code").is_none());
    assert!(!format!("{trace:?}").contains("canary-q"));
}

#[tokio::test]
async fn what_is_sent_by_default_is_what_was_asked_and_the_host() {
    let (daemon, upstream) = api("").await;
    let headers = json!({ "headers": [["accept", "text/plain"], ["x-own", "a"], ["x-own", "b"]] });
    let said = daemon.ask(json!([with(&upstream, "/a%20b?c=d", headers)])).await;
    assert_eq!(answered(&said[0])["status"], 200);
    let seen = &upstream.seen()[0];
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/a%20b?c=d"));
    assert_eq!(seen.host(), Some(upstream.address.to_string()));
    assert_eq!(seen.values("x-own"), ["a", "b"]);
    let names: Vec<_> = seen.headers.iter().map(|(name, _)| name.to_lowercase()).collect();
    assert_eq!(names, ["host", "accept", "x-own", "x-own"], "nothing else is told of us");
}
