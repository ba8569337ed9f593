//! What policy sees of a request, and what it decides.

use std::{fs, os::unix::fs::PermissionsExt as _};

use palisade_proto::v1;
use serde_json::json;

use super::{ALL, answered, api, code, get, governed, post, rule, upstream, with};
use crate::harness::Daemon;

#[tokio::test]
async fn a_policy_sees_the_request_as_it_was_parsed() {
    let upstream = upstream().await;
    let port = upstream.address.port();
    let policy = format!(
        "@id(\"exactly\") permit (principal == Palisade::Agent::\"tester\", action == Palisade::Action::\"SendRequest\", \
         resource == Palisade::Host::\"127.0.0.1\") when {{ context.method == \"PUT\" && context.scheme == \"http\" && \
         context.port == {port} && context.path == \"/v1/things\" && context.query == \"a=b\" && \
         context.content_type == \"text/plain\" && context.rule == \"api\" && context.effect == \"mutate\" && \
         context.credential == \"\" && context.destination_labels.contains(\"partner\") && !context.labels.contains(\"secret\") && \
         context.via == \"\" }};"
    );
    let more = "methods = [\"PUT\", \"POST\"]\neffect = \"mutate\"\nlabels = [\"partner\"]\n";
    let daemon = Daemon::governed(&policy, &rule("api", &upstream, more)).await;
    daemon.agent(super::API).await.unwrap();
    let put = |method: &str, path: &str, content_type: &str| {
        let headers = json!([["content-type", content_type]]);
        with(&upstream, path, json!({ "method": method, "headers": headers, "body": ["word"] }))
    };
    let exact = put("PUT", "/v1/things?a=b", "text/plain; charset=utf-8");
    let others = [
        put("POST", "/v1/things?a=b", "text/plain"),
        put("PUT", "/v1/things/?a=b", "text/plain"),
        put("PUT", "/v1/things?a=c", "text/plain"),
        put("PUT", "/v1/things?a=b", "text/html"),
    ];
    for other in others {
        let said = daemon.ask(json!([other.clone()])).await;
        assert_eq!(code(&said[0]), "POLICY_NO_PERMIT", "{other}");
        assert!(said[0].contains("exactly"), "{said:?}");
    }
    assert!(upstream.seen().is_empty());
    assert_eq!(answered(&daemon.ask(json!([exact])).await[0])["status"], 200);
}

#[tokio::test]
async fn what_a_response_brings_does_not_forbid_the_response() {
    let policy =
        "permit (principal, action == Palisade::Action::\"SendRequest\", resource) when { context.labels.isEmpty() };";
    let (daemon, upstream) = governed(policy, "labels = [\"partner\"]", "").await;
    let said = daemon.ask(json!([get(&upstream, "/"), get(&upstream, "/")])).await;
    assert_eq!(answered(&said[0])["status"], 200, "it was permitted, and sends nothing more");
    assert_eq!(code(&said[1]), "POLICY_NO_PERMIT", "the next one is another request");
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn a_policy_sees_which_credential_would_go_along() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    fs::write(&file, "canary-7d1f").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let credential = format!("[[credential]]\nname = \"token\"\ntype = \"bearer\"\nsource = {{ file = {file:?} }}\n");
    let only_reads = format!(
        "{ALL}@id(\"reads\") forbid (principal, action == Palisade::Action::\"SendRequest\", resource) \
         when {{ context.credential == \"token\" && context.effect != \"read\" }};"
    );
    let (daemon, upstream) =
        governed(&only_reads, "methods = [\"GET\", \"POST\"]\ncredentials = [\"token\"]", &credential).await;
    let acts = json!([get(&upstream, "/"), post(&upstream, "/")]);
    assert!(daemon.ask(acts.clone()).await.iter().all(|said| answered(said)["status"] == 200));
    let manifest = "[[egress]]\nrule = \"api\"\ncredential = \"token\"\n";
    daemon.register(&crate::harness::tester("2", manifest), true).await.unwrap();
    let said = daemon.ask(acts).await;
    assert_eq!((&answered(&said[0])["status"], code(&said[1]).as_str()), (&json!(200), "POLICY_FORBIDS"));
}

#[tokio::test]
async fn what_no_rule_admits_is_denied_with_the_nearest_that_would_be() {
    let (daemon, upstream) = api("paths = [\"/v1/things/**\"]").await;
    let acts = json!([
        get(&upstream, "/v1/things/7"),
        get(&upstream, "/v1/others"),
        post(&upstream, "/v1/things/7"),
        with(&upstream, "/v1/things/7", json!({ "authority": "elsewhere.example" })),
    ]);
    let said = daemon.ask(acts).await;
    assert_eq!(answered(&said[0])["status"], 200);
    for (outcome, words) in said[1..].iter().zip(["paths", "methods", "host"]) {
        assert_eq!(code(outcome), "NOT_IN_MANIFEST");
        assert!(outcome.contains("/v1/things/**") && outcome.contains("do not retry"), "{words}: {outcome}");
    }
    assert_eq!(upstream.seen().len(), 1);
    let denials = daemon.records(&["denial"]).await;
    assert_eq!(denials.len(), 3);
    assert!(denials.iter().all(|denial| denial["body"]["error"]["alternative"].as_str().unwrap().contains("`api`")));
    // Without an agent there is none.
    assert_eq!(code(&daemon.probe(json!([get(&upstream, "/v1/things/7")])).await[0]), "NOT_IN_MANIFEST");
}

#[tokio::test]
async fn who_observes_sends_by_the_tenants_rules_without_any_credential() {
    let (dir, upstream, beyond) = (tempfile::tempdir().unwrap(), upstream().await, super::upstream().await);
    let file = dir.path().join("token");
    fs::write(&file, "canary-9c2e").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let credential = format!("[[credential]]\nname = \"token\"\ntype = \"bearer\"\nsource = {{ file = {file:?} }}\n");
    let api = rule("api", &upstream, "credentials = [\"token\"]");
    let daemon = Daemon::with(&format!("{api}{credential}[policy]\nmode = \"observe\"\n")).await;
    daemon.agent("").await.unwrap();
    let said = daemon.ask(json!([get(&upstream, "/"), get(&beyond, "/")])).await;
    assert_eq!(answered(&said[0])["status"], 200);
    assert_eq!(code(&said[1]), "NOT_IN_MANIFEST", "no rule gives it to anybody");
    assert!(upstream.seen()[0].values("authorization").is_empty() && beyond.connections().is_empty());
    let decision = &daemon.records(&["intent"]).await[0]["body"]["decision"];
    assert_eq!((&decision["verdict"], &decision["code"]), (&json!("would-deny"), &json!("NOT_IN_MANIFEST")));
    assert_eq!(code(&daemon.probe(json!([get(&upstream, "/")])).await[0]), "NOT_IN_MANIFEST", "nor without an agent");

    let ceiling = format!(
        "{}[ceiling]\neffects = [\"read\"]\n[policy]\nmode = \"observe\"\n",
        rule("api", &upstream, "methods = [\"GET\", \"POST\"]")
    );
    let ceiling = Daemon::with(&ceiling).await;
    ceiling.agent("").await.unwrap();
    let said = ceiling.ask(json!([get(&upstream, "/"), post(&upstream, "/")])).await;
    assert_eq!((&answered(&said[0])["status"], code(&said[1]).as_str()), (&json!(200), "ABOVE_CEILING"));
}

#[tokio::test]
async fn a_denial_of_a_request_is_explained_with_what_would_allow_it() {
    let (daemon, upstream) = governed("", "methods = [\"GET\", \"POST\"]", "").await;
    let said = daemon.ask(json!([get(&upstream, "/v1")])).await;
    assert_eq!(code(&said[0]), "POLICY_NO_PERMIT");
    let decision = daemon.records(&["denial"]).await[0]["body"]["error"]["decision"].as_str().unwrap().to_owned();
    let explained =
        daemon.policies().explain_decision(v1::ExplainDecisionRequest { decision }).await.unwrap().into_inner();
    super::reload(&daemon, &explained.addition).await;
    let said = daemon.ask(json!([get(&upstream, "/v1"), get(&upstream, "/v2"), post(&upstream, "/v1")])).await;
    assert_eq!(answered(&said[0])["status"], 200, "{}", explained.addition);
    assert!(said[1..].iter().all(|said| code(said) == "POLICY_NO_PERMIT"), "and nothing else: {}", explained.addition);
}
