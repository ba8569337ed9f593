//! Containment rules hold agents by what they do, and say by which records.

use std::time::Duration;

use palisade_proto::v1::{self, hold::Action, step_result::Outcome};
use serde_json::{Value, json};

use super::{lift, listed, refused, stopping::eventually_async};
use crate::harness::{
    Daemon, asked, palisade,
    upstream::{Reply, Upstream},
};

const ALL: &str = "permit (principal, action, resource);";

const NOTES: &str = "[[memory]]\nspace = \"notes\"\nwritable = true\n";

fn rule(name: &str, when: &str, then: &str) -> String {
    format!(
        "[[containment]]\nname = \"{name}\"\nagents = [\"*\"]\nwhen = {{ {when}, within_seconds = 3_600 }}\n{then}\n"
    )
}

fn get(space: &str, key: &str) -> Value {
    json!({ "memory-get": { "space": space, "key": key } })
}

fn put(key: &str) -> Value {
    json!({ "memory-put": { "space": "notes", "key": key, "value": "v" } })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_tries_doors_is_quarantined_with_the_records_of_it_until_it_is_lifted() {
    let doors = rule("doors", "denials = 3", "then = \"quarantine\"\nuntil_lifted = true");
    let daemon = Daemon::governed(ALL, &doors).await;
    daemon.agent(NOTES).await.unwrap();
    let acts: Vec<_> = (0..5).map(|_| get("others", "k")).chain([get("notes", "k")]).collect();
    let said = daemon.ask(json!(acts)).await;
    assert!(said[..3].iter().all(|said| said.contains("NOT_IN_MANIFEST")), "{said:?}");
    assert!(said[3].contains("NOT_IN_MANIFEST") || said[3].contains("HELD"), "{said:?}");
    assert!(said[5].contains("HELD") && said[5].contains("doors"), "what it may call is held, too: {said:?}");
    refused(&daemon, asked(json!([]))).await;
    let holds = listed(&daemon).await;
    let [held] = holds.as_slice() else { panic!("{holds:?}") };
    assert_eq!((held.action(), held.scope.as_str()), (Action::Quarantine, "tenants/default/agents/tester"));
    assert_eq!((held.by.as_str(), &held.expire_time), ("containment/doors", &None));
    let denials: Vec<i64> =
        daemon.records(&["denial"]).await.iter().map(|record| record["sequence"].as_i64().unwrap()).collect();
    assert_eq!(held.records, denials[..3]);
    let recorded = daemon.records(&["control"]).await;
    assert_eq!(recorded[0]["body"]["hold"]["by"], "containment/doors");
    let daemon = daemon.restart().await;
    refused(&daemon, asked(json!([]))).await;
    lift(&daemon, &held.name).await.unwrap();
    let said = daemon.ask(json!([get("others", "k"), get("notes", "k")])).await;
    assert!(said[0].contains("NOT_IN_MANIFEST") && said[1].starts_with("ok: "), "it counts from nothing: {said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_in_a_loop_can_only_read_and_others_are_not_held() {
    let daemon =
        Daemon::governed(ALL, &rule("loops", "same_call = 10", "then = \"read-only\"\nfor_seconds = 600")).await;
    daemon.agent(NOTES).await.unwrap();
    let other = crate::harness::tester("1", NOTES).replace("\"tester\"", "\"other\"");
    daemon.register(&other, false).await.unwrap();
    let different: Vec<_> = (0..30).map(|key| put(&format!("k-{key}"))).collect();
    assert!(daemon.ask(json!(different)).await.iter().all(|said| said.starts_with("ok: ")));
    let same: Vec<_> = (0..10).map(|_| get("notes", "k")).chain([put("k"), get("notes", "k")]).collect();
    let said = daemon.ask(json!(same)).await;
    assert!(said[..10].iter().all(|said| said.starts_with("ok: ")), "{said:?}");
    assert!(said[10].contains("HELD") && said[11].starts_with("ok: "), "{said:?}");
    let held = listed(&daemon).await;
    assert!(held.len() == 1 && held[0].action() == Action::ReadOnly && held[0].expire_time.is_some(), "{held:?}");
    let request = v1::RunStepRequest { agent: "other".into(), ..asked(json!([put("k")])) };
    let ran = daemon.run(request).await.unwrap();
    assert!(ran.outcome() == Outcome::Succeeded && ran.outcomes()[0].starts_with("ok: "));
    let shown = palisade().args(["hold", "list", "--endpoint", &daemon.endpoint()]).output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains("read-only tenants/default/agents/tester") && shown.contains("containment/loops"),
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_for_whom_there_is_no_room_is_said_not_to_be_held_and_is_watched_on() {
    let doors = rule("doors", "denials = 3", "then = \"quarantine\"\nuntil_lifted = true");
    let mut daemon = Daemon::governed(ALL, &doors).await;
    daemon.agent(NOTES).await.unwrap();
    let acts = || json!((0..3).map(|_| get("others", "k")).collect::<Vec<_>>());
    daemon.ask(acts()).await;
    daemon.stop().await;
    let file = daemon.dir.path().join("data/holds.json");
    let kept: Vec<Value> = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let many = (0..900).map(|id| {
        let mut hold = kept[0].clone();
        hold["id"] = json!(format!("holds/{id:032x}"));
        hold["scope"] = json!("tenants/others/agents/tester");
        hold
    });
    std::fs::write(&file, json!(many.collect::<Vec<_>>()).to_string()).unwrap();
    let daemon = daemon.again().await;
    daemon.ask(acts()).await;
    let refusal = daemon.records(&["control"]).await.pop().unwrap();
    assert_eq!(refusal["body"]["change"], "refused");
    assert!(refusal["body"]["why"].as_str().unwrap().contains("the limit `holds`"), "{refusal}");
    for id in 0..450 {
        lift(&daemon, &format!("holds/{id:032x}")).await.unwrap();
    }
    daemon.ask(acts()).await;
    refused(&daemon, asked(json!([]))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_ends_as_it_triggers_a_rule_is_held_all_the_same() {
    let doors = rule("doors", "denials = 3", "then = \"quarantine\"\nuntil_lifted = true");
    let daemon = Daemon::governed(ALL, &doors).await;
    let acts = json!((0..3).map(|_| get("others", "k")).collect::<Vec<_>>());
    let agents: Vec<_> = (0..40).map(|number| format!("agent-{number}")).collect();
    for (number, agent) in agents.iter().enumerate() {
        let manifest = crate::harness::tester("1", NOTES).replace("\"tester\"", &format!("\"{agent}\""));
        daemon.register(&manifest, false).await.unwrap();
        let request = v1::RunStepRequest { agent: agent.clone(), ..asked(acts.clone()) };
        let stream = daemon.steps().run_step(request).await.unwrap();
        tokio::time::sleep(Duration::from_micros(400 * number as u64)).await; // somewhere on its way
        drop(stream);
    }
    eventually_async("all have ended", async || daemon.records(&["result"]).await.len() == agents.len()).await;
    let denials = daemon.records(&["denial"]).await;
    let tried = |agent: &&String| denials.iter().filter(|record| record["agent"] == agent.as_str()).count() >= 3;
    for agent in agents.iter().filter(tried) {
        let scope = format!("tenants/default/agents/{agent}");
        eventually_async("it is held", async || listed(&daemon).await.iter().any(|hold| hold.scope == scope)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_soon_after_a_label_joined_is_not_sent() {
    let upstream = Upstream::plain(([127, 0, 0, 1], 0).into()).await;
    upstream.on("/x", |_| Reply::text("seen"));
    let (ip, port) = (upstream.address.ip(), upstream.address.port());
    let leaves = rule("leaves", "label = \"personal\", then = \"egress\"", "then = \"quarantine\"");
    let config = format!(
        "{leaves}[[space]]\nname = \"customers\"\nlabels = [\"personal\"]\n[[egress]]\nname = \"api\"\nscheme = \"http\"\nhost = \"{ip}\"\nport = {port}\ncidrs = [\"{ip}/32\"]\nmethods = [\"GET\"]\n"
    );
    let daemon = Daemon::governed(ALL, &config).await;
    daemon.agent("[[memory]]\nspace = \"customers\"\n[[egress]]\nrule = \"api\"\n").await.unwrap();
    let send = json!({ "http": { "scheme": "http", "authority": upstream.address.to_string(), "path": "/x" } });
    let said = daemon.ask(json!([send, get("customers", "k"), send])).await;
    assert!(!said[0].contains("HELD") && !said[1].contains("HELD") && said[2].contains("HELD"), "{said:?}");
    assert_eq!(upstream.seen().len(), 1, "only what was sent before");
    let label = daemon.records(&["label"]).await[0]["sequence"].as_i64().unwrap();
    assert_eq!(listed(&daemon).await[0].records, [label]);
}
