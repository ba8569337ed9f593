//! What a request costs.

use palisade_proto::v1;
use serde_json::{Value, json};

use super::{ALL, answered, api, code, get, governed, post, with};
use crate::harness::{
    asked,
    upstream::{Piece, Reply},
};

const MIB: usize = 1 << 20;

fn budget(acts: Value, budget: v1::Budget) -> v1::RunStepRequest {
    v1::RunStepRequest { budget: Some(budget), ..asked(acts) }
}

#[tokio::test]
async fn a_response_stops_where_the_budget_ends() {
    let (daemon, upstream) = api("").await;
    upstream.on("/large", |_| Reply::text(vec![b'x'; MIB]));
    let acts = json!([get(&upstream, "/large"), get(&upstream, "/large")]);
    let plenty = v1::Budget { bytes_in: Some(4 * MIB as i64), ..Default::default() };
    let ran = daemon.run(budget(acts.clone(), plenty)).await.unwrap();
    assert!(ran.outcomes().iter().all(|said| answered(said)["body_bytes"] == MIB), "{:?}", ran.outcomes());
    assert!(ran.result.spent.unwrap().bytes_in.unwrap() > 2 * MIB as i64);

    let scant = v1::Budget { bytes_in: Some(3 * MIB as i64 / 2), ..Default::default() };
    let ran = daemon.run(budget(acts, scant)).await.unwrap();
    let said = ran.outcomes();
    assert_eq!(answered(&said[0])["body_bytes"], MIB);
    assert_eq!(code(&said[1]), "BUDGET_EXHAUSTED");
    let broken: Value = serde_json::from_str(said[1].strip_prefix("error: ").unwrap()).unwrap();
    let why = &broken["why"];
    assert_eq!(
        (&broken["at"], &why["dimension"], &why["account"]),
        (&json!("read"), &json!("bytes_in"), &json!("step"))
    );
    assert!((1..MIB as u64 / 2).contains(&broken["body_bytes"].as_u64().unwrap()), "in the middle: {broken}");
    assert!(ran.result.spent.unwrap().bytes_in.unwrap() <= 3 * MIB as i64 / 2);
    assert_eq!(daemon.records(&["outcome"]).await.last().unwrap()["body"]["error"]["code"], "BUDGET_EXHAUSTED");
}

#[tokio::test]
async fn a_request_stops_where_the_budget_ends() {
    let (daemon, upstream) = api("methods = [\"POST\"]\nrequest_bytes = 16_777_216").await;
    let body = json!({ "method": "POST", "body": vec![json!({ "fill": 100_000 }); 5] });
    let acts = json!([with(&upstream, "/a", body.clone()), with(&upstream, "/b", body)]);
    let scant = v1::Budget { bytes_out: Some(750_000), ..Default::default() };
    let ran = daemon.run(budget(acts, scant)).await.unwrap();
    let said = ran.outcomes();
    assert_eq!(answered(&said[0])["status"], 200);
    assert_eq!(code(&said[1]), "BUDGET_EXHAUSTED");
    upstream.until("what is stopped is closed", |upstream| upstream.connections().last().unwrap().closed).await;
    let seen = upstream.seen();
    assert_eq!((seen[0].body.len(), seen[0].complete), (500_000, true));
    assert!(seen[1].body.len() <= 250_000 && !seen[1].complete, "{}", seen[1].body.len());
    let spent = ran.result.spent.unwrap().bytes_out.unwrap();
    assert!((500_000..=750_000).contains(&spent), "{spent}");
}

#[tokio::test]
async fn a_denied_request_costs_only_the_call() {
    let forbid = format!(
        "{ALL}@id(\"no\") forbid (principal, action == Palisade::Action::\"SendRequest\", resource) when {{ context.path == \"/no\" }};"
    );
    let (daemon, upstream) =
        governed(&forbid, "methods = [\"GET\", \"POST\"]\nrate = { requests = 2, seconds = 3600 }", "").await;
    let elsewhere = json!({ "authority": "127.0.0.1:1", "method": "POST", "body": ["word"] });
    let acts = json!([
        with(&upstream, "/", elsewhere),
        post(&upstream, "/no"),
        post(&upstream, "/no"),
        post(&upstream, "/no"),
    ]);
    let ran = daemon.run(asked(acts)).await.unwrap();
    assert_eq!(
        ran.outcomes().iter().map(|said| code(said)).collect::<Vec<_>>(),
        ["NOT_IN_MANIFEST", "POLICY_FORBIDS", "POLICY_FORBIDS", "POLICY_FORBIDS"]
    );
    let spent = ran.result.spent.unwrap();
    assert_eq!((spent.host_calls, spent.bytes_out, spent.bytes_in), (Some(4), Some(0), Some(0)));
    // Nor does it use up what others may send.
    let said = daemon.ask(json!([get(&upstream, "/"), get(&upstream, "/"), get(&upstream, "/")])).await;
    assert_eq!(answered(&said[0])["status"], 200);
    assert_eq!(answered(&said[1])["status"], 200);
    assert_eq!(code(&said[2]), "RATE_LIMITED");
}

#[tokio::test]
async fn a_rule_bounds_both_bodies_by_name() {
    let (daemon, upstream) = api("methods = [\"GET\", \"POST\"]\nrequest_bytes = 1_000\nresponse_bytes = 2_000").await;
    upstream.on("/fits", |_| Reply::text(vec![b'x'; 2_000]));
    upstream.on("/said", |_| Reply::text(vec![b'x'; 2_001]));
    upstream
        .on("/unsaid", |_| Reply::text("").body(vec![Piece::Bytes(vec![b'x'; 1_500]), Piece::Bytes(vec![b'x'; 600])]));
    let body = |bytes: usize| json!({ "method": "POST", "body": [{ "fill": bytes }] });
    let acts = json!([
        get(&upstream, "/fits"),
        get(&upstream, "/said"),
        get(&upstream, "/unsaid"),
        with(&upstream, "/fits", body(1_000)),
        with(&upstream, "/fits", body(1_001)),
    ]);
    let said = daemon.ask(acts).await;
    assert_eq!((&answered(&said[0])["body_bytes"], &answered(&said[3])["body_bytes"]), (&json!(2_000), &json!(2_000)));
    for (outcome, expected, limit) in [
        (&said[1], "RESPONSE_TOO_LARGE", "response_bytes"),
        (&said[2], "RESPONSE_TOO_LARGE", "response_bytes"),
        (&said[4], "REQUEST_TOO_LARGE", "request_bytes"),
    ] {
        assert!(code(outcome) == expected && outcome.contains(limit), "{said:?}");
    }
    assert!(upstream.seen().iter().all(|seen| !seen.complete || seen.body.len() <= 1_000));
}
