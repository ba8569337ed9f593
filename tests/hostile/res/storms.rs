//! Storms of calls: of tools, of tools by tools, of memory, of requests; and floods of the disk.

use palisade_proto::v1::{self, Effect};
use serde_json::{Value, json};

use super::{
    super::siege::{Attack, SLOTS, Siege},
    MEMORY_AT_ONCE, flood, flood_within, floods, little, milliseconds, run, timed,
};
use crate::harness::{Daemon, asked, limited, within};

const PERMIT: &str = "permit (principal, action, resource) when { action in [Palisade::Action::\"CallTool\", Palisade::Action::\"UseMemory\"] || action == Palisade::Action::\"SendRequest\" };";

/// Where nobody listens.
const RULE: &str =
    "[[egress]]\nname = \"r\"\nscheme = \"http\"\nhost = \"127.0.0.1\"\nport = 1\ncidrs = [\"127.0.0.1/32\"]\n";

const GRANTS: &str = "[[tool]]\nname = \"self\"\ntools = [\"self\"]\n[[memory]]\nspace = \"s\"\nwritable = true\n[[egress]]\nrule = \"r\"\n";

async fn besieged() -> Siege {
    let limits =
        format!("[limits]\nconcurrent_steps = {SLOTS}\nmemory_space_keys = 50\nmemory_value_bytes = 1000\n{RULE}");
    let daemon = Daemon::governed(PERMIT, &limits).await;
    daemon.tool("self", Effect::Read).await.unwrap();
    daemon.agent(GRANTS).await.unwrap();
    Siege::around(daemon).await
}

/// A tool that calls itself so many times deep, and does `last` at the bottom.
fn nested(depth: usize, last: Value) -> Value {
    (0..depth).fold(last, |inner, _| json!({ "act": { "call": { "name": "self", "arguments": inner } } }))
}

#[tokio::test]
async fn res_12_storms_of_calls_end_at_a_budget() {
    let mut siege = besieged().await;
    let repeat = |count: u64, act: Value| json!({ "repeat": { "count": count, "act": act } });
    let rows = [
        ("tools", repeat(100_000, json!({ "call-tool": { "name": "self", "arguments": {} } })), "BUDGET_EXHAUSTED"),
        ("lists of tools", repeat(100_000, json!("list-tools")), "BUDGET_EXHAUSTED"),
        ("reads of memory", repeat(100_000, json!({ "memory-get": { "space": "s", "key": "k" } })), "BUDGET_EXHAUSTED"),
        ("lists of memory", repeat(100_000, json!({ "memory-list": { "space": "s" } })), "BUDGET_EXHAUSTED"),
        (
            "writes of memory",
            repeat(100_000, json!({ "memory-put": { "space": "s", "key": "k", "value": 1 } })),
            "BUDGET_EXHAUSTED",
        ),
        (
            "values that are too large",
            repeat(9, json!({ "memory-put-bytes": { "space": "s", "key": "k", "bytes": 5_000 } })),
            "VALUE_TOO_LARGE",
        ),
        (
            "arguments that are too large",
            json!({ "call-tool": { "name": "self", "arguments": { "queue": "x".repeat(300_000) } } }),
            "ARGUMENTS_INVALID",
        ),
        ("requests to nobody", repeat(100_000, json!({ "fetch": { "url": "http://127.0.0.1:1/" } })), "CONNECT_FAILED"),
        (
            "requests that no rule admits",
            repeat(100_000, json!({ "fetch": { "url": "http://10.0.0.1/" } })),
            "NOT_IN_MANIFEST",
        ),
        (
            "tools in tools",
            json!({ "call-tool": { "name": "self", "arguments": nested(9, json!({ "queue": "bottom" })) } }),
            "TOO_DEEP",
        ),
    ];
    // Each twice at once, and each in a job of its own.
    let runs = rows.iter().flat_map(|row| [row, row]).enumerate().map(|(n, (name, act, code))| {
        let limits = v1::StepLimits { timeout: milliseconds(40_000), ..Default::default() };
        let budget = Some(v1::Budget { host_calls: Some(60), ..Default::default() });
        let job = format!("job-{n}");
        let request = v1::RunStepRequest { job, budget, ..limited(asked(json!([act])), limits) };
        let daemon = &siege.daemon;
        async move {
            let said = daemon
                .run(request)
                .await
                .map(|ran| format!("{:?} {}", ran.result.failure, String::from_utf8_lossy(&ran.result.output)));
            let held = said.as_ref().is_ok_and(|said| said.contains(code));
            (format!("{name} {n}"), held.then_some(()).ok_or_else(|| format!("{said:.1000?}")))
        }
    });
    let judged = futures::future::join_all(runs).await;
    for (name, held) in judged {
        siege.judge(&name, held);
    }
    siege.lift(8 * (256 << 20)).await;
}

#[tokio::test]
async fn res_13_tools_that_call_tools_share_what_their_step_may_use() {
    let mut siege = besieged().await;
    let deep = |act: Value| json!({ "call-tool": { "name": "self", "arguments": nested(2, json!({ "act": act })) } });
    let rows = [
        ("a loop at the bottom", deep(json!("spin"))),
        ("memory at the bottom", deep(json!("grow"))),
        ("recursion at the bottom", deep(json!("recurse"))),
        ("a trap at the bottom", deep(json!("panic"))),
        ("sleep at the bottom", deep(json!({ "sleep": { "milliseconds": 100_000 } }))),
    ];
    let limits = v1::StepLimits { fuel: Some(500_000_000), timeout: milliseconds(3_000), ..little() };
    let budget = v1::Budget { fuel: Some(2_000_000_000), wall_time: milliseconds(12_000), ..Default::default() };
    let attacks = rows.map(|(name, act)| {
        let request = v1::RunStepRequest { budget: Some(budget), ..limited(asked(json!([act])), limits) };
        // The tool is stopped; its step is told, or its own time is over meanwhile.
        Attack::new(name, request, &["SUCCEEDED", "TIMEOUT"])
    });
    siege.steps(attacks.into()).await;
    siege.lift(MEMORY_AT_ONCE * 4).await;
}

#[tokio::test]
async fn res_12_floods_of_the_disk_end_at_the_quota() {
    let mut siege = Siege::lay("").await;
    let floods = siege.push(&floods()).await;
    let mut attacks = Vec::new();
    for (workspace, bytes, entries) in
        [("bytes", 3_000_000, 10_000), ("entries", 100_000_000, 50), ("deep", 100_000_000, 500)]
    {
        let request = v1::CreateWorkspaceRequest {
            workspace_id: workspace.into(),
            quota_bytes: Some(bytes),
            quota_entries: Some(entries),
        };
        siege.daemon.workspaces().create_workspace(request).await.unwrap();
        // The guest gives up when it is told that there is no room.
        let (flood, ends): (&[&str], &'static [&'static str]) = match workspace {
            "deep" => (&["deep", "5000"], &["NONZERO_EXIT", "RESOURCES_EXCEEDED"]),
            _ => (&["disk"], &["TRAPPED"]),
        };
        attacks.push(Attack::new(workspace, within(workspace, run(&floods, flood, timed(20_000))), ends));
    }
    attacks.push(flood(&floods, "deep", 100, &["SUCCEEDED"]));
    siege.steps(attacks).await;
    siege.lift(MEMORY_AT_ONCE).await;
}

#[tokio::test]
async fn res_07_sleepers_hold_no_more_than_their_slots() {
    let mut siege = Siege::lay("").await;
    let floods = siege.push(&floods()).await;
    // More than there are slots: the last ones, and the neighbour, wait for those that sleep, and no longer.
    siege.forgive_the_neighbour();
    let attacks: Vec<_> =
        (0..3 * SLOTS).map(|n| flood_within(&floods, "sleep", n as u64, timed(200), &["TIMEOUT"])).collect();
    siege.all_at_once(attacks).await;
    siege.lift(SLOTS as u64 * super::MEMORY).await;
}
