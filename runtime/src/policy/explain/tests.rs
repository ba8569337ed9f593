use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};

use crate::policy::{
    BudgetLeft, Code, Decision, Explanation, MemoryVerb, PolicySet, Question, Source, Surroundings,
    tests::{NO_LIMIT, agent, load, source, surroundings, tool, tools},
};
use crate::step::Effect;

const DESK: &str = "@id(\"desk\") permit (principal == Palisade::Agent::\"support-desk\",
    action == Palisade::Action::\"tool:ticket.read\", resource)
    when { context.arguments.queue == \"billing\" && context.via == \"\" };\n";

fn explained(text: &str, arguments: Value) -> Explanation {
    let (set, agent, tools, now) = (load(text), agent("support-desk"), tools(), surroundings());
    let question = Question::CallTool { agent: &agent, tool: &tools[0], arguments: &arguments };
    let decision = set.decide(&question, &now);
    set.explain(&question, &now, &decision, &[]).expect("it was denied")
}

#[test]
fn the_nearest_permit_is_named_with_what_did_not_hold() {
    let far = DESK.replace("desk\")", "far\")").replace("context.via == \"\"", "context.via == \"x\"");
    let explanation = explained(&format!("{far}{DESK}"), json!({ "queue": "legal" }));
    let queue = "`context.arguments.queue == \"billing\"` does not hold: `context.arguments.queue` is \"legal\"";
    let addition = "permit(principal == Palisade::Agent::\"support-desk\", action == \
        Palisade::Action::\"tool:ticket.read\", resource == Palisade::Tool::\"ticket.read\") \
        when { context.arguments.queue == \"legal\" };";
    let expected = Explanation {
        code: Code::NoPermit,
        rule: Some("desk".into()),
        missing: vec![queue.into()],
        addition: addition.into(),
    };
    assert_eq!(explanation, expected);
}

#[test]
fn an_argument_that_is_absent_is_said_to_be() {
    let text =
        DESK.replace("context.via == \"\"", "(context.arguments has page.size && context.arguments.page.size > 3)");
    let explanation = explained(&text, json!({ "queue": "billing", "page": {} }));
    assert!(explanation.missing[0].contains("`context.arguments.page.size` is absent"), "{explanation:?}");
    let condition = "when { (context.arguments has page) && (!(context.arguments.page has size)) };";
    assert!(explanation.addition.ends_with(condition), "{explanation:?}");
}

#[test]
fn without_any_permit_the_addition_is_for_exactly_this() {
    let explanation = explained(&DESK.replace("support-desk", "other"), json!({ "queue": "legal" }));
    assert_eq!((explanation.rule, explanation.missing.len()), (None, 0));
    assert!(explanation.addition.ends_with("resource == Palisade::Tool::\"ticket.read\");"));
}

#[test]
fn a_forbid_is_named_and_cannot_be_overridden() {
    let forbid =
        "@id(\"no\") forbid (principal, action, resource is Palisade::Tool) when { resource.effect == \"read\" };";
    let explanation = explained(&format!("{DESK}{forbid}"), json!({ "queue": "billing" }));
    assert_eq!((explanation.code, explanation.rule.as_deref()), (Code::Forbids, Some("no")));
    assert_eq!(explanation.missing, ["`resource.effect == \"read\"` holds: `resource.effect` is \"read\""]);
    assert!(explanation.addition.starts_with("// No permit can override the forbid `no`"));
}

#[test]
fn an_error_is_told_and_cannot_be_overridden() {
    let forbid = "@id(\"sum\") forbid (principal, action in Palisade::Action::\"CallTool\", resource)
        when { context.budget.fuel_left + 1 > 0 };";
    let failed = explained(&format!("{DESK}{forbid}"), json!({ "queue": "billing" }));
    assert_eq!(failed.code.as_str(), "POLICY_ERROR");
    assert!(failed.missing[0].contains("`sum`") && failed.addition.starts_with("//"), "{failed:?}");
    let misfit = explained(DESK, json!({ "queue": 1 }));
    assert_eq!(misfit.code.as_str(), "POLICY_ERROR");
    assert!(misfit.missing[0].contains("`queue`") && misfit.addition.starts_with("//"), "{misfit:?}");
}

#[test]
fn a_value_that_is_not_to_be_shown_is_in_no_text() {
    let set = load(DESK);
    let (agent, tools, now) = (agent("support-desk"), tools(), surroundings());
    let arguments = json!({ "queue": "canary-value" });
    let question = Question::CallTool { agent: &agent, tool: &tools[0], arguments: &arguments };
    let decision = set.decide(&question, &now);
    let hidden = set.explain(&question, &now, &decision, &["QUEUE".into()]).unwrap();
    assert!(!format!("{hidden:?}").contains("canary-value") && hidden.missing[0].contains("[redacted]"), "{hidden:?}");
    let shown = set.explain(&question, &now, &decision, &[]).unwrap();
    assert!(format!("{shown:?}").contains("canary-value"), "{shown:?}");
}

#[test]
fn a_value_that_is_not_to_be_shown_is_not_shown_within_another() {
    let whole = "@id(\"whole\") permit (principal, action in Palisade::Action::\"CallTool\", resource)
        when { [context.arguments].isEmpty() };";
    let (set, agent, tools, now) = (load(whole), agent("support-desk"), tools(), surroundings());
    let arguments = json!({ "queue": "canary-value" });
    let question = Question::CallTool { agent: &agent, tool: &tools[0], arguments: &arguments };
    let decision = set.decide(&question, &now);
    let hidden = set.explain(&question, &now, &decision, &["QUEUE".into()]).unwrap();
    assert!(!format!("{hidden:?}").contains("canary-value") && hidden.missing[0].contains("[redacted]"), "{hidden:?}");
}

#[test]
fn what_is_allowed_needs_no_explanation() {
    let (set, agent, tools, now) = (load(DESK), agent("support-desk"), tools(), surroundings());
    let arguments = json!({ "queue": "billing" });
    let question = Question::CallTool { agent: &agent, tool: &tools[0], arguments: &arguments };
    assert_eq!(set.explain(&question, &now, &set.decide(&question, &now), &[]), None);
}

#[test]
fn texts_are_bounded_whatever_the_values_are() {
    let long = "ü".repeat(50_000);
    let text = DESK.replace("billing", &"b".repeat(5000));
    let explanation = explained(&text, json!({ "queue": long }));
    let texts = explanation.missing.iter().chain([&explanation.addition]);
    assert!(texts.map(String::len).all(|bytes| bytes <= super::TEXT_BYTES_MAX), "{explanation:?}");
    assert!(explanation.addition.starts_with("permit"));

    let (set, agent, now) = (load(""), agent(&long), surroundings());
    let question = Question::Memory { agent: &agent, verb: MemoryVerb::Write, space: &long, key: &long };
    let explanation = set.explain(&question, &now, &set.decide(&question, &now), &[]).unwrap();
    assert_eq!(explanation.addition, "// The names are too long to show a policy that would allow this.");
}

/// Texts that could break out of a policy, or not be read back as they are.
fn any_text() -> impl Strategy<Value = String> {
    let odd = ["\"", "\\", "\u{202e}", "\u{0}", "*", "a", "\") when { true };//", "é́", "\n", "ѕ"];
    prop_oneof![
        Just(String::new()),
        ".{0,8}",
        prop::collection::vec(select(odd.to_vec()), 1..5).prop_map(|t| t.concat())
    ]
}

/// Conditions about the attribute `name` of the arguments and about what else there is.
fn conditions(name: &str) -> Vec<String> {
    let name = format!("\"{}\"", name.escape_default());
    vec![
        format!("context.arguments[{name}] == \"never \""),
        format!("context.arguments has {name} && context.arguments[{name}] like \"never *\""),
        "context.arguments has count && context.arguments.count > 100".into(),
        "context.arguments has inner.flag && context.arguments.inner.flag".into(),
        "context.arguments has tags && context.arguments.tags.contains(\"never\")".into(),
        "context.caller == Palisade::Caller::\"never\"".into(),
        "context.environment == \"never\" || context.via == \"never\"".into(),
        "context.time.unix_ms < 5 && context.budget.fuel_left < 5".into(),
        "context.time.hour > 22".into(),
        "context.labels.containsAny([\"never\"])".into(),
        "principal.owner == \"never\"".into(),
        "resource.labels.isEmpty()".into(),
        "context.effect == \"destroy\"".into(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn the_addition_allows_what_was_denied(
        (names, values) in (prop::array::uniform3(any_text()), prop::array::uniform4(any_text())),
        required in any::<bool>(),
        count in prop::option::of(select(vec![0, 7, -1, i64::MIN, i64::MAX])),
        flag in prop::option::of(prop::option::of(Just(false))),
        tags in prop::option::of(prop::collection::vec(any_text(), 0..3)),
        picks in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 1..4), 0..4),
    ) {
        let [agent_name, tool_name, attribute] = &names;
        let [value, caller, environment, via] = values;
        let input = json!({
            "properties": {
                attribute: { "type": "string" },
                "count": { "type": "integer" },
                "inner": { "type": "object", "properties": { "flag": { "type": "boolean" } } },
                "tags": { "type": "array", "items": { "type": "string" } },
            },
            "required": if required { vec![attribute] } else { Vec::new() },
        });
        prop_assume!(!["count", "inner", "tags"].contains(&attribute.as_str()));
        let tools = [tool(tool_name, Effect::Append, input)];
        let agent = agent(agent_name);
        let mut arguments = json!({ attribute: value });
        count.into_iter().for_each(|count| arguments["count"] = json!(count));
        flag.into_iter().for_each(|flag| arguments["inner"] = flag.map_or(json!({}), |flag| json!({ "flag": flag })));
        tags.into_iter().for_each(|tags| arguments["tags"] = json!(tags));
        let now = Surroundings { caller, environment, via, budget_left: BudgetLeft { fuel: 9, ..NO_LIMIT }, ..surroundings() };
        // A tool may allow its string attribute to be absent: then it must be asked for before it is looked at.
        let known: Vec<String> = conditions(attribute).into_iter().skip(usize::from(!required)).collect();
        let text: String = picks.iter().map(|picks| {
            let all: Vec<String> = picks.iter().map(|pick| format!("({})", pick.get(&known))).collect();
            let action = format!("Palisade::Action::\"tool:{}\"", tool_name.escape_default());
            format!("permit (principal, action == {action}, resource) when {{ {} }};\n", all.join(" && "))
        }).collect();
        let set = PolicySet::load(vec![source(text.clone())], &tools).unwrap();
        let questions = [
            Question::CallTool { agent: &agent, tool: &tools[0], arguments: &arguments },
            Question::Memory { agent: &agent, verb: MemoryVerb::Write, space: tool_name, key: attribute },
            Question::RunAgent { agent: &agent },
            Question::RunComponent { component: agent.component },
        ];
        for question in questions {
            let decision: Decision = set.decide(&question, &now);
            let Some(explanation) = set.explain(&question, &now, &decision, &[]) else { continue };
            prop_assert_eq!(explanation.code, Code::NoPermit);
            let more = Source { file: "more.cedar".into(), text: explanation.addition };
            let more = PolicySet::load(vec![source(text.clone()), more], &tools).unwrap();
            prop_assert!(more.decide(&question, &now).allowed);
        }
    }
}
