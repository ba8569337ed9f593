//! Policies by what their scope names, so that a question meets only those that can say something about it.

use std::collections::HashMap;

use cedar_policy::{
    ActionConstraint, Authorizer, Decision, Entities, EntityUid, Policy, PolicySet, PolicySetError,
    PrincipalConstraint, Request, ResourceConstraint,
};

use super::{
    problems::cut,
    questions::{Action, Needs},
};

/// Bytes of the message about one error.
const MESSAGE_BYTES_MAX: usize = 1024;

/// Errors that one verdict tells.
const ERRORS_MAX: usize = 16;

/// Policies, grouped by the principal, the action and the resource that their scope names. A policy that is left out
/// because its scope names another one could not have been satisfied and could not have failed: its scope is
/// evaluated first, and is false.
#[derive(Default)]
pub struct Index {
    numbers: HashMap<EntityUid, u32>,
    /// By principal, action and resource: a number, or `ANY` if the scope leaves it open or says it in another way.
    groups: HashMap<[u32; 3], Group>,
}

/// Policies with the same scope.
#[derive(Default)]
pub struct Group {
    policies: PolicySet,
    needs: Needs,
}

/// What some policies say to a request.
#[derive(Debug, Default)]
pub struct Verdict {
    pub permits: Vec<String>,
    pub forbids: Vec<String>,
    /// The policy that failed, and how.
    pub errors: Vec<(String, String)>,
}

const ANY: u32 = 0;

impl Index {
    /// Adds a policy, and what it looks at. `actions` are those of the schema.
    pub fn add(&mut self, policy: &Policy, needs: Needs, actions: &Entities) -> Result<(), Box<PolicySetError>> {
        let principal = match policy.principal_constraint() {
            PrincipalConstraint::Eq(uid) => self.number(uid),
            _ => ANY,
        };
        let resource = match policy.resource_constraint() {
            ResourceConstraint::Eq(uid) => self.number(uid),
            _ => ANY,
        };
        let named = match policy.action_constraint() {
            ActionConstraint::Any => vec![ANY],
            ActionConstraint::Eq(uid) => vec![self.number(uid)],
            ActionConstraint::In(uids) => {
                // A group covers its actions: the policy must be met once, not twice.
                let covered =
                    |uid: &EntityUid| uids.iter().any(|other| other != uid && actions.is_ancestor_of(other, uid));
                let mut named: Vec<u32> =
                    uids.iter().filter(|uid| !covered(uid)).map(|uid| self.number(uid.clone())).collect();
                named.sort_unstable();
                named.dedup();
                named
            }
        };
        for action in named {
            let group = self.groups.entry([principal, action, resource]).or_default();
            group.policies.add(policy.clone()).map_err(Box::new)?;
            group.needs = group.needs.and(needs);
        }
        Ok(())
    }

    /// Returns the groups that hold every policy whose scope can match.
    pub fn matching(&self, principal: &EntityUid, action: &Action, resource: &EntityUid) -> Vec<&Group> {
        let principals = [Some(ANY), self.numbers.get(principal).copied()];
        let resources = [Some(ANY), self.numbers.get(resource).copied()];
        let named = action.named().filter_map(|uid| self.numbers.get(uid).copied());
        let mut groups = Vec::new();
        for action in std::iter::once(ANY).chain(named) {
            for principal in principals.into_iter().flatten() {
                for resource in resources.into_iter().flatten() {
                    groups.extend(self.groups.get(&[principal, action, resource]));
                }
            }
        }
        groups
    }

    fn number(&mut self, uid: EntityUid) -> u32 {
        let next = self.numbers.len() as u32 + 1; // at most 1,000 policies, so it fits
        *self.numbers.entry(uid).or_insert(next)
    }
}

impl Group {
    /// Returns the policies of the group.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.policies.policies()
    }
}

/// Returns what the policies of some groups look at.
pub fn needs(groups: &[&Group]) -> Needs {
    groups.iter().fold(Needs::default(), |needs, group| needs.and(group.needs))
}

/// Asks the policies of some groups.
pub fn judge(groups: &[&Group], request: &Request, entities: &Entities) -> Verdict {
    let authorizer = Authorizer::new();
    let mut verdict = Verdict::default();
    for group in groups {
        let response = authorizer.is_authorized(request, &group.policies, entities);
        let reasons = response.diagnostics().reason().map(ToString::to_string);
        match response.decision() {
            Decision::Allow => verdict.permits.extend(reasons),
            Decision::Deny => verdict.forbids.extend(reasons),
        }
        for error in response.diagnostics().errors() {
            if verdict.errors.len() < ERRORS_MAX {
                let cedar_policy::AuthorizationError::PolicyEvaluationError(failed) = error;
                let message = cut(failed.inner().to_string(), MESSAGE_BYTES_MAX);
                verdict.errors.push((failed.policy_id().to_string(), message));
            }
        }
    }
    verdict.permits.sort_unstable();
    verdict.forbids.sort_unstable();
    verdict.errors.sort_unstable();
    verdict
}
