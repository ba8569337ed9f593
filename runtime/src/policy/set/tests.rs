use cedar_policy::{Authorizer, Entities, Policy, PolicyId, Request, Schema};
use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};

use super::*;
use crate::{
    policy::{
        BudgetLeft, MemoryVerb,
        schema::schema,
        tests::{NO_LIMIT, agent, load, reads, source, surroundings, tool, tools},
    },
    step::{Digest, Effect},
};

const DESK: &str = "permit (principal == Palisade::Agent::\"support-desk\",
    action == Palisade::Action::\"tool:ticket.read\", resource) when { context.arguments.queue == \"billing\" };";

fn billing() -> Value {
    json!({ "queue": "billing" })
}

#[test]
fn arguments_decide() {
    assert!(reads(DESK, billing()));
    assert!(!reads(DESK, json!({ "queue": "legal" })));
}

#[test]
fn nothing_is_allowed_that_no_policy_permits() {
    assert!(!reads("", billing()));
    let set = PolicySet::starter(&tools()).unwrap();
    let (agent, tools, now) = (agent("support-desk"), tools(), surroundings());
    let arguments = billing();
    let call = Question::CallTool { agent: &agent, tool: &tools[0], arguments: &arguments };
    let memory = Question::Memory { agent: &agent, verb: MemoryVerb::Read, space: "notes", key: "k" };
    let component = Question::RunComponent { component: Digest::of(b"") };
    let run = Question::RunAgent { agent: &agent };
    let allowed = [run, component, call, memory].map(|question| set.decide(&question, &now).allowed);
    assert_eq!(allowed, [true, true, false, false]);
}

#[test]
fn a_forbid_wins_over_every_permit() {
    let forbid = "@id(\"no\") forbid (principal, action in Palisade::Action::\"CallTool\", resource)
        when { resource.effect == \"read\" };";
    assert!(!reads(&format!("{DESK}{forbid}"), billing()));
    let set = load(&format!("{DESK}{forbid}"));
    let (agent, tools) = (agent("support-desk"), tools());
    let question = Question::CallTool { agent: &agent, tool: &tools[0], arguments: &billing() };
    let decision = set.decide(&question, &surroundings());
    assert_eq!(decision.policies, ["no"]);
    assert_eq!(&*decision.revision, set.revision());
}

#[test]
fn a_forbid_that_errors_denies() {
    let forbid = "@id(\"sum\") forbid (principal, action in Palisade::Action::\"CallTool\", resource)
        when { context.budget.fuel_left + 1 < 5 };";
    let set = load(&format!("{DESK}{forbid}"));
    let (agent, tools, arguments) = (agent("support-desk"), tools(), billing());
    let question = Question::CallTool { agent: &agent, tool: &tools[0], arguments: &arguments };
    let mut now = surroundings();
    let decision = set.decide(&question, &now);
    assert!(!decision.allowed && decision.policies.is_empty());
    assert!(decision.errors[0].contains("`sum`"), "{decision:?}");
    now.budget_left = BudgetLeft { fuel: 7, ..NO_LIMIT };
    assert!(set.decide(&question, &now).allowed);
}

#[test]
fn a_permit_that_errors_denies_what_another_permits() {
    let permit = "permit (principal, action in Palisade::Action::\"CallTool\", resource)
        when { context.budget.fuel_left + 1 > 5 };";
    assert!(!reads(&format!("{DESK}{permit}"), billing()));
}

#[test]
fn arguments_that_do_not_fit_deny_even_if_no_policy_looks_at_them() {
    let any = "permit (principal, action in Palisade::Action::\"CallTool\", resource);";
    assert!(reads(any, billing()));
    assert!(!reads(any, json!({ "queue": "billing", "count": u64::MAX })));
    assert!(!reads(any, json!({ "queue": 1 })));
    assert!(!reads(any, json!({})));
}

#[test]
fn null_is_absent_where_the_schema_allows_it() {
    let named = "permit (principal, action == Palisade::Action::\"tool:ticket.read\", resource)
        when { context.arguments has author };";
    assert!(reads(named, json!({ "queue": "billing", "author": "x" })));
    assert!(!reads(named, json!({ "queue": "billing", "author": null })));
}

#[test]
fn a_tool_that_is_not_the_one_of_the_set_is_denied() {
    let set = load("permit (principal, action in Palisade::Action::\"CallTool\", resource);");
    let (agent, arguments, now) = (agent("a"), billing(), surroundings());
    let error = |tool: ToolFacts| {
        assert!(!set.could_call(&agent, &tool, &now));
        set.decide(&Question::CallTool { agent: &agent, tool: &tool, arguments: &arguments }, &now).errors.concat()
    };
    let same = || tools().remove(0);
    assert_eq!(
        set.decide(&Question::CallTool { agent: &agent, tool: &same(), arguments: &arguments }, &now).errors,
        [""; 0]
    );
    assert!(error(ToolFacts { name: "none".into(), ..same() }).contains("`none` is not among"));
    assert!(error(ToolFacts { version: "2".into(), ..same() }).contains("is not among"));
    assert!(error(ToolFacts { digest: Digest::of(b"other"), ..same() }).contains("has changed"));
    assert!(error(ToolFacts { effect: Effect::Mutate, ..same() }).contains("has changed"));
    assert!(error(ToolFacts { labels: Vec::new(), ..same() }).contains("has changed"));
}

#[test]
fn an_older_version_is_decided_by_the_types_of_the_newest() {
    let older = tools().remove(0);
    let newer = ToolFacts { version: "2".into(), effect: Effect::Destroy, ..older.clone() };
    let text = "permit (principal, action == Palisade::Action::\"tool:ticket.read\", resource) when { context.effect == \"read\" };";
    let set = PolicySet::load(vec![source(text)], &[older.clone(), newer.clone()]).unwrap();
    let (agent, arguments, now) = (agent("support-desk"), billing(), surroundings());
    let allowed =
        |tool: &ToolFacts| set.decide(&Question::CallTool { agent: &agent, tool, arguments: &arguments }, &now).allowed;
    assert!(allowed(&older) && !allowed(&newer));
}

#[test]
fn sets_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<PolicySet>();
}

#[test]
fn extension_functions_can_be_used() {
    let text = "permit (principal, action == Palisade::Action::\"tool:ticket.read\", resource)
        when { datetime(\"2025-10-09\").toTime() == duration(\"0ms\") && ip(\"10.0.0.1\").isIpv4()
            && decimal(\"1.5\").lessThan(decimal(\"2.0\")) };";
    assert!(reads(text, billing()));
}

#[test]
fn time_is_told_in_utc() {
    let at = "permit (principal, action in Palisade::Action::\"CallTool\", resource)
        when { context.time.weekday == 4 && context.time.hour == 8 && context.time.unix_ms == 1760000000000 };";
    assert!(reads(at, billing()));
}

#[test]
fn a_policy_as_long_as_the_bounds_allow_is_decided_on_a_small_stack() {
    let chain = vec!["context.environment like \"p*\""; 85].join(" && ");
    let text = format!("permit (principal, action in Palisade::Action::\"CallTool\", resource) when {{ {chain} }};");
    let small = std::thread::Builder::new().stack_size(2 << 20);
    assert!(small.spawn(move || reads(&text, billing())).unwrap().join().unwrap());
}

#[test]
fn a_tool_could_be_called_if_only_arguments_stand_against_it() {
    let (desk, tools, mut now) = (agent("support-desk"), tools(), surroundings());
    let could = |text: &str, now: &Surroundings| load(text).could_call(&desk, &tools[0], now);
    assert!(could(DESK, &now));
    assert!(!could("", &now));
    assert!(!could(&DESK.replace("support-desk", "other"), &now));
    assert!(!could(&DESK.replace("};", "&& context.time.hour > 20 };"), &now));
    // What an `unless` lists may each not hold, so it does not matter that one of them is about arguments.
    let unless = |other: &str| DESK.replace("};", &format!("}} unless {{ context.arguments has author || {other} }};"));
    assert!(could(&unless("context.via == \"x\""), &now));
    assert!(!could(&unless("context.via == \"\""), &now));
    let forbid = |when: &str| {
        format!("{DESK} forbid (principal, action in Palisade::Action::\"CallTool\", resource) when {{ {when} }};")
    };
    assert!(!could(&forbid("resource.effect == \"read\""), &now));
    assert!(could(
        &forbid("resource.effect == \"read\" && context.arguments has queue && context.arguments.queue == \"x\""),
        &now
    ));
    assert!(!could(&forbid("context.budget.fuel_left + 1 < 5"), &now));
    // With other arguments than these, that policy does not fail.
    let fails = "context.arguments has queue && context.arguments.queue == \"x\" && context.budget.fuel_left + 1 > 0";
    assert!(could(&forbid(fails).replace("forbid", "permit"), &now));
    now.budget_left.fuel = 7;
    assert!(could(&forbid("context.budget.fuel_left + 1 < 5"), &now));
}

/// Tools whose names and arguments the generated policies are about.
fn few_tools() -> Vec<ToolFacts> {
    let t0 = json!({
        "properties": {
            "q": { "type": "string" },
            "n": { "type": "integer" },
            "o": { "type": "object", "properties": { "x": { "type": "integer" } } },
        },
        "required": ["q"],
    });
    vec![
        tool("t0", Effect::Read, t0),
        tool("t1", Effect::Destroy, json!({ "properties": { "q": { "type": "string" } } })),
    ]
}

/// Policies that are valid, about few enough things to meet often.
fn any_policy() -> impl Strategy<Value = String> {
    let principals = [
        "principal",
        "principal",
        "principal == Palisade::Agent::\"a0\"",
        "principal == Palisade::Agent::\"a1\"",
        "principal is Palisade::Agent",
        "principal in Palisade::Agent::\"a0\"",
        "principal is Palisade::Agent in Palisade::Agent::\"a1\"",
        "principal == Palisade::Caller::\"unix:1000\"",
    ];
    let resources = [
        "resource",
        "resource",
        "resource == Palisade::Tool::\"t0\"",
        "resource == Palisade::Tool::\"t1\"",
        "resource is Palisade::Tool",
        "resource == Palisade::Space::\"s0\"",
        "resource == Palisade::Agent::\"a0\"",
    ];
    let anywhere = [
        "context.time.hour >= 9",
        "context.environment == \"production\"",
        "context.caller == Palisade::Caller::\"unix:1000\"",
        "{ \"whole\": context }.whole.environment == \"production\" && context.time == context.time",
        "(resource is Palisade::Agent && resource.owner == \"billing\")",
        "(if context.time.weekday < 6 then context.environment else \"x\") like \"pro*\"",
        "true",
    ];
    let in_a_step = [
        "context.labels.contains(\"internal\")",
        "context.budget.fuel_left + 1 > 0",
        "{ \"Value\": context.budget.host_calls_left - 1, \"a\": 1 }.a == 1",
        "[context.via].contains(\"\")",
        "principal.labels.contains(\"desk\")",
        "principal.owner == context.environment",
        "Palisade::Agent::\"a0\".owner == \"billing\"",
        "(context has key && context.key like \"k*\")",
        "(context has arguments && context.arguments has q && context.arguments.q == \"v1\")",
    ];
    let calling = [
        "(context.arguments has q && context.arguments.q == \"v1\")",
        "(context.arguments has n && context.arguments.n + 9223372036854775800 > 0)",
        "(context.arguments has o.x && context.arguments.o.x == 1)",
        "resource.effect == \"read\"",
        "context.effect == \"destroy\"",
    ];
    let actions = [
        ("action", 1),
        ("action == Palisade::Action::\"RunStep\"", 1),
        ("action in [Palisade::Action::\"RunStep\", Palisade::Action::\"tool:t0\"]", 1),
        ("action in Palisade::Action::\"UseMemory\"", 2),
        ("action in [Palisade::Action::\"ReadMemory\", Palisade::Action::\"tool:t1\"]", 2),
        ("action == Palisade::Action::\"tool:t0\"", 3),
        ("action == Palisade::Action::\"tool:t1\"", 3),
        ("action in Palisade::Action::\"CallTool\"", 3),
        ("action in [Palisade::Action::\"tool:t0\", Palisade::Action::\"CallTool\"]", 3),
        ("action in [Palisade::Action::\"tool:t0\", Palisade::Action::\"tool:t0\"]", 3),
    ];
    let effect = select(vec!["permit", "permit", "forbid"]);
    (effect, select(principals.to_vec()), select(actions.to_vec()), select(resources.to_vec())).prop_flat_map(
        move |(effect, principal, (action, known), resource)| {
            let conditions: Vec<&str> =
                [&anywhere[..], &in_a_step[..], &calling[..]].into_iter().take(known).flatten().copied().collect();
            let shapes =
                select(vec!["", "when { A && B }", "when { A || B }", "when { A } unless { B || C }", "unless { !A }"]);
            let condition = || select(conditions.clone());
            (shapes, condition(), condition(), condition()).prop_map(move |(shape, a, b, c)| {
                let body: String = shape
                    .chars()
                    .map(|letter| match letter {
                        'A' => format!("({a})"),
                        'B' => format!("({b})"),
                        'C' => format!("({c})"),
                        other => other.to_string(),
                    })
                    .collect();
                format!("{effect} ({principal}, {action}, {resource}) {body};\n")
            })
        },
    )
}

fn any_arguments() -> impl Strategy<Value = Value> {
    let text = select(vec!["v1", "v2"]);
    (text, prop::option::of(0..20_i64), prop::option::of(0..3_i64)).prop_map(|(q, n, x)| {
        let mut arguments = json!({ "q": q });
        n.into_iter().for_each(|n| arguments["n"] = json!(n));
        x.into_iter().for_each(|x| arguments["o"] = json!({ "x": x }));
        arguments
    })
}

/// Cedar's own answer: all policies, all of the context, and a request that the schema was asked about.
fn by_cedar(set: &PolicySet, question: &Question, surroundings: &Surroundings) -> Decision {
    let tools = few_tools();
    let types: Vec<RecordType> = tools.iter().map(|tool| RecordType::of_schema(&tool.input_schema)).collect();
    let schema = Schema::from_json_value(schema(tools.iter().zip(&types))).unwrap();
    let asked = set.vocabulary.ask(question, surroundings).unwrap();
    let (request, entities) = asked.request(Needs::ALL).unwrap();
    let (principal, action, resource) = (request.principal(), request.action(), request.resource());
    let [principal, action, resource] = [principal, action, resource].map(|uid| uid.unwrap().clone());
    let request = Request::new(principal, action, resource, request.context().unwrap().clone(), Some(&schema)).unwrap();
    let entities = Entities::from_entities(entities, Some(&schema)).unwrap();
    let policies = set.policies.iter().map(|info| Policy::parse(Some(PolicyId::new(&info.id)), &info.text).unwrap());
    let policies = cedar_policy::PolicySet::from_policies(policies).unwrap();
    let response = Authorizer::new().is_authorized(&request, &policies, &entities);
    let mut policies: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
    policies.sort();
    let failed = response.diagnostics().errors().count();
    let permitted = response.decision() == cedar_policy::Decision::Allow;
    if permitted && failed > 0 {
        policies.clear();
    }
    Decision {
        allowed: permitted && failed == 0,
        policies,
        errors: vec![String::new(); failed],
        revision: set.revision.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn decisions_are_those_of_cedar(
        policies in prop::collection::vec(any_policy(), 0..10),
        name in select(vec!["a0", "a1", "a2"]),
        arguments in any_arguments(),
        fuel in select(vec![5, u64::MAX]),
    ) {
        let tools = few_tools();
        // A forbid that cannot apply is no valid policy.
        let possible = |policy: &String| PolicySet::load(vec![source(policy.clone())], &tools).is_ok();
        let set = PolicySet::load(vec![source(policies.concat())], &tools).unwrap_or_else(|_| {
            let policies: Vec<_> = policies.iter().filter(|policy| possible(policy)).cloned().collect();
            PolicySet::load(vec![source(policies.concat())], &tools).unwrap()
        });
        let agent = agent(name);
        let mut now = surroundings();
        now.budget_left = BudgetLeft { fuel, ..NO_LIMIT };
        let questions = [
            Question::RunAgent { agent: &agent },
            Question::RunComponent { component: agent.component },
            Question::CallTool { agent: &agent, tool: &tools[0], arguments: &arguments },
            Question::CallTool { agent: &agent, tool: &tools[1], arguments: &arguments },
            Question::Memory { agent: &agent, verb: MemoryVerb::Read, space: "s0", key: "k" },
            Question::Memory { agent: &agent, verb: MemoryVerb::Delete, space: "s1", key: "" },
        ];
        for question in questions {
            let mut ours = set.decide(&question, &now);
            ours.errors.iter_mut().for_each(String::clear);
            prop_assert_eq!(&ours, &by_cedar(&set, &question, &now));
            if let Question::CallTool { agent, tool, .. } = question {
                prop_assert!(!ours.allowed || set.could_call(agent, tool, &now), "it could not, and did");
            }
        }
    }
}

/// Run it with `--ignored --nocapture` to see where the time goes.
#[test]
#[ignore = "measures"]
fn how_long_a_decision_takes() {
    let mut text = DESK.to_owned();
    for n in 0..99 {
        text += &format!(
            "permit (principal == Palisade::Agent::\"a{n}\", action in Palisade::Action::\"CallTool\", resource)
             when {{ context.labels.contains(\"l{n}\") && context.time.hour > 6 }};"
        );
    }
    let set = load(&text);
    let (desk, tools, arguments, now) = (agent("support-desk"), tools(), billing(), surroundings());
    let question = Question::CallTool { agent: &desk, tool: &tools[0], arguments: &arguments };
    let asked = set.vocabulary.ask(&question, &now).unwrap();
    let groups = set.index.matching(&asked.principal, asked.action, &asked.resource);
    let (request, entities) = asked.request(index::needs(&groups)).unwrap();
    let measure = |what: &str, each: &dyn Fn()| {
        let mut times: Vec<_> = std::iter::repeat_with(|| {
            let start = std::time::Instant::now();
            each();
            start.elapsed()
        })
        .take(5000)
        .collect();
        times.sort();
        println!("{what}: p50 {:?}, p99 {:?}", times[2500], times[4950]);
    };
    measure("decide", &|| drop(std::hint::black_box(set.decide(&question, &now))));
    measure("look up", &|| {
        let asked = set.vocabulary.ask(&question, &now).unwrap();
        drop(set.index.matching(&asked.principal, asked.action, &asked.resource));
    });
    measure("build the request", &|| drop(asked.request(index::needs(&groups))));
    measure("evaluate", &|| drop(index::judge(&groups, &request, &entities)));
}
