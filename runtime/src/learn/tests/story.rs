//! Records that a journal could have, and questions to what was drafted of them.

use serde_json::{Value, json};

use crate::{
    journal::Record,
    learn::{Basis, Draft, Learner, NoDraft},
    manifest::{self, Manifest},
    policy::{AgentFacts, BudgetLeft, MemoryVerb, PolicySet, Question, RequestFacts, Source, Surroundings, ToolFacts},
    step::{Digest, Effect},
};

pub const COMPONENT: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

const MANIFEST: &str = r#"
name = "desk"
version = "2"
component = "desk"
owner = "tests"
powers = ["tools", "memory", "http"]

[[mount]]
name = "handbook"
path = "/handbook"

[[tool]]
name = "outer"
workspace = "read"
mounts = ["handbook"]
limits = { fuel = 1000 }

[[tool]]
name = "idle"

[[memory]]
space = "notes"
writable = true

[[egress]]
rule = "tracker"
request_bytes = 1000
timeouts = { total_ms = 5_000 }
"#;

/// A journal in the making.
#[derive(Debug)]
pub struct Story {
    records: Vec<Value>,
    step: u32,
    call: u64,
}

impl Story {
    pub fn new() -> Self {
        Self { records: Vec::new(), step: 0, call: 0 }
    }

    /// A story of one step that everybody may start.
    pub fn of_one_step() -> Self {
        let mut story = Self::new();
        story.begin("desk@2", json!({ "verdict": "allow", "policies": ["run"] }));
        story
    }

    pub fn begin(&mut self, agent: &str, decision: Value) {
        (self.step, self.call) = (self.step + 1, 0);
        self.record("step", None, json!({ "agent": agent, "caller": "unix:1000", "decision": decision }));
    }

    pub fn end(&mut self) {
        self.record("result", None, json!({ "outcome": "succeeded", "spent": { "fuel": 812_345, "host_calls": 3 } }));
    }

    pub fn intent(&mut self, body: Value) -> u64 {
        self.call += 1;
        self.record("intent", Some(self.call), body);
        self.call
    }

    /// Returns the number of the last call.
    pub fn call(&self) -> u64 {
        self.call
    }

    pub fn outcome(&mut self, call: u64, body: Value) {
        self.record("outcome", Some(call), body);
    }

    pub fn denial(&mut self, body: Value) {
        self.call += 1;
        self.record("denial", Some(self.call), body);
    }

    /// A call that was done.
    pub fn done(&mut self, body: Value) {
        let call = self.intent(body);
        self.outcome(call, json!({ "status": "done" }));
    }

    pub fn record(&mut self, kind: &str, call: Option<u64>, body: Value) {
        let sequence = self.records.len() as u64 + 1;
        self.records.push(json!({
            "version": 1, "sequence": sequence, "previous": "", "time_ms": 0, "boot_us": 0, "kind": kind,
            "tenant": "default", "step": format!("steps/{}", self.step), "call": call, "agent": "desk", "body": body,
        }));
    }

    pub fn learn(&self, version: Option<&str>) -> Result<Draft, NoDraft> {
        let manifest = manifest::parse(MANIFEST).unwrap();
        let mut learner = Learner::new("desk", version);
        for record in &self.records {
            learner.take(&serde_json::from_value::<Record>(record.clone()).unwrap());
        }
        let taken = ["1".into(), "2".into(), "3".into()];
        learner.draft(&Basis { manifest: &manifest, component: COMPONENT, taken: &taken, observes: true })
    }

    /// Learns, and reads what was drafted.
    pub fn drafted(&self) -> (Manifest, PolicySet, Draft) {
        let draft = self.learn(Some("2")).unwrap();
        let manifest = manifest::parse(&draft.manifest).unwrap_or_else(|error| panic!("{error}\n{}", draft.manifest));
        (manifest, load(&draft.policy), draft)
    }
}

pub fn load(policy: &str) -> PolicySet {
    let tool = |name: &str| ToolFacts {
        name: name.into(),
        version: "1".into(),
        digest: Digest::of(b"tool"),
        effect: Effect::Read,
        labels: Vec::new(),
        input_schema: json!({ "type": "object", "properties": { "queue": { "type": "string" } } }),
    };
    let source = Source { file: "draft.cedar".into(), text: policy.into() };
    let tools: Vec<_> = ["outer", "inner", "idle", "t.read"].map(tool).into();
    PolicySet::load(vec![source], &tools).unwrap_or_else(|error| panic!("{error}\n{policy}"))
}

/// What nobody permits, and what would permit it.
pub fn unpermitted(addition: &str) -> Value {
    json!({ "verdict": "would-deny", "policies": [], "code": "POLICY_NO_PERMIT", "addition": addition })
}

pub fn bare(action: &str, resource: &str) -> Value {
    unpermitted(&format!(
        "permit(\n  principal == Palisade::Agent::\"desk\",\n  action == Palisade::Action::\"{action}\",\n  \
         resource == Palisade::{resource}\n);"
    ))
}

pub fn request(method: &str, path: &str) -> Value {
    json!({
        "power": "http", "verb": method, "url": "…", "host": "api.example.com", "path": path, "rule": "tracker",
        "credential": null, "via": "", "decision": bare("SendRequest", "Host::\"api.example.com\""),
    })
}

pub fn memory(verb: &str, via: &str) -> Value {
    let action = if verb == "put" { "WriteMemory" } else { "ReadMemory" };
    json!({
        "power": "memory", "verb": verb, "space": "notes", "key": "k", "via": via, "question": "using notes",
        "decision": bare(action, "Space::\"notes\""),
    })
}

pub fn tool(name: &str, via: &str, decision: Value) -> Value {
    json!({
        "power": "tools", "verb": "call", "tool": format!("{name}@1"), "via": via, "decision": decision,
        "question": format!("calling tool `{name}`"),
    })
}

pub fn agent() -> AgentFacts {
    let (name, version, owner) = ("desk".into(), "4".into(), "tests".into());
    AgentFacts { name, version, owner, labels: Vec::new(), component: Digest::of(b"desk") }
}

pub fn now(via: &str) -> Surroundings {
    let all = u64::MAX;
    Surroundings {
        caller: "unix:1000".into(),
        environment: "test".into(),
        unix_ms: 0,
        budget_left: BudgetLeft {
            fuel: all,
            wall_ms: all,
            host_calls: all,
            tool_calls: all,
            bytes_in: all,
            bytes_out: all,
        },
        via: via.into(),
        labels: Vec::new(),
    }
}

pub fn sends(set: &PolicySet, method: &str, host: &str, path: &str) -> bool {
    let request = RequestFacts {
        method: method.into(),
        scheme: "https".into(),
        host: host.into(),
        port: 443,
        path: path.into(),
        query: String::new(),
        content_type: String::new(),
        rule: "tracker".into(),
        effect: Effect::Read,
        credential: String::new(),
        labels: Vec::new(),
    };
    set.decide(&Question::SendRequest { agent: &agent(), request: &request }, &now("")).allowed
}

pub fn remembers(set: &PolicySet, verb: MemoryVerb, via: &str) -> bool {
    set.decide(&Question::Memory { agent: &agent(), verb, space: "notes", key: "k" }, &now(via)).allowed
}
