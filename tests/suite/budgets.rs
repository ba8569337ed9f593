use palisade_proto::v1::{self, Effect};
use serde_json::{Value, json};
use tonic::Code;

use crate::harness::{Daemon, asked, probe, reason};

const ALL: &str = "permit (principal, action in Palisade::Action::\"CallTool\", resource);";

async fn desk(extra: &str) -> Daemon {
    let daemon = Daemon::governed(ALL, extra).await;
    daemon.tool("t", Effect::Read).await.unwrap();
    daemon.agent("[[tool]]\nname = \"t\"\n").await.unwrap();
    daemon
}

fn calls(count: usize) -> Value {
    vec![json!({ "call-tool": { "name": "t", "arguments": { "queue": "q" } } }); count].into()
}

#[tokio::test]
async fn a_step_that_has_used_up_its_calls_makes_no_more() {
    let daemon = desk("").await;
    for (budget, name) in [
        (v1::Budget { tool_calls: Some(2), ..Default::default() }, "tool_calls"),
        (v1::Budget { host_calls: Some(2), ..Default::default() }, "host_calls"),
        (v1::Budget { bytes_out: Some(30), ..Default::default() }, "bytes_out"),
    ] {
        let before = daemon.records(&["intent"]).await.len();
        let ran = daemon.run(v1::RunStepRequest { budget: Some(budget), ..asked(calls(4)) }).await.unwrap();
        let said = ran.outcomes();
        assert!(said[0].starts_with("ok: "), "{said:?}");
        assert!(said[3].contains("BUDGET_EXHAUSTED") && said[3].contains(name), "{said:?}");
        assert_eq!(daemon.records(&["intent"]).await.len() - before, 2, "{name}");
    }
}

#[tokio::test]
async fn a_tools_fuel_is_its_steps_spending() {
    let daemon = desk("").await;
    let ran = daemon.run(asked(calls(3))).await.unwrap();
    let (usage, spent) = (ran.result.usage.unwrap(), ran.result.spent.unwrap());
    assert!(spent.fuel.unwrap() > usage.fuel, "{spent:?} {usage:?}");
    assert_eq!((spent.tool_calls, spent.host_calls), (Some(3), Some(3)));
    assert!(spent.bytes_in.unwrap() > 0 && spent.bytes_out.unwrap() > 0);
}

#[tokio::test]
async fn a_tool_gets_no_more_fuel_than_its_step_has_left() {
    let daemon = desk("").await;
    let limits = v1::StepLimits { fuel: Some(50_000_000), ..Default::default() };
    // The step's own limit is set aside, so this leaves one unit for its tools.
    let budget = v1::Budget { fuel: Some(50_000_001), ..Default::default() };
    let request = v1::RunStepRequest { limits: Some(limits), budget: Some(budget), ..asked(calls(1)) };
    let said = daemon.run(request).await.unwrap().outcomes();
    assert!(said[0].contains("TOOL_STOPPED") && said[0].contains("FUEL_EXHAUSTED"), "{said:?}");
}

#[tokio::test]
async fn the_steps_of_a_job_share_its_budget_also_across_a_restart() {
    let daemon = desk("[budgets.job]\ntool_calls = 3\n").await;
    let request = || v1::RunStepRequest { job: "morning".into(), ..asked(calls(2)) };
    let first = daemon.run(request()).await.unwrap().outcomes();
    assert!(first.iter().all(|said| said.starts_with("ok: ")), "{first:?}");
    let daemon = daemon.restart().await;
    let second = daemon.run(request()).await.unwrap().outcomes();
    assert!(second[0].starts_with("ok: "), "{second:?}");
    assert!(second[1].contains("BUDGET_EXHAUSTED") && second[1].contains("job `morning`"), "{second:?}");
    // Another job has its own.
    let other = v1::RunStepRequest { job: "evening".into(), ..asked(calls(2)) };
    assert!(daemon.run(other).await.unwrap().outcomes().iter().all(|said| said.starts_with("ok: ")));
}

#[tokio::test]
async fn a_tenant_that_has_used_up_its_window_starts_nothing() {
    let daemon = Daemon::with("[budgets.tenant]\nwall_ms = 60_000\nwindow_ms = 3_600_000\n").await;
    // The first takes all of it, for as long as it runs.
    daemon.probe(json!([])).await;
    let refused = daemon.run(probe(json!([]))).await.err().unwrap();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "BUDGET_EXHAUSTED"));
    assert!(refused.message().contains("tenant") && refused.message().contains("resets in"), "{}", refused.message());
    let daemon = daemon.restart().await;
    assert_eq!(
        reason(&daemon.run(probe(json!([]))).await.err().unwrap()),
        "BUDGET_EXHAUSTED",
        "a restart forgives nothing"
    );
}
