//! Why a question was denied, and what would have to be different.

#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    fmt::{self, Write},
};

use cedar_policy::{Authorizer, Decision as Cedar, Entities, EvalResult, PolicySet, Request, eval_expression};

use super::{
    addition,
    conjuncts::{Anatomy, Conjunct, Path},
    problems::cut,
    questions::{Asked, Needs, Unaskable},
    set::Decision,
};

/// Bytes of one text.
pub const TEXT_BYTES_MAX: usize = 1024;

/// Conditions that are told.
const MISSING_MAX: usize = 16;

/// Bytes of a value that is shown.
const VALUE_BYTES_MAX: usize = 128;

/// Why a question was denied, at most 16 texts of 1 KiB each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub code: Code,
    /// The forbid that denied, or the permit that was nearest.
    pub rule: Option<String>,
    /// What did not hold of the nearest permit; what holds of the forbid; or what went wrong.
    pub missing: Vec<String>,
    /// The smallest policy that would allow the question, if there can be one: a comment says if not.
    pub addition: String,
}

/// The kinds of denial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    Forbids,
    NoPermit,
    Error,
}

impl Code {
    /// Returns the stable code.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forbids => "POLICY_FORBIDS",
            Self::NoPermit => "POLICY_NO_PERMIT",
            Self::Error => "POLICY_ERROR",
        }
    }
}

/// A policy that was met by the question.
pub struct Candidate<'a> {
    pub id: &'a str,
    pub permits: bool,
    pub anatomy: &'a Anatomy,
}

/// Explains a denial. `candidates` are in the order of the set.
pub fn explain<'a>(
    asked: &Asked,
    redact: &[String],
    decision: &Decision,
    candidates: impl Iterator<Item = Candidate<'a>>,
) -> Explanation {
    match asked.request(Needs::ALL) {
        Ok((request, entities)) => Scene { asked, redact, request, entities }.explain(decision, candidates),
        Err(error) => unaskable(&error),
    }
}

/// Explains that a question could not be put to the policies.
pub fn unaskable(error: &Unaskable) -> Explanation {
    Explanation {
        code: Code::Error,
        rule: None,
        missing: vec![cut(error.to_string(), TEXT_BYTES_MAX)],
        addition: "// No policy can allow what cannot be judged.".into(),
    }
}

/// A question with everything that can be looked at.
pub struct Scene<'a> {
    pub asked: &'a Asked<'a>,
    redact: &'a [String],
    request: Request,
    entities: Entities,
}

impl Scene<'_> {
    fn explain<'a>(&self, decision: &Decision, candidates: impl Iterator<Item = Candidate<'a>>) -> Explanation {
        let mut candidates = candidates.filter(|candidate| self.in_scope(candidate.anatomy));
        if let Some(rule) = decision.policies.first() {
            let forbid = candidates.find(|candidate| candidate.id == rule);
            let holds = forbid.into_iter().flat_map(|forbid| &forbid.anatomy.conjuncts);
            return Explanation {
                code: Code::Forbids,
                rule: Some(rule.clone()),
                missing: self.tell(holds, "holds"),
                addition: format!("// No permit can override the forbid `{rule}`: only changing it can allow this."),
            };
        }
        if !decision.errors.is_empty() {
            let missing = decision.errors.iter().take(MISSING_MAX).map(|e| cut(e.clone(), TEXT_BYTES_MAX)).collect();
            let addition = "// No permit can override an error: mend the policy that failed.".into();
            return Explanation { code: Code::Error, rule: None, missing, addition };
        }
        let failing = |candidate: &Candidate<'a>| -> Vec<&'a Conjunct> {
            candidate.anatomy.conjuncts.iter().filter(|conjunct| !self.holds(conjunct)).collect()
        };
        let permits =
            candidates.filter(|candidate| candidate.permits).map(|candidate| (failing(&candidate), candidate.id));
        // The first of those that fail in the fewest conditions.
        match permits.min_by_key(|(failing, _)| failing.len()) {
            Some((failing, id)) => Explanation {
                code: Code::NoPermit,
                rule: Some(id.into()),
                missing: self.tell(failing.iter().copied(), "does not hold"),
                addition: self.addition(failing.iter().flat_map(|conjunct| &conjunct.paths)),
            },
            None => Explanation {
                code: Code::NoPermit,
                rule: None,
                missing: Vec::new(),
                addition: self.addition(std::iter::empty()),
            },
        }
    }

    /// Returns the smallest policy that would allow it. A host is more than one request: there, what is asked of it counts.
    fn addition<'a>(&self, paths: impl Iterator<Item = &'a Path>) -> String {
        let of_request: Vec<Path> = if self.asked.is_request() {
            let path = |name: &str| Path { variable: "context".into(), attributes: vec![name.into()] };
            ["method", "path", "rule"].map(path).into()
        } else {
            Vec::new()
        };
        let paths: Vec<&Path> = paths.collect();
        addition::policy(self, of_request.iter().chain(paths))
    }

    /// Returns the value at a path of the request, `None` if there is nothing.
    pub fn value(&self, path: &Path) -> Option<EvalResult> {
        eval_expression(&self.request, &self.entities, &path.expression().ok()?).ok()
    }

    /// Returns whether the value at a path is not to be shown.
    pub fn hides(&self, path: &Path) -> bool {
        path.attributes.iter().any(|name| self.redacts(name))
    }

    fn redacts(&self, name: &str) -> bool {
        self.redact.iter().any(|key| key.eq_ignore_ascii_case(name))
    }

    fn in_scope(&self, anatomy: &Anatomy) -> bool {
        let Ok(scope) = PolicySet::from_policies([anatomy.scope.clone()]) else { return false };
        let response = Authorizer::new().is_authorized(&self.request, &scope, &self.entities);
        // A forbid that matches is a reason to deny; without a reason, nothing matched.
        response.decision() == Cedar::Allow || response.diagnostics().reason().next().is_some()
    }

    fn holds(&self, conjunct: &Conjunct) -> bool {
        matches!(eval_expression(&self.request, &self.entities, &conjunct.expression), Ok(EvalResult::Bool(true)))
    }

    fn tell<'c>(&self, conjuncts: impl Iterator<Item = &'c Conjunct>, how: &str) -> Vec<String> {
        let text = |conjunct: &Conjunct| {
            let mut told = HashSet::new();
            let mut text = format!("`{}` {how}", conjunct.text);
            for path in conjunct.paths.iter().filter(|path| !path.attributes.is_empty()) {
                let Ok(name) = path.text() else { continue };
                if text.len() > TEXT_BYTES_MAX {
                    break;
                }
                if told.insert(name.clone()) {
                    let value = match self.value(path) {
                        None => "absent".into(),
                        Some(_) if self.hides(path) => "[redacted]".into(),
                        Some(value) => self.shown(&value),
                    };
                    text.push_str(if told.len() == 1 { ": " } else { ", " });
                    text.push_str(&format!("`{name}` is {value}"));
                }
            }
            cut(text, TEXT_BYTES_MAX)
        };
        conjuncts.take(MISSING_MAX).map(text).collect()
    }

    /// Shows the beginning of a value, which may be as large as all arguments together, and have in it what is not to be
    /// shown.
    fn shown(&self, value: &EvalResult) -> String {
        let mut start = Start(String::new());
        let _ = self.show(value, &mut start); // fails when there is enough
        cut(start.0, VALUE_BYTES_MAX)
    }

    fn show(&self, value: &EvalResult, text: &mut Start) -> fmt::Result {
        match value {
            EvalResult::Record(record) => {
                text.write_char('{')?;
                for (index, (name, value)) in record.iter().enumerate() {
                    write!(text, "{}{name:?}: ", if index == 0 { "" } else { ", " })?;
                    if self.redacts(name) {
                        text.write_str("[redacted]")?;
                    } else {
                        self.show(value, text)?;
                    }
                }
                text.write_char('}')
            }
            EvalResult::Set(set) => {
                text.write_char('[')?;
                for (index, value) in set.iter().enumerate() {
                    text.write_str(if index == 0 { "" } else { ", " })?;
                    self.show(value, text)?;
                }
                text.write_char(']')
            }
            plain => write!(text, "{plain}"),
        }
    }
}

struct Start(String);

impl fmt::Write for Start {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.push_str(text);
        if self.0.len() > VALUE_BYTES_MAX { Err(fmt::Error) } else { Ok(()) }
    }
}
