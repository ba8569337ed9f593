//! What agents may do: a tenant's Cedar policies decide about starting steps and about every host call.
//!
//! Default deny; a forbid wins over every permit; a policy that fails while it is evaluated denies. A set is checked
//! against a schema that is generated from the registered tools, and refused as a whole if anything is wrong with it.
//! This module does not know that there is a network, a guest or a disk. Only it says `cedar_policy`.

mod addition;
mod argument_types;
pub mod cases;
mod conjuncts;
mod draft;
mod explain;
mod facts;
mod index;
mod load;
mod nesting;
mod problems;
mod questions;
mod schema;
mod set;
#[cfg(test)]
mod tests;

pub use draft::{Condition, Permit, Unwritable, conditions};
pub use explain::{Code, Explanation};
pub use facts::{AgentFacts, BudgetLeft, MemoryVerb, Question, RequestFacts, Surroundings, ToolFacts};
pub use load::{BYTES_MAX, POLICIES_MAX, STARTER, Source, TOOLS_MAX};
pub use problems::{BadPolicies, Problem};
pub use set::{Decision, PolicyEffect, PolicyInfo, PolicySet};
