#![allow(clippy::unwrap_used)]

mod keeping;

use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::step::{Digest, Name, ToolName, Version};

const STEP: &str = "steps/0123456789abcdef0123456789abcdef";

fn holds(dir: &TempDir) -> std::io::Result<Holds> {
    let spool = dir.path().join("spool");
    fs::create_dir_all(&spool)?;
    Holds::open(dir.path().join("holds.json"), spool)
}

fn hold(id: u32, action: Action, scope: &str) -> Hold {
    Hold {
        id: format!("holds/{id:032x}"),
        action,
        scope: scope.parse().unwrap(),
        reason: "it sends mail".into(),
        by: "unix:0".into(),
        since_ms: 1_000,
        until_ms: None,
        records: Vec::new(),
    }
}

/// Names of somebody who runs, as they stand in scopes.
struct Who {
    tenant: Name,
    job: Name,
    agent: (Name, Version),
    tool: (ToolName, Version),
    rule: Name,
    credential: Name,
}

fn who() -> Who {
    Who {
        tenant: "acme".parse().unwrap(),
        job: "morning".parse().unwrap(),
        agent: ("desk".parse().unwrap(), "1.2".parse().unwrap()),
        tool: ("ticket.read".parse().unwrap(), "3".parse().unwrap()),
        rule: "tracker".parse().unwrap(),
        credential: "token".parse().unwrap(),
    }
}

impl Who {
    fn subject(&self) -> Subject<'_> {
        Subject {
            tenant: &self.tenant,
            job: Some(&self.job),
            agent: Some((&self.agent.0, &self.agent.1)),
            component: Digest::of(b"desk"),
            caller: "unix:1000",
            step: STEP,
        }
    }

    fn target(&self) -> Target<'_> {
        Target {
            tool: Some((&self.tool.0, &self.tool.1)),
            component: Some(Digest::of(b"ticket")),
            rule: Some(&self.rule),
            host: Some("api.tracker.example"),
            credential: Some(&self.credential),
        }
    }
}

/// Scopes that cover the subject above.
fn subject_scopes() -> Vec<String> {
    let mut scopes = [
        "node",
        "tenants/acme",
        "callers/unix:1000",
        "agents/desk",
        "agents/desk@1.2",
        "tenants/acme/agents/desk",
        "jobs/morning",
        "tenants/acme/jobs/morning",
        STEP,
    ]
    .map(String::from)
    .to_vec();
    scopes.push(format!("components/{}", Digest::of(b"desk")));
    scopes
}

/// Scopes that cover the target above.
fn target_scopes() -> Vec<String> {
    let mut scopes = [
        "tools/ticket.read",
        "tools/ticket.read@3",
        "rules/tracker",
        "credentials/token",
        "hosts/api.tracker.example",
        "hosts/*.tracker.example",
        "hosts/*.example",
    ]
    .map(String::from)
    .to_vec();
    scopes.push(format!("components/{}", Digest::of(b"ticket")));
    scopes
}

/// Scopes that cover neither, though some nearly do.
fn other_scopes() -> Vec<String> {
    [
        "tenants/acm",
        "tenants/other/agents/desk",
        "tenants/other/jobs/morning",
        "callers/unix:100",
        "callers/loopback",
        "agents/desk@1",
        "agents/des",
        "jobs/mornin",
        "steps/0123456789abcdef0123456789abcdee",
        "tools/ticket",
        "tools/ticket.read@30",
        "rules/track",
        "credentials/toke",
        "hosts/tracker.example",
        "hosts/*.api.tracker.example",
        "hosts/*.racker.example",
        "hosts/10.0.0.1",
    ]
    .map(String::from)
    .to_vec()
}

#[test]
fn what_is_held_does_not_begin_and_what_is_not_does() {
    let dir = TempDir::new().unwrap();
    let (holds, who) = (holds(&dir).unwrap(), who());
    for action in [Action::Kill, Action::Freeze, Action::Cordon, Action::Drain, Action::Quarantine] {
        for (scopes, covers) in [(subject_scopes(), true), (target_scopes(), false), (other_scopes(), false)] {
            for scope in scopes {
                let imposed = holds.impose(hold(1, action, &scope)).unwrap();
                let found = holds.step(&who.subject(), 2_000);
                assert_eq!(found.is_some(), covers, "{action} {scope}");
                assert_eq!(holds.lift(&imposed.id).unwrap(), Some(imposed));
                assert!(holds.step(&who.subject(), 2_000).is_none());
            }
        }
    }
    for action in [Action::ReadOnly, Action::Throttle { per_minute: 1 }] {
        holds.impose(hold(1, action, "node")).unwrap();
        assert!(holds.step(&who.subject(), 2_000).is_none(), "{action} keeps nobody from beginning");
        holds.lift(&hold(1, action, "node").id).unwrap();
    }
}

#[test]
fn a_call_is_held_by_who_makes_it_and_by_what_it_is_about() {
    let dir = TempDir::new().unwrap();
    let (holds, who) = (holds(&dir).unwrap(), who());
    let throttle = Action::Throttle { per_minute: 7 };
    let actions = [Action::Kill, Action::Quarantine, Action::ReadOnly, Action::Cordon, Action::Drain, Action::Freeze];
    for action in actions.into_iter().chain([throttle]) {
        for (scopes, of_subject, of_target) in
            [(subject_scopes(), true, false), (target_scopes(), false, true), (other_scopes(), false, false)]
        {
            for scope in scopes {
                let held = holds.impose(hold(1, action, &scope)).unwrap();
                for reads in [true, false] {
                    let expected = match action {
                        _ if !of_subject && !of_target => Standing::Free,
                        Action::Kill | Action::Quarantine => Standing::Blocked(held.clone()),
                        Action::ReadOnly if !reads => Standing::Blocked(held.clone()),
                        Action::Cordon | Action::Drain if of_target => Standing::Blocked(held.clone()),
                        Action::Freeze => Standing::Frozen(held.clone()),
                        Action::Throttle { per_minute } => Standing::Throttled(held.clone(), per_minute),
                        _ => Standing::Free,
                    };
                    let found = holds.call(&who.subject(), &who.target(), reads, 2_000);
                    assert_eq!(found, expected, "{action} {scope}, reads: {reads}");
                }
                holds.lift(&held.id).unwrap();
            }
        }
    }
}

#[test]
fn of_several_holds_the_strictest_counts_in_any_order() {
    let who = who();
    let ordered = [
        (Action::Kill, "node"),
        (Action::Quarantine, "agents/desk"),
        (Action::Freeze, "hosts/*.example"),
        (Action::Throttle { per_minute: 2 }, "node"),
        (Action::Throttle { per_minute: 3 }, "tools/ticket.read"),
    ];
    for reversed in [false, true] {
        let dir = TempDir::new().unwrap();
        let holds = holds(&dir).unwrap();
        let mut numbered: Vec<_> = ordered.iter().enumerate().collect();
        if reversed {
            numbered.reverse();
        }
        for (id, (action, scope)) in numbered {
            holds.impose(hold(id as u32, *action, scope)).unwrap();
        }
        for (id, (action, _)) in ordered.iter().enumerate() {
            let found = match holds.call(&who.subject(), &who.target(), true, 2_000) {
                Standing::Blocked(hold) | Standing::Frozen(hold) | Standing::Throttled(hold, _) => hold,
                Standing::Free => panic!("{action} is forgotten"),
            };
            assert_eq!(found.action, *action);
            holds.lift(&hold(id as u32, *action, "node").id).unwrap();
        }
    }
}

#[test]
fn a_hold_ends_at_its_time_before_anybody_removes_it() {
    let dir = TempDir::new().unwrap();
    let (holds, who) = (holds(&dir).unwrap(), who());
    holds.impose(Hold { until_ms: Some(5_000), ..hold(1, Action::Kill, "node") }).unwrap();
    holds.impose(Hold { until_ms: Some(9_000), ..hold(2, Action::Cordon, "tenants/acme") }).unwrap();
    let action = |now_ms| holds.step(&who.subject(), now_ms).map(|hold| hold.action);
    assert_eq!([4_999, 5_000, 9_000].map(action), [Some(Action::Kill), Some(Action::Cordon), None]);
    assert_eq!(holds.call(&who.subject(), &who.target(), false, 5_000), Standing::Free);
    assert!(holds.expire(4_999, &|_| true).unwrap().is_empty() && holds.all().len() == 2);
    assert_eq!(holds.expire(5_000, &|_| true).unwrap()[0].action, Action::Kill);
    assert_eq!(holds.all().len(), 1);
    let again = holds.impose(Hold { since_ms: 9_000, ..hold(2, Action::Kill, "node") }).unwrap();
    assert_eq!((holds.all().len(), again.action), (1, Action::Kill), "one that has ended is not in the way");
}

#[test]
fn a_hold_says_why_and_by_whom_within_bounds() {
    let dir = TempDir::new().unwrap();
    let holds = holds(&dir).unwrap();
    let good = hold(1, Action::Throttle { per_minute: 1 }, "node");
    for (bad, problem) in [
        (Hold { reason: String::new(), ..good.clone() }, BadHold::Reason(0)),
        (Hold { reason: "x".repeat(1_025), ..good.clone() }, BadHold::Reason(1_025)),
        (Hold { by: "x".repeat(257), ..good.clone() }, BadHold::By(257)),
        (Hold { records: vec![1; 65], ..good.clone() }, BadHold::Records(65)),
        (Hold { action: Action::Throttle { per_minute: 0 }, ..good.clone() }, BadHold::PerMinute),
    ] {
        assert!(matches!(holds.impose(bad), Err(ImposeError::Bad(found)) if found == problem));
    }
    let longest = Hold { reason: "x".repeat(1_024), by: "x".repeat(256), records: vec![1; 64], ..good };
    assert!(holds.impose(longest).is_ok());
}

#[tokio::test]
async fn who_waits_is_told_of_every_change() {
    let dir = TempDir::new().unwrap();
    let holds = holds(&dir).unwrap();
    let mut changed = holds.changed();
    let imposed = holds.impose(hold(1, Action::Freeze, "node")).unwrap();
    changed.changed().await.unwrap();
    holds.lift(&imposed.id).unwrap();
    changed.changed().await.unwrap();
    assert_eq!((holds.lift(&imposed.id).unwrap(), changed.has_changed().unwrap()), (None, false));
}

#[test]
fn a_scope_that_would_match_nothing_is_refused() {
    for (text, expected) in [
        ("", "names nothing"),
        ("nodes", "names nothing"),
        ("node/x", "names nothing"),
        ("tenants/acme/tools/x", "names nothing"),
        ("tenants/acme/jobs/a/b", "is not a name"),
        ("agents/Desk", "is not a name"),
        ("agents/desk@", "is not a version"),
        ("tools/a..b", "is not a tool's name"),
        ("steps/0123", "all 32 hex digits"),
        ("steps/0123456789ABCDEF0123456789ABCDEF", "all 32 hex digits"),
        ("components/sha256:00", "is not a digest"),
        ("hosts/API.example.com", "write `api.example.com`"),
        ("hosts/example.com.", "not a host name"),
        ("hosts/https://example.com", "not a host name"),
        ("hosts/*.10.1.2.3", "not a host name"),
        ("hosts/*", "not a host name"),
        ("hosts/a.*.com", "not a host name"),
        ("callers/root", "is not a caller"),
        ("callers/unix:01", "is not a caller"),
        ("callers/unix:+1", "is not a caller"),
    ] {
        let message = text.parse::<Scope>().unwrap_err().to_string();
        assert!(message.contains(expected), "{text}: {message}");
    }
}

#[test]
fn the_same_request_of_the_same_caller_has_the_same_id() {
    let id = hold_id("unix:0", "a");
    assert_eq!(id, hold_id("unix:0", "a"));
    assert!(id != hold_id("unix:1", "a") && id != hold_id("unix:0", "b"));
    assert!(id.strip_prefix("holds/").is_some_and(|hex| hex.len() == 32));
}

fn scope_text() -> impl Strategy<Value = String> {
    let name = "[a-z][a-z0-9-]{0,62}";
    let version = "(@[A-Za-z0-9][A-Za-z0-9.+-]{0,31})?";
    let forms = [
        "node".to_owned(),
        format!("(tenants/{name}/)?(jobs/{name}|agents/{name}{version})"),
        format!("(tenants|credentials|rules)/{name}"),
        format!("tools/[a-z][a-z0-9_-]{{0,20}}(\\.[a-z][a-z0-9_-]{{0,20}}){{0,1}}{version}"),
        "steps/[0-9a-f]{32}".to_owned(),
        "components/sha256:[0-9a-f]{64}".to_owned(),
        "hosts/(\\*\\.)?[a-z]{1,20}(\\.[a-z]{1,20}){0,3}".to_owned(),
        "hosts/(10\\.1\\.2\\.[1-9]|\\[2001:db8::[1-9]\\])".to_owned(),
        "callers/(loopback|unix:[1-9][0-9]{0,8})".to_owned(),
    ];
    prop::sample::select(forms.to_vec()).prop_flat_map(|form| prop::string::string_regex(&form).unwrap())
}

proptest! {
    #[test]
    fn a_scope_is_written_as_it_is_read(text in scope_text()) {
        let scope: Scope = text.parse().unwrap();
        prop_assert_eq!(scope.to_string(), text.clone());
        let kept = serde_json::to_string(&scope).unwrap();
        prop_assert_eq!(&kept, &format!("\"{text}\""));
        prop_assert_eq!(serde_json::from_str::<Scope>(&kept).unwrap(), scope);
    }

    #[test]
    fn no_text_makes_the_parser_panic_and_what_is_read_reads_the_same(
        head in "(node|tenants/|agents/|jobs/|tools/|hosts/|callers/|steps/|components/|rules/|)", tail in any::<String>(),
    ) {
        if let Ok(scope) = format!("{head}{tail}").parse::<Scope>() {
            prop_assert_eq!(scope.to_string(), format!("{head}{tail}"));
        }
    }
}
