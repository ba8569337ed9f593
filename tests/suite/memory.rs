use palisade_proto::v1::Effect;
use serde_json::json;

use crate::harness::Daemon;

const NOTES: &str = "@id(\"notes\") permit (principal, action in Palisade::Action::\"UseMemory\", resource == Palisade::Space::\"notes\");";
const WRITABLE: &str = "[[memory]]\nspace = \"notes\"\nwritable = true\n";

fn put(key: &str, value: &str) -> serde_json::Value {
    json!({ "memory-put": { "space": "notes", "key": key, "value": value } })
}

fn get(key: &str) -> serde_json::Value {
    json!({ "memory-get": { "space": "notes", "key": key } })
}

#[tokio::test]
async fn what_one_step_puts_another_gets_with_who_wrote_it() {
    let daemon = Daemon::governed(NOTES, "").await;
    daemon.agent(WRITABLE).await.unwrap();
    let said = daemon.ask(json!([put("colour", "green"), get("colour")])).await;
    assert!(said[0].starts_with("ok: "), "{said:?}");
    let said =
        daemon.ask(json!([get("colour"), get("nothing"), { "memory-list": { "space": "notes", "prefix": "" } }])).await;
    assert!(said[0].contains("green") && said[0].contains("tester@1"), "{said:?}");
    assert!(said[1].starts_with("ok: none"), "{said:?}");
    assert!(said[2].contains("colour"), "{said:?}");
}

#[tokio::test]
async fn a_compare_and_set_lets_one_win() {
    let daemon = Daemon::governed(NOTES, "").await;
    daemon.agent(WRITABLE).await.unwrap();
    let first =
        |value: &str| json!({ "memory-put": { "space": "notes", "key": "k", "value": value, "if_version": 0 } });
    let said = daemon.ask(json!([first("a"), first("b"), get("k")])).await;
    assert!(
        said[0].starts_with("ok: ") && said[1].contains("MEMORY_CONFLICT") && said[2].contains("\"a\""),
        "{said:?}"
    );
}

#[tokio::test]
async fn a_value_is_gone_when_its_time_is_over_and_after_it_was_deleted() {
    let daemon = Daemon::governed(NOTES, "").await;
    daemon.agent(WRITABLE).await.unwrap();
    let brief = json!({ "memory-put": { "space": "notes", "key": "brief", "value": "x", "ttl_ms": 1 } });
    let delete = json!({ "memory-delete": { "space": "notes", "key": "k" } });
    let acts = json!([brief, { "sleep": { "milliseconds": 5 } }, get("brief"), put("k", "v"), delete, get("k")]);
    let said = daemon.ask(acts).await;
    assert!(said[2].starts_with("ok: none") && said[5].starts_with("ok: none"), "{said:?}");
}

#[tokio::test]
async fn a_space_that_the_manifest_does_not_name_is_not_there() {
    let daemon = Daemon::governed(NOTES, "").await;
    daemon.agent(WRITABLE).await.unwrap();
    let other = json!({ "memory-get": { "space": "others", "key": "k" } });
    let said = daemon.ask(json!([other])).await;
    assert!(said[0].contains("NOT_IN_MANIFEST") && said[0].contains("`notes`"), "{said:?}");
    let said = daemon.probe(json!([get("k")])).await;
    assert!(said[0].contains("NOT_IN_MANIFEST"), "{said:?}");
}

#[tokio::test]
async fn a_space_is_shared_only_by_policy() {
    let mine =
        "permit (principal == Palisade::Agent::\"tester\", action in Palisade::Action::\"UseMemory\", resource);";
    let daemon = Daemon::governed(mine, "").await;
    daemon.agent(WRITABLE).await.unwrap();
    let stranger = crate::harness::tester("1", WRITABLE).replace("\"tester\"", "\"stranger\"");
    daemon.register(&stranger, false).await.unwrap();
    daemon.ask(json!([put("secret", "canary-of-the-space")])).await;
    let request = palisade_proto::v1::RunStepRequest {
        agent: "stranger".into(),
        ..crate::harness::asked(json!([get("secret")]))
    };
    let said = daemon.run(request).await.unwrap().outcomes();
    assert!(said[0].contains("POLICY_NO_PERMIT") && !said[0].contains("canary"), "{said:?}");
}

#[tokio::test]
async fn a_space_given_for_reading_is_not_written() {
    let daemon = Daemon::governed(NOTES, "").await;
    daemon.agent("[[memory]]\nspace = \"notes\"\n").await.unwrap();
    let delete = json!({ "memory-delete": { "space": "notes", "key": "k" } });
    let said = daemon.ask(json!([put("k", "v"), delete, get("k")])).await;
    assert!(
        said[0].contains("READ_ONLY") && said[1].contains("READ_ONLY") && said[2].starts_with("ok: none"),
        "{said:?}"
    );
}

#[tokio::test]
async fn keys_values_and_spaces_are_bounded_by_name() {
    let daemon = Daemon::governed(
        NOTES,
        "[limits]\nmemory_value_bytes = 100\nmemory_space_bytes = 1_000\nmemory_space_keys = 5\n",
    )
    .await;
    daemon.agent(WRITABLE).await.unwrap();
    let fill: Vec<_> = (0..7).map(|n| put(&format!("k{n}"), "v")).collect();
    let said = daemon
        .ask(json!([put("", "v"), put("a\nb", "v"), put(&"k".repeat(513), "v"), put("k", &"v".repeat(200))]))
        .await;
    assert!(said[..3].iter().all(|said| said.contains("KEY_INVALID")), "{said:?}");
    assert!(said[3].contains("VALUE_TOO_LARGE") && said[3].contains("100"), "{said:?}");
    let said = daemon.ask(json!(fill)).await;
    assert!(said[4].starts_with("ok: ") && said[5].contains("MEMORY_FULL"), "{said:?}");
}

#[tokio::test]
async fn a_tool_uses_a_space_only_where_the_manifest_says_so() {
    let policies = format!("{NOTES} permit (principal, action in Palisade::Action::\"CallTool\", resource);");
    let daemon = Daemon::governed(&policies, "").await;
    daemon.tool("keeper", Effect::Mutate).await.unwrap();
    daemon.tool("stranger", Effect::Mutate).await.unwrap();
    let tools = "[[tool]]\nname = \"keeper\"\nspaces = [\"notes\"]\n[[tool]]\nname = \"stranger\"\n";
    daemon.agent(&format!("{tools}{WRITABLE}")).await.unwrap();
    let keep = |tool: &str| {
        let act = json!({ "memory-put": { "space": "notes", "key": tool, "value": "v" } });
        json!({ "call-tool": { "name": tool, "arguments": { "act": act } } })
    };
    let said = daemon.ask(json!([keep("keeper"), keep("stranger"), get("keeper"), get("stranger")])).await;
    assert!(said[1].contains("NARROWED"), "{said:?}");
    assert!(!said[2].starts_with("ok: none") && said[3].starts_with("ok: none"), "{said:?}");
}

#[tokio::test]
async fn memory_survives_a_restart() {
    let daemon = Daemon::governed(NOTES, "").await;
    daemon.agent(WRITABLE).await.unwrap();
    daemon.ask(json!([put("k", "kept")])).await;
    let daemon = daemon.restart().await;
    let said = daemon.ask(json!([get("k")])).await;
    assert!(said[0].contains("kept"), "{said:?}");
}
