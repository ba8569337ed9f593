//! What was decided about a request holds only as long as what it was decided by.

use std::sync::Arc;

use palisade_proto::v1::run_step_response::Message;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::watch,
};

use super::{ALL, API, answered, api, ask_in, code, of_job, reload, reload_egress, rule, upstream};
use crate::harness::{
    Daemon, PATIENCE, asked,
    upstream::{Gate, Piece, Reply, Upstream},
};

const FORBID: &str = "@id(\"closed\") forbid (principal, action == Palisade::Action::\"SendRequest\", resource) when { context.path == \"/stream\" };\n";

/// Lets the agent read a stream whose second half comes when the gate opens; `meanwhile` runs between the halves.
async fn streamed(daemon: &Daemon, upstream: &Upstream, meanwhile: impl AsyncFnOnce()) -> String {
    let gate = Gate::new();
    let opened = gate.clone();
    upstream.on("/stream", move |_| {
        let (half, rest) = (Piece::Bytes(b"half".to_vec()), Piece::Bytes(b"rest".to_vec()));
        Reply::text("").body(vec![half, Piece::Wait(opened.clone()), rest])
    });
    let mut stream =
        daemon.steps().run_step(asked(json!([super::get(upstream, "/stream")]))).await.unwrap().into_inner();
    upstream.until("it was asked", |upstream| !upstream.seen().is_empty()).await;
    // The request was admitted, and its intent stands.
    meanwhile().await;
    gate.open();
    loop {
        let next = tokio::time::timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap();
        if let Some(Message::Result(result)) = next.message {
            let output: Value = serde_json::from_slice(&result.output).unwrap();
            return output["outcomes"][0].as_str().unwrap().to_owned();
        }
    }
}

#[tokio::test]
async fn a_stream_goes_on_while_nothing_changes_that_matters() {
    let (daemon, upstream) = api("").await;
    let said = streamed(&daemon, &upstream, async || {
        reload(
            &daemon,
            &format!("{ALL}@id(\"other\") {}", FORBID.split_once(' ').unwrap().1.replace("/stream", "/other")),
        )
        .await;
        reload_egress(&daemon, "[[egress]]\nrule = \"api\"\n").await;
    })
    .await;
    assert_eq!(answered(&said)["body"], "halfrest");
}

#[tokio::test]
async fn a_policy_that_forbids_a_stream_ends_it() {
    let (daemon, upstream) = api("").await;
    let said = streamed(&daemon, &upstream, async || reload(&daemon, &format!("{ALL}{FORBID}")).await).await;
    assert_eq!(code(&said), "POLICY_FORBIDS");
    assert!(!said.contains("rest"), "{said}");
    upstream.until("the connection is closed", |upstream| upstream.connections()[0].closed).await;
    let outcome = &daemon.records(&["outcome"]).await[0]["body"];
    assert_eq!((&outcome["status"], &outcome["error"]["code"]), (&json!("failed"), &json!("POLICY_FORBIDS")));
}

#[tokio::test]
async fn a_rule_that_a_tenant_changes_ends_its_streams() {
    let (daemon, upstream) = api("").await;
    let narrower = "[[egress]]\nrule = \"api\"\npaths = [\"/stream\"]\n";
    let said = streamed(&daemon, &upstream, async || reload_egress(&daemon, narrower).await).await;
    assert_eq!(code(&said), "RULE_CHANGED", "also if it would be admitted again: it was judged by another one");
    assert!(!said.contains("rest"), "{said}");
}

/// Echoes a request's body. Once it has echoed the first byte of it, it waits for the gate before each next piece.
async fn echo() -> (std::net::SocketAddr, watch::Receiver<Vec<u8>>, Arc<Gate>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, gate, (sender, seen)) = (listener.local_addr().unwrap(), Gate::new(), watch::channel(Vec::new()));
    let opened = gate.clone();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut buffer, mut all) = (vec![0; 64 << 10], Vec::new());
        let mut answered = false;
        while let Ok(got @ 1..) = stream.read(&mut buffer).await {
            all.extend(&buffer[..got]);
            sender.send_replace(all.clone());
            if !answered && all.windows(5).any(|window| window == b"first") {
                stream
                    .write_all(b"HTTP/1.1 200 -\r\ncontent-type: text/plain\r\ncontent-length: 15\r\n\r\n")
                    .await
                    .unwrap();
                opened.opened().await;
                stream.write_all(b"first").await.unwrap();
                answered = true;
            }
        }
    });
    (address, seen, gate)
}

#[tokio::test]
async fn a_label_that_joins_while_a_body_is_sent_stops_the_rest_of_it() {
    for (labels, stopped) in [("[\"confidential\"]", true), ("[\"harmless\"]", false)] {
        let (inside, (address, mut seen, gate)) = (upstream().await, echo().await);
        let (ip, port) = (address.ip(), address.port());
        let to = format!("scheme = \"http\"\nhost = \"{ip}\"\nport = {port}\ncidrs = [\"{ip}/32\"]");
        let public = format!("[[egress]]\nname = \"public\"\n{to}\nmethods = [\"POST\"]\nlabels = [\"public\"]\n");
        let config = format!("{}{public}", rule("api", &inside, &format!("labels = {labels}")));
        let starter = palisade::policy::STARTER;
        let daemon = Daemon::governed(&format!("{ALL}{starter}"), &config).await;
        daemon.agent(&format!("{API}[[egress]]\nrule = \"public\"\n")).await.unwrap();
        let act = json!({ "http-stream": {
            "scheme": "http", "authority": address.to_string(), "method": "POST",
            "headers": [["content-length", "15"]], "body": ["first", "after", "after"],
        } });
        let running = daemon.steps().run_step(of_job("leak", asked(json!([act])))).await.unwrap();
        seen.wait_for(|seen| seen.ends_with(b"first")).await.unwrap();
        // Another step of the job reads, and then the upload goes on.
        assert_eq!(answered(&ask_in(&daemon, "leak", json!([super::get(&inside, "/")])).await[0])["status"], 200);
        gate.open();
        if stopped {
            let mut stream = running.into_inner();
            let ended = loop {
                let next = tokio::time::timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap();
                if let Some(Message::Result(result)) = next.message {
                    break result;
                }
            };
            let said = String::from_utf8_lossy(&ended.output).into_owned();
            assert!(said.contains("POLICY_FORBIDS") && said.contains("confidential"), "{said}");
            assert!(!seen.borrow().windows(5).any(|window| window == b"after"), "it left all the same");
        } else {
            seen.wait_for(|seen| seen.windows(5).any(|window| window == b"after")).await.unwrap();
        }
    }
}
