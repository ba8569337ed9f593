//! A policy set that is in force.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use super::{
    argument_types::RecordType,
    conjuncts::Anatomy,
    explain::{self, Candidate, Explanation},
    facts::{AgentFacts, Question, Surroundings, ToolFacts},
    index::{self, Index, Verdict},
    load::{self, Loaded, Placed, STARTER, Source},
    problems::{BadPolicies, Problem},
    questions::{Asked, Needs, Unaskable, Vocabulary},
};

/// Policies that were checked against the tools that there are. Does not change: a new set replaces it.
pub struct PolicySet {
    revision: Arc<str>,
    policies: Vec<PolicyInfo>,
    warnings: Vec<String>,
    schema_text: String,
    vocabulary: Vocabulary,
    index: Index,
    /// The policies without what they say about arguments.
    relaxed: Index,
    anatomies: HashMap<String, Anatomy>,
}

/// A policy of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyInfo {
    /// From `@id("…")`, else `FILE:N` for the N-th policy of a file.
    pub id: String,
    pub file: String,
    pub text: String,
    pub effect: PolicyEffect,
    /// From `@description("…")`.
    pub description: String,
}

/// What a policy that applies does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyEffect {
    Permit,
    Forbid,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    /// The ids of the permits that allow or of the forbids that deny, sorted. Empty if no policy applies, or if
    /// errors deny what no policy forbids.
    pub policies: Vec<String>,
    /// What went wrong, at most 16 texts of about 1 KiB. Any error denies.
    pub errors: Vec<String>,
    /// Of the set that decided.
    pub revision: Arc<str>,
}

impl PolicySet {
    /// Reads policies and checks them against `tools`: the files have at most 1 MiB and 1,000 policies together, and
    /// there are at most 500 tools. Of a tool with several versions the last one says what arguments policies can see;
    /// calls of the others are decided by the same types. Takes up to seconds for a large set. Either all is good or all is refused.
    pub fn load(sources: Vec<Source>, tools: &[ToolFacts]) -> Result<Self, BadPolicies> {
        let newest: BTreeMap<&str, &ToolFacts> = tools.iter().map(|tool| (tool.name.as_str(), tool)).collect();
        let typed: Vec<(&ToolFacts, RecordType)> =
            newest.into_values().map(|tool| (tool, RecordType::of_schema(&tool.input_schema))).collect();
        let Loaded { policies, schema, schema_text, warnings, revision } = load::load(sources, &typed)?;
        let actions = schema.action_entities().map_err(|error| refused("", error))?;
        let mut set = Self {
            revision: revision.into(),
            policies: policies.iter().map(PolicyInfo::of).collect(),
            warnings,
            schema_text,
            vocabulary: Vocabulary::new(&schema, &typed, tools).map_err(|error| refused("", error))?,
            index: Index::default(),
            relaxed: Index::default(),
            anatomies: HashMap::with_capacity(policies.len()),
        };
        for Placed { policy, file } in &policies {
            let anatomy = Anatomy::of(policy).map_err(|error| refused(file, error))?;
            let needs = Needs::of(&anatomy.paths);
            set.index.add(policy, needs, &actions).map_err(|error| refused(file, error))?;
            if let Some(relaxed) = &anatomy.relaxed {
                set.relaxed.add(&relaxed.policy, needs, &actions).map_err(|error| refused(file, error))?;
            }
            set.anatomies.insert(policy.id().to_string(), anatomy);
        }
        Ok(set)
    }

    /// Reads the policy file to start with.
    pub fn starter(tools: &[ToolFacts]) -> Result<Self, BadPolicies> {
        Self::load(vec![Source { file: "starter.cedar".into(), text: STARTER.into() }], tools)
    }

    /// Returns 16 hex digits that name these policies together with the schema that they were checked against.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Returns the policies, sorted by file and place.
    pub fn policies(&self) -> &[PolicyInfo] {
        &self.policies
    }

    /// Returns what is allowed and looks wrong, at most 100 texts, such as a policy that can never apply.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns what policies can see, as a Cedar schema.
    pub fn schema_text(&self) -> &str {
        &self.schema_text
    }

    /// Decides.
    pub fn decide(&self, question: &Question, surroundings: &Surroundings) -> Decision {
        match self.vocabulary.ask(question, surroundings).and_then(|asked| verdict(&self.index, &asked)) {
            Ok(verdict) => self.decision(verdict),
            Err(error) => {
                let errors = vec![error.to_string()];
                Decision { allowed: false, policies: Vec::new(), errors, revision: self.revision.clone() }
            }
        }
    }

    /// Returns whether there may be arguments with which the agent can call the tool now. `true` promises nothing;
    /// `false` means that every call would be denied.
    pub fn could_call(&self, agent: &AgentFacts, tool: &ToolFacts, surroundings: &Surroundings) -> bool {
        let question = Question::CallTool { agent, tool, arguments: &serde_json::Value::Null };
        let verdict = self.vocabulary.ask(&question, surroundings).and_then(|mut asked| {
            asked.arguments = None;
            verdict(&self.relaxed, &asked)
        });
        verdict.is_ok_and(|Verdict { permits, forbids, errors }| {
            // A policy that was cut may fail only with arguments that another permit is not about.
            let exact = |id: &String| {
                let relaxed = self.anatomies.get(id).and_then(|anatomy| anatomy.relaxed.as_ref());
                relaxed.is_some_and(|relaxed| relaxed.exact)
            };
            !permits.is_empty() && forbids.is_empty() && !errors.iter().any(|(id, _)| exact(id))
        })
    }

    /// Explains a denial to whoever wants to lift it. Values of attributes that are named in `redact`, in any case of
    /// letters, are not shown. Returns `None` if `decision` allowed. Takes longer than deciding.
    pub fn explain(
        &self,
        question: &Question,
        surroundings: &Surroundings,
        decision: &Decision,
        redact: &[String],
    ) -> Option<Explanation> {
        if decision.allowed {
            return None;
        }
        let asked = match self.vocabulary.ask(question, surroundings) {
            Ok(asked) => asked,
            Err(error) => return Some(explain::unaskable(&error)),
        };
        let groups = self.index.matching(&asked.principal, asked.action, &asked.resource);
        let met: HashSet<&str> = groups.iter().flat_map(|group| group.policies()).map(|p| p.id().as_ref()).collect();
        let met = self.policies.iter().filter(|policy| met.contains(policy.id.as_str()));
        let candidates = met.filter_map(|policy| {
            let anatomy = self.anatomies.get(&policy.id)?;
            Some(Candidate { id: &policy.id, permits: policy.effect == PolicyEffect::Permit, anatomy })
        });
        Some(explain::explain(&asked, redact, decision, candidates))
    }

    fn decision(&self, verdict: Verdict) -> Decision {
        let Verdict { permits, forbids, errors } = verdict;
        let allowed = !permits.is_empty() && forbids.is_empty() && errors.is_empty();
        let policies = if allowed { permits } else { forbids };
        let errors = errors.into_iter().map(|(id, message)| format!("the policy `{id}` failed: {message}")).collect();
        Decision { allowed, policies, errors, revision: self.revision.clone() }
    }
}

impl PolicyInfo {
    fn of(placed: &Placed) -> Self {
        let policy = &placed.policy;
        Self {
            id: policy.id().to_string(),
            file: placed.file.clone(),
            text: policy.to_string(),
            effect: match policy.effect() {
                cedar_policy::Effect::Permit => PolicyEffect::Permit,
                cedar_policy::Effect::Forbid => PolicyEffect::Forbid,
            },
            description: policy.annotation("description").unwrap_or_default().into(),
        }
    }
}

fn verdict(index: &Index, asked: &Asked) -> Result<Verdict, Unaskable> {
    let groups = index.matching(&asked.principal, asked.action, &asked.resource);
    let (request, entities) = asked.request(index::needs(&groups))?;
    Ok(index::judge(&groups, &request, &entities))
}

fn refused(file: &str, error: impl std::fmt::Display) -> BadPolicies {
    BadPolicies { problems: vec![Problem::new(file, error)] }
}
