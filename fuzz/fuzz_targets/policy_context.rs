//! A tool's schema, arguments and a policy's condition. Any schema that is accepted leaves policies valid; arguments that
//! fit it can be judged; what is allowed could be called; and of a denial, the addition allows the call if there can be
//! one, and what is to be hidden is not shown.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use palisade::{
    json::{Canonical, SCHEMA_BYTES_MAX, Schema},
    policy::{AgentFacts, BudgetLeft, Code, PolicySet, Question, Source, Surroundings, ToolFacts},
    step::{Digest, Effect, FIXED},
};
use palisade_fuzz::{Call, HIDDEN};

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some(call) = Call::of(data) else { return Corpus::Reject };
    let Ok(schema) = Canonical::parse(&call.schema, SCHEMA_BYTES_MAX) else { return Corpus::Reject };
    let arguments = Canonical::parse(&call.arguments, FIXED.arguments_bytes as usize);
    let Ok(arguments) = arguments else { return Corpus::Reject };
    let Ok(accepted) = Schema::compile_input(schema.value()) else { return Corpus::Reject };
    let (agent, tool, now) = scene(schema.value());
    let load = |texts: &[&str]| {
        let sources = texts.iter().zip(["a.cedar", "b.cedar"]);
        let sources = sources.map(|(text, file)| Source { file: file.into(), text: (*text).into() });
        PolicySet::load(sources.collect(), std::slice::from_ref(&tool))
    };
    if accepted.check(arguments.value()).is_err() {
        return Corpus::Reject;
    }
    let question = Question::CallTool { agent: &agent, tool: &tool, arguments: arguments.value() };
    let (action, condition) = ("Palisade::Action::\"tool:t\"", &call.condition);
    let policy = format!("permit (principal, action == {action}, resource) when {{ {condition} }};");
    let Ok(set) = load(&[&policy]) else {
        load(&[]).expect("no accepted schema makes policies invalid");
        return Corpus::Reject;
    };

    let decision = set.decide(&question, &now);
    let judged = decision.errors.iter().all(|error| error.starts_with("the policy `"));
    assert!(judged, "arguments that fit can be judged: {:?}", decision.errors);
    assert!(!decision.allowed || set.could_call(&agent, &tool, &now), "it could not, and did");
    let Some(explanation) = set.explain(&question, &now, &decision, &["secret".into()]) else { return Corpus::Keep };
    let hidden = arguments.value()["secret"] == HIDDEN
        && [call.schema, call.arguments, call.condition].concat().matches(HIDDEN).count() == 1;
    assert!(!hidden || !format!("{explanation:?}").contains(HIDDEN), "it is shown: {explanation:?}");
    if explanation.code == Code::NoPermit && !explanation.addition.starts_with("//") {
        let more = load(&[&policy, &explanation.addition]).expect("an addition is valid");
        assert!(more.decide(&question, &now).allowed, "{} does not allow it", explanation.addition);
    }
    Corpus::Keep
});

fn scene(input_schema: &serde_json::Value) -> (AgentFacts, ToolFacts, Surroundings) {
    let (digest, labels, unix_ms, input_schema) = (Digest::of(b""), vec![], 1_760_000_000_000, input_schema.clone());
    let [name, version, owner, caller, environment, via] = ["t", "1", "o", "unix:0", "test", ""].map(String::from);
    let left = BudgetLeft { fuel: u64::MAX, wall_ms: 9, host_calls: 9, tool_calls: 9, bytes_in: 9, bytes_out: 9 };
    let now = Surroundings { caller, environment, unix_ms, budget_left: left, via, labels: vec!["l".into()] };
    let agent = AgentFacts { name, version, owner, labels, component: digest };
    let (name, version, labels, effect) = (agent.name.clone(), "1".into(), vec!["l".into()], Effect::Read);
    (agent, ToolFacts { name, version, digest, effect, labels, input_schema }, now)
}
