//! The schema that policies are checked against: what there is, and what a policy can see of it.

use serde_json::{Map, Value, json};

use super::{argument_types::RecordType, facts::ToolFacts};

/// The namespace of all our names.
pub const NAMESPACE: &str = "Palisade";

/// Returns the name of the action that calls a tool.
pub fn tool_action(tool: &str) -> String {
    format!("tool:{tool}")
}

/// Returns the schema in Cedar's JSON format. Names are keys of objects, so no name can add anything but itself.
pub fn schema<'a>(tools: impl IntoIterator<Item = (&'a ToolFacts, &'a RecordType)>) -> Value {
    let mut actions = Map::from_iter([
        ("RunStep".into(), action(None, "Caller", &["Agent", "Component"], shared())),
        ("CallTool".into(), json!({})),
        ("UseMemory".into(), json!({})),
    ]);
    for name in ["ReadMemory", "WriteMemory", "DeleteMemory"] {
        let mut context = during_a_step();
        context.insert("key".into(), text());
        actions.insert(name.into(), action(Some("UseMemory"), "Agent", &["Space"], context));
    }
    let mut context = during_a_step();
    for name in ["method", "scheme", "path", "query", "content_type", "rule", "effect", "credential"] {
        context.insert(name.into(), text());
    }
    context.insert("port".into(), long());
    context.insert("destination_labels".into(), texts());
    actions.insert("SendRequest".into(), action(None, "Agent", &["Host"], context));
    for (tool, arguments) in tools {
        let mut context = during_a_step();
        context.insert("effect".into(), text());
        context.insert("arguments".into(), arguments.cedar());
        actions.insert(tool_action(&tool.name), action(Some("CallTool"), "Agent", &["Tool"], context));
    }
    json!({ NAMESPACE: {
        "commonTypes": {
            "Time": record([("unix_ms", long()), ("hour", long()), ("weekday", long())]),
            "Budget": record([
                ("fuel_left", long()),
                ("wall_ms_left", long()),
                ("host_calls_left", long()),
                ("tool_calls_left", long()),
                ("bytes_in_left", long()),
                ("bytes_out_left", long()),
            ]),
        },
        "entityTypes": {
            "Caller": {},
            "Component": {},
            "Host": {},
            "Space": {},
            "Agent": { "shape": record([
                ("version", text()),
                ("owner", text()),
                ("labels", texts()),
                ("component", text()),
            ]) },
            "Tool": { "shape": record([
                ("version", text()),
                ("effect", text()),
                ("labels", texts()),
                ("digest", text()),
            ]) },
        },
        "actions": actions,
    } })
}

fn action(group: Option<&str>, principal: &str, resources: &[&str], context: Map<String, Value>) -> Value {
    let groups: Vec<Value> = group.into_iter().map(|id| json!({ "id": id })).collect();
    json!({
        "memberOf": groups,
        "appliesTo": {
            "principalTypes": [principal],
            "resourceTypes": resources,
            "context": { "type": "Record", "attributes": context },
        },
    })
}

/// The context of every action.
fn shared() -> Map<String, Value> {
    Map::from_iter([("caller".into(), named("Caller")), ("environment".into(), text()), ("time".into(), named("Time"))])
}

/// The context of what a step does.
fn during_a_step() -> Map<String, Value> {
    let mut context = shared();
    context.insert("budget".into(), named("Budget"));
    context.insert("via".into(), text());
    context.insert("labels".into(), texts());
    context
}

fn record<const N: usize>(attributes: [(&str, Value); N]) -> Value {
    let attributes: Map<String, Value> = attributes.into_iter().map(|(name, value)| (name.into(), value)).collect();
    json!({ "type": "Record", "attributes": attributes })
}

fn named(name: &str) -> Value {
    json!({ "type": "EntityOrCommon", "name": name })
}

fn text() -> Value {
    json!({ "type": "String" })
}

fn texts() -> Value {
    json!({ "type": "Set", "element": { "type": "String" } })
}

fn long() -> Value {
    json!({ "type": "Long" })
}
