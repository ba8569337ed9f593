//! From a question and its surroundings to what Cedar evaluates: principal, action, resource, context and entities.

use std::collections::{HashMap, HashSet};

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, ParseErrors, Request, RestrictedExpression, Schema,
};
use serde_json::Value;

use super::{
    argument_types::{Misfit, RecordType},
    conjuncts::Path,
    facts::{AgentFacts, MemoryVerb, Question, RequestFacts, Surroundings, ToolFacts},
    schema::{NAMESPACE, tool_action},
};
use crate::step::{Digest, Effect};

/// What questions can be about.
pub struct Vocabulary {
    types: Types,
    run_step: Action,
    /// Read, write and delete.
    memory: [Action; 3],
    send_request: Action,
    /// By name and version.
    tools: HashMap<(String, String), Tool>,
}

struct Types {
    caller: EntityTypeName,
    agent: EntityTypeName,
    component: EntityTypeName,
    tool: EntityTypeName,
    space: EntityTypeName,
    host: EntityTypeName,
}

/// An action of the schema.
pub struct Action {
    uid: EntityUid,
    groups: Vec<EntityUid>,
    /// The action in its groups, and the tool that it calls.
    entities: Entities,
}

/// A tool as the policies were checked against it.
struct Tool {
    action: Action,
    digest: Digest,
    effect: Effect,
    labels: Vec<String>,
    arguments: RecordType,
}

/// A question that has been looked up.
pub struct Asked<'a> {
    pub principal: EntityUid,
    pub action: &'a Action,
    pub resource: EntityUid,
    /// And what a policy looks at that needs it.
    agent: Option<(&'a AgentFacts, Needs)>,
    effect: Option<Effect>,
    pub arguments: Option<(&'a RecordType, &'a Value)>,
    key: Option<&'a str>,
    request: Option<&'a RequestFacts>,
    surroundings: &'a Surroundings,
    types: &'a Types,
}

/// A question that no policy can judge.
#[derive(Debug, thiserror::Error)]
pub enum Unaskable {
    #[error("the tool `{0}` is not among those that the policies were checked against: load them again")]
    UnknownTool(String),
    #[error("the tool `{0}` has changed since the policies were checked against it: load them again")]
    ChangedTool(String),
    #[error(transparent)]
    Misfit(#[from] Misfit),
    #[error("cannot be put to Cedar: {0}")]
    Cedar(String),
}

/// What of a question some policies look at, as a bit for each of `LEAVES` and two for where the agent stands: the
/// rest need not be built. The arguments always are: whether they fit their type must not depend on the policies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs(u32);

/// The values of the context: an attribute, and one within it if it is a record. Those of a record stand together.
const LEAVES: [(&str, &str); 24] = [
    ("caller", ""),
    ("environment", ""),
    ("via", ""),
    ("effect", ""),
    ("labels", ""),
    ("key", ""),
    ("method", ""),
    ("scheme", ""),
    ("port", ""),
    ("path", ""),
    ("query", ""),
    ("content_type", ""),
    ("rule", ""),
    ("credential", ""),
    ("destination_labels", ""),
    ("time", "unix_ms"),
    ("time", "hour"),
    ("time", "weekday"),
    ("budget", "fuel_left"),
    ("budget", "wall_ms_left"),
    ("budget", "host_calls_left"),
    ("budget", "tool_calls_left"),
    ("budget", "bytes_in_left"),
    ("budget", "bytes_out_left"),
];

impl Needs {
    /// Everything.
    pub const ALL: Self = Self(u32::MAX);

    /// The attributes of the agent that asks.
    const PRINCIPAL: Self = Self(1 << LEAVES.len());

    /// The attributes of the agent that is to run.
    const RESOURCE: Self = Self(1 << (LEAVES.len() + 1));

    /// Returns what a policy needs that looks at `paths`.
    pub fn of(paths: &[Path]) -> Self {
        paths.iter().fold(Self::default(), |needs, path| {
            match path.variable.as_str() {
                "context" => {}
                "action" => return needs,
                "principal" => return needs.and(Self::PRINCIPAL),
                "resource" => return needs.and(Self::RESOURCE),
                _ => return needs.and(Self::PRINCIPAL).and(Self::RESOURCE),
            }
            let (outer, inner) = (path.attributes.first(), path.attributes.get(1));
            let seen = |leaf: &(&str, &str)| {
                outer.is_none_or(|outer| outer == leaf.0)
                    && inner.is_none_or(|inner| leaf.1.is_empty() || inner == leaf.1)
            };
            let seen = LEAVES.iter().enumerate().filter(|(_, leaf)| seen(leaf));
            seen.fold(needs, |needs, (at, _)| needs.and(Self(1 << at)))
        })
    }

    /// Returns what either needs.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn includes(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl Vocabulary {
    /// Builds what questions about `tools` need. `schema` was made from `typed`, which has each name once.
    pub fn new(schema: &Schema, typed: &[(&ToolFacts, RecordType)], tools: &[ToolFacts]) -> Result<Self, Unaskable> {
        let name = |name: &str| format!("{NAMESPACE}::{name}").parse::<EntityTypeName>().map_err(parse_error);
        let types = Types {
            caller: name("Caller")?,
            agent: name("Agent")?,
            component: name("Component")?,
            tool: name("Tool")?,
            space: name("Space")?,
            host: name("Host")?,
        };
        let action_type = name("Action")?;
        let actions = schema.action_entities().map_err(cedar)?;
        let action = |name: &str, entity: Option<Entity>| {
            let uid = uid(&action_type, name);
            let groups = actions.ancestors(&uid).map(|groups| groups.cloned().collect()).unwrap_or_default();
            let entities = actions.get(&uid).cloned().into_iter().chain(entity);
            let entities = Entities::from_entities(entities, None).map_err(cedar)?;
            Ok::<_, Unaskable>(Action { uid, groups, entities })
        };
        let types_of: HashMap<&str, &RecordType> =
            typed.iter().map(|(facts, arguments)| (facts.name.as_str(), arguments)).collect();
        let typed = tools.iter().filter_map(|facts| Some((facts, *types_of.get(facts.name.as_str())?)));
        let tools = typed.map(|(facts, arguments)| {
            let arguments = arguments.clone();
            let action = action(&tool_action(&facts.name), Some(tool_entity(&types, facts)?))?;
            let ToolFacts { name, version, digest, effect, labels, .. } = facts.clone();
            Ok(((name, version), Tool { action, digest, effect, labels, arguments }))
        });
        Ok(Self {
            tools: tools.collect::<Result<_, Unaskable>>()?,
            run_step: action("RunStep", None)?,
            memory: [action("ReadMemory", None)?, action("WriteMemory", None)?, action("DeleteMemory", None)?],
            send_request: action("SendRequest", None)?,
            types,
        })
    }

    /// Looks up what a question is about.
    pub fn ask<'a>(&'a self, question: &Question<'a>, surroundings: &'a Surroundings) -> Result<Asked<'a>, Unaskable> {
        let types = &self.types;
        let caller = || uid(&types.caller, &surroundings.caller);
        let agent_uid = |agent: &AgentFacts| uid(&types.agent, &agent.name);
        let asked = |principal, action, resource, agent| Asked {
            principal,
            action,
            resource,
            agent,
            effect: None,
            arguments: None,
            key: None,
            request: None,
            surroundings,
            types,
        };
        Ok(match *question {
            Question::RunAgent { agent } => {
                asked(caller(), &self.run_step, agent_uid(agent), Some((agent, Needs::RESOURCE)))
            }
            Question::RunComponent { component } => {
                asked(caller(), &self.run_step, uid(&types.component, &component.to_string()), None)
            }
            Question::CallTool { agent, tool, arguments } => {
                let known = self.tool(tool)?;
                let resource = uid(&types.tool, &tool.name);
                Asked {
                    effect: Some(known.effect),
                    arguments: Some((&known.arguments, arguments)),
                    ..asked(agent_uid(agent), &known.action, resource, Some((agent, Needs::PRINCIPAL)))
                }
            }
            Question::Memory { agent, verb, space, key } => {
                let [read, write, delete] = &self.memory;
                let action = match verb {
                    MemoryVerb::Read => read,
                    MemoryVerb::Write => write,
                    MemoryVerb::Delete => delete,
                };
                let resource = uid(&types.space, space);
                let agent_asks = Some((agent, Needs::PRINCIPAL));
                Asked { key: Some(key), ..asked(agent_uid(agent), action, resource, agent_asks) }
            }
            Question::SendRequest { agent, request } => {
                let resource = uid(&types.host, &request.host);
                Asked {
                    effect: Some(request.effect),
                    request: Some(request),
                    ..asked(agent_uid(agent), &self.send_request, resource, Some((agent, Needs::PRINCIPAL)))
                }
            }
        })
    }

    /// Finds a tool. A decision about another version than will run decides nothing.
    fn tool(&self, facts: &ToolFacts) -> Result<&Tool, Unaskable> {
        let shown = || facts.name.chars().take(80).collect();
        let named = (facts.name.clone(), facts.version.clone());
        let tool = self.tools.get(&named).ok_or_else(|| Unaskable::UnknownTool(shown()))?;
        let same = tool.digest == facts.digest && tool.effect == facts.effect && tool.labels == facts.labels;
        if same { Ok(tool) } else { Err(Unaskable::ChangedTool(shown())) }
    }
}

impl Action {
    /// Returns the names by which a scope can name the action: its own and those of its groups.
    pub fn named(&self) -> impl Iterator<Item = &EntityUid> {
        std::iter::once(&self.uid).chain(&self.groups)
    }

    /// Returns the action's own name.
    pub fn uid(&self) -> &EntityUid {
        &self.uid
    }
}

impl Asked<'_> {
    /// Returns whether it is about a request over HTTP.
    pub fn is_request(&self) -> bool {
        self.request.is_some()
    }

    /// Builds the request for policies that look at `needs`.
    pub fn request(&self, needs: Needs) -> Result<(Request, Entities), Unaskable> {
        let context = Context::from_pairs(self.context(needs)?).map_err(cedar)?;
        let (principal, action, resource) = (self.principal.clone(), self.action.uid.clone(), self.resource.clone());
        // The schema is not asked again: it and the context come from the same types, and a test compares them.
        let request = Request::new(principal, action, resource, context, None).map_err(cedar)?;
        let mut entities = self.action.entities.clone();
        if let Some((agent, _)) = self.agent.filter(|(_, need)| needs.includes(*need)) {
            entities = entities.add_entities([agent_entity(self.types, agent)?], None).map_err(cedar)?;
        }
        Ok((request, entities))
    }

    fn context(&self, needs: Needs) -> Result<Vec<(String, RestrictedExpression)>, Unaskable> {
        let mut pairs = Vec::with_capacity(8);
        let mut at = 0;
        for leaves in LEAVES.chunk_by(|a, b| a.0 == b.0) {
            let mut values = Vec::new();
            for leaf in leaves {
                if needs.includes(Needs(1 << at)) {
                    values.extend(self.leaf(leaf).map(|value| (leaf.1.to_owned(), value)));
                }
                at += 1;
            }
            let Some((inner, _)) = values.first() else { continue };
            let value = match (inner.is_empty(), values.pop()) {
                (true, Some((_, value))) => value,
                (_, last) => {
                    values.extend(last);
                    RestrictedExpression::new_record(values).map_err(cedar)?
                }
            };
            pairs.push((leaves[0].0.to_owned(), value));
        }
        if let Some((types, arguments)) = self.arguments {
            pairs.push(("arguments".into(), types.expression(arguments)?));
        }
        Ok(pairs)
    }

    /// Returns a value of the context, if the action has it.
    fn leaf(&self, leaf: &(&str, &str)) -> Option<RestrictedExpression> {
        let Surroundings { caller, environment, unix_ms, budget_left, via, labels } = self.surroundings;
        match *leaf {
            ("caller", _) => return Some(RestrictedExpression::new_entity_uid(uid(&self.types.caller, caller))),
            ("environment", _) => return Some(text(environment)),
            ("time", "unix_ms") => return Some(long(*unix_ms)),
            ("time", "hour") => return Some(long(unix_ms / 3_600_000 % 24)),
            // The first day of 1970 was a Thursday.
            ("time", _) => return Some(long((unix_ms / 86_400_000 + 3) % 7 + 1)),
            ("effect", _) => return Some(text(self.effect?.as_str())),
            ("key", _) => return Some(text(self.key?)),
            ("method", _) => return Some(text(&self.request?.method)),
            ("scheme", _) => return Some(text(&self.request?.scheme)),
            ("port", _) => return Some(long(self.request?.port.into())),
            ("path", _) => return Some(text(&self.request?.path)),
            ("query", _) => return Some(text(&self.request?.query)),
            ("content_type", _) => return Some(text(&self.request?.content_type)),
            ("rule", _) => return Some(text(&self.request?.rule)),
            ("credential", _) => return Some(text(&self.request?.credential)),
            ("destination_labels", _) => return Some(texts(&self.request?.labels)),
            _ => {}
        }
        if self.effect.is_none() && self.key.is_none() {
            return None; // a step that is to start has used and gathered nothing
        }
        Some(match *leaf {
            ("via", _) => text(via),
            ("labels", _) => texts(labels),
            (_, "fuel_left") => long(budget_left.fuel),
            (_, "wall_ms_left") => long(budget_left.wall_ms),
            (_, "host_calls_left") => long(budget_left.host_calls),
            (_, "tool_calls_left") => long(budget_left.tool_calls),
            (_, "bytes_in_left") => long(budget_left.bytes_in),
            _ => long(budget_left.bytes_out),
        })
    }
}

fn agent_entity(types: &Types, agent: &AgentFacts) -> Result<Entity, Unaskable> {
    let attributes = HashMap::from([
        ("version".into(), text(&agent.version)),
        ("owner".into(), text(&agent.owner)),
        ("labels".into(), texts(&agent.labels)),
        ("component".into(), text(&agent.component.to_string())),
    ]);
    Entity::new(uid(&types.agent, &agent.name), attributes, HashSet::new()).map_err(cedar)
}

fn tool_entity(types: &Types, tool: &ToolFacts) -> Result<Entity, Unaskable> {
    let attributes = HashMap::from([
        ("version".into(), text(&tool.version)),
        ("effect".into(), text(tool.effect.as_str())),
        ("labels".into(), texts(&tool.labels)),
        ("digest".into(), text(&tool.digest.to_string())),
    ]);
    Entity::new(uid(&types.tool, &tool.name), attributes, HashSet::new()).map_err(cedar)
}

fn uid(r#type: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(r#type.clone(), EntityId::new(id))
}

fn text(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}

fn texts(texts: &[String]) -> RestrictedExpression {
    RestrictedExpression::new_set(texts.iter().map(|each| text(each)))
}

fn long(value: u64) -> RestrictedExpression {
    RestrictedExpression::new_long(i64::try_from(value).unwrap_or(i64::MAX))
}

fn cedar(error: impl ToString) -> Unaskable {
    Unaskable::Cedar(error.to_string().chars().take(1024).collect())
}

fn parse_error(error: ParseErrors) -> Unaskable {
    cedar(error)
}
