use super::*;
use crate::policy::tests::{load, tools};

const POLICIES: &str = "
    @id(\"run\") permit (principal == Palisade::Caller::\"loopback\", action == Palisade::Action::\"RunStep\", resource);
    @id(\"read\") permit (principal, action == Palisade::Action::\"tool:ticket.read\", resource)
        when { context.arguments.queue == \"billing\" && principal.labels.contains(\"desk\") };
    @id(\"notes\") permit (principal, action in Palisade::Action::\"UseMemory\", resource == Palisade::Space::\"notes\")
        when { context.key like \"a/*\" && context.labels.contains(\"internal\") };";

fn run_all(cases: &str) -> Result<Vec<CaseResult>, BadCases> {
    run(&load(POLICIES), &tools(), cases)
}

const GOOD: &str = "
    [[case]]
    name = 'a step may start'
    agent = { name = 'desk' }
    action = 'run-step'
    expect = 'allow'
    policy = 'run'
    [[case]]
    name = 'not by others'
    component = 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
    caller = 'unix:1000'
    action = 'run-step'
    expect = 'deny'
    [[case]]
    name = 'its own queue'
    agent = { name = 'desk', labels = ['desk'], version = '1', owner = 'x' }
    action = 'call-tool'
    tool = 'ticket.read'
    arguments = { queue = 'billing', count = 3, tags = ['x'], page = { size = 1 } }
    expect = 'allow'
    policy = 'read'
    [[case]]
    name = 'its notes'
    agent = { name = 'desk' }
    action = 'write-memory'
    space = 'notes'
    key = 'a/b'
    labels = ['internal']
    expect = 'allow'
";

#[test]
fn cases_that_are_as_expected_pass() {
    let results = run_all(GOOD).unwrap();
    assert_eq!(results.len(), 4);
    assert!(results.iter().all(|result| result.passed && result.explanation.is_none()), "{results:?}");
}

#[test]
fn cases_that_are_not_as_expected_fail_and_say_why() {
    let results =
        run_all(&GOOD.replace("queue = 'billing'", "queue = 'legal'").replace("policy = 'run'", "policy = 'no'"));
    let passed: Vec<bool> = results.as_ref().unwrap().iter().map(|result| result.passed).collect();
    assert_eq!(passed, [false, true, false, true]);
    let explanation = results.unwrap()[2].explanation.clone().unwrap();
    assert_eq!(explanation.rule.as_deref(), Some("read"));
}

#[test]
fn cases_that_are_not_well_formed_are_refused() {
    let refused = |from: &str, to: &str| run_all(&GOOD.replacen(from, to, 1)).unwrap_err().to_string();
    assert!(refused("expect =", "expects =").contains("expects"));
    assert!(refused("owner = 'x'", "boss = 'x'").contains("boss"));
    assert!(refused("'allow'", "'maybe'").contains("maybe"));
    assert!(refused("'run-step'", "'run'").contains("run"));
    assert!(refused("[[case]]", "[[test]]").contains("test"));
    assert!(refused("tool = 'ticket.read'", "").contains("`its own queue` lacks `tool`"));
    assert!(refused("tool = 'ticket.read'", "tool = 'x'").contains("`x`, which is not registered"));
    assert!(refused("space = 'notes'", "space = 'notes'\ntool = 'x'").contains("has `tool`"));
    assert!(refused("'sha256:e3", "'e3").contains("is not a digest"));
    assert!(refused("agent = { name = 'desk' }", "").contains("lacks `agent`"));
    assert!(matches!(run_all(&" ".repeat(BYTES_MAX + 1)), Err(BadCases::TooLong(_))));
    assert!(run_all(&format!("x = {}", "[".repeat(100_000))).is_err());
}
