//! How fast does policy decide about a tool call, beside the policy engine alone with everything laid out for it?

use std::{hint::black_box, time::Instant};

use anyhow::Context as _;
use palisade::{
    policy::{AgentFacts, BudgetLeft, PolicySet, Question, Source, Surroundings, ToolFacts},
    step::{Digest, Effect},
};
use serde_json::json;

use crate::report::{Goal, Report, Row, quantile};

const AGENTS: usize = 12;
const TOOLS: usize = 8;
const DECISIONS: usize = 500;
const ROUNDS: usize = 40;

/// The agent and the tool that are asked about.
const ASKED: (usize, usize) = (7, 5);

/// What holds for every agent, beside one permit for each agent and each tool: 100 policies with those.
const FORBIDS: &str = r#"
@id("no-destruction") forbid (principal, action in Palisade::Action::"CallTool", resource)
when { resource.effect == "destroy" && context.environment == "production" };
@id("no-leaks") forbid (principal, action in Palisade::Action::"CallTool", resource)
when { context.labels.contains("secret") && resource.labels.contains("outbound") };
@id("reserve") forbid (principal, action in Palisade::Action::"CallTool", resource)
when { context.budget.tool_calls_left < 2 && !principal.labels.contains("urgent") };
@id("office-hours") forbid (principal, action in Palisade::Action::"CallTool", resource)
when { context.effect == "external-send" && (context.time.hour < 8 || context.time.hour > 18) };
"#;

pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    let scoped = |agent, tool| {
        format!(
            "permit (principal == Palisade::Agent::\"{}\", action == Palisade::Action::\"tool:{}\", resource) \
             when {{ context.arguments.queue == \"{}\" }};\n",
            agent_name(agent),
            tool_name(tool),
            queue(agent, tool)
        )
    };
    // The same in conditions: nothing tells which policies are about the call but evaluating them.
    let unscoped = |agent, tool| {
        format!(
            "permit (principal, action in Palisade::Action::\"CallTool\", resource) \
             when {{ principal == Palisade::Agent::\"{}\" && resource == Palisade::Tool::\"{}\" && \
             context.arguments.queue == \"{}\" }};\n",
            agent_name(agent),
            tool_name(tool),
            queue(agent, tool)
        )
    };
    compare(report, "100 policies", &policies(scoped), Goal::OursAtMost(5.0))?;
    compare(report, "100 policies without scopes", &policies(unscoped), Goal::None)
}

fn policies(permit: impl Fn(usize, usize) -> String) -> String {
    let permits = (0..AGENTS).flat_map(|agent| (0..TOOLS).map(move |tool| (agent, tool)));
    permits.map(|(agent, tool)| permit(agent, tool)).collect::<String>() + FORBIDS
}

fn compare(report: &mut Report, what: &str, policies: &str, goal: Goal) -> anyhow::Result<()> {
    let tools: Vec<ToolFacts> = (0..TOOLS).map(tool).collect();
    let set = PolicySet::load(vec![Source { file: "bench.cedar".into(), text: policies.into() }], &tools)?;
    anyhow::ensure!(set.policies().len() == 100, "there are {} policies", set.policies().len());
    let (agent, arguments) = (agent(ASKED.0), json!({ "queue": queue(ASKED.0, ASKED.1), "number": 7 }));
    let (surroundings, bare) = (surroundings(), Bare::new(policies)?);
    let question = Question::CallTool { agent: &agent, tool: &tools[ASKED.1], arguments: &arguments };
    let decision = set.decide(&question, &surroundings);
    anyhow::ensure!(decision.allowed && bare.allows(), "the call is denied: {:?}", decision.errors);

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        time(&mut ours, || black_box(set.decide(black_box(&question), &surroundings).allowed));
        time(&mut theirs, || black_box(bare.allows()));
    }
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        report.add(Row {
            id: format!("G4 {name}"),
            what: format!("decision, {what} : bare Cedar, request ready"),
            ours: quantile(&mut ours, share),
            theirs: quantile(&mut theirs, share),
            unit: "µs",
            samples: ours.len(),
            goal: if name == "p50" { goal } else { Goal::None },
        });
    }
    Ok(())
}

fn time(taken_us: &mut Vec<f64>, decide: impl Fn() -> bool) {
    for _ in 0..DECISIONS {
        let start = Instant::now();
        decide();
        taken_us.push(start.elapsed().as_secs_f64() * 1e6);
    }
}

/// Cedar as it is: one set, a request and entities that are there before the question comes.
struct Bare {
    authorizer: cedar_policy::Authorizer,
    policies: cedar_policy::PolicySet,
    request: cedar_policy::Request,
    entities: cedar_policy::Entities,
}

impl Bare {
    fn new(policies: &str) -> anyhow::Result<Self> {
        use cedar_policy::{Authorizer, Context, Entities, Request};
        let (agent, tool) = (agent_name(ASKED.0), tool_name(ASKED.1));
        let uid = |kind: &str, id: &str| json!({ "type": format!("Palisade::{kind}"), "id": id });
        let parse = |uid| cedar_policy::EntityUid::from_json(uid).context("an entity's name");
        let (principal, resource) = (uid("Agent", &agent), uid("Tool", &tool));
        let (action, group) = (uid("Action", &format!("tool:{tool}")), uid("Action", "CallTool"));
        let entities = json!([
            { "uid": principal, "attrs": { "labels": ["desk"] }, "parents": [] },
            { "uid": resource, "attrs": { "effect": "read", "labels": ["desk"] }, "parents": [] },
            { "uid": action, "attrs": {}, "parents": [group] },
            { "uid": group, "attrs": {}, "parents": [] },
        ]);
        let context = json!({
            "environment": "production", "effect": "read", "labels": [],
            "time": { "hour": 8 }, "budget": { "tool_calls_left": 100 },
            "arguments": { "queue": queue(ASKED.0, ASKED.1), "number": 7 },
        });
        let context = Context::from_json_value(context, None)?;
        Ok(Self {
            authorizer: Authorizer::new(),
            policies: policies.parse()?,
            request: Request::new(parse(principal)?, parse(action)?, parse(resource)?, context, None)?,
            entities: Entities::from_json_value(entities, None)?,
        })
    }

    fn allows(&self) -> bool {
        let response = self.authorizer.is_authorized(&self.request, &self.policies, &self.entities);
        response.decision() == cedar_policy::Decision::Allow
    }
}

fn agent_name(agent: usize) -> String {
    format!("agent-{agent}")
}

fn tool_name(tool: usize) -> String {
    format!("ticket.tool-{tool}")
}

fn queue(agent: usize, tool: usize) -> String {
    format!("queue-{agent}-{tool}")
}

fn agent(agent: usize) -> AgentFacts {
    AgentFacts {
        name: agent_name(agent),
        version: "1".into(),
        owner: "benches".into(),
        labels: vec!["desk".into()],
        component: Digest::of(b"agent"),
    }
}

fn tool(tool: usize) -> ToolFacts {
    let properties = json!({ "queue": { "type": "string" }, "number": { "type": "integer" } });
    ToolFacts {
        name: tool_name(tool),
        version: "1".into(),
        digest: Digest::of(b"tool"),
        effect: Effect::Read,
        labels: vec!["desk".into()],
        input_schema: json!({ "type": "object", "properties": properties, "required": ["queue"] }),
    }
}

/// Thursday, 9 October 2025, at 08:53 UTC.
fn surroundings() -> Surroundings {
    Surroundings {
        caller: "unix:1000".into(),
        environment: "production".into(),
        unix_ms: 1_760_000_000_000,
        budget_left: BudgetLeft {
            fuel: 100_000_000_000,
            wall_ms: 300_000,
            host_calls: 1_000,
            tool_calls: 100,
            bytes_in: 64 << 20,
            bytes_out: 64 << 20,
        },
        via: String::new(),
        labels: Vec::new(),
    }
}
