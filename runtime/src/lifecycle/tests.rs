#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::grant::{Grant, Narrowing, narrowed};
use crate::{
    config::Ceiling,
    egress::Narrow,
    manifest::{Access, Manifest, MountGrant, PowerName, SpaceGrant, ToolGrant},
    step::{Effect, Name, Range, ToolName},
};

fn name(number: u8) -> Name {
    format!("n{number}").parse().unwrap()
}

fn tool(number: u8) -> ToolName {
    format!("t{number}").parse().unwrap()
}

fn numbers() -> impl Strategy<Value = BTreeSet<u8>> {
    proptest::collection::btree_set(0..6u8, 0..6)
}

fn access() -> impl Strategy<Value = Access> {
    prop_oneof![Just(Access::None), Just(Access::Read), Just(Access::Write)]
}

prop_compose! {
    fn tool_grant()(of in 0..6u8, workspace in access(), mounts in numbers(), tools in numbers(), spaces in numbers(), egress in numbers()) -> ToolGrant {
        ToolGrant {
            name: tool(of),
            version: None,
            workspace,
            mounts: mounts.into_iter().map(name).collect(),
            tools: tools.into_iter().map(tool).collect(),
            spaces: spaces.into_iter().map(name).collect(),
            egress: egress.into_iter().map(name).collect(),
            limits: Default::default(),
            budget: Default::default(),
        }
    }
}

prop_compose! {
    fn manifest()(
        tools in proptest::collection::vec(tool_grant(), 0..6),
        mounts in numbers(),
        spaces in proptest::collection::btree_map(0..6u8, any::<bool>(), 0..6),
        egress in numbers(),
    ) -> Manifest {
        let tools: BTreeMap<_, _> = tools.into_iter().map(|grant| (grant.name.clone(), grant)).collect();
        Manifest {
            name: name(0),
            version: "1".parse().unwrap(),
            component: "c".into(),
            owner: "o".into(),
            description: String::new(),
            labels: Vec::new(),
            powers: vec![PowerName::Tools, PowerName::Memory],
            mounts: mounts.into_iter().map(|n| MountGrant { name: name(n), path: "/m".into(), writable: true }).collect(),
            tools: tools.into_values().collect(),
            spaces: spaces.into_iter().map(|(n, writable)| SpaceGrant { space: name(n), writable }).collect(),
            egress: egress.into_iter().map(|n| Narrow::nothing(name(n))).collect(),
            limits: Default::default(),
            budget: Default::default(),
        }
    }
}

prop_compose! {
    fn ceiling()(effects in proptest::sample::subsequence(Effect::ALL.to_vec(), 0..=5), memory in any::<bool>()) -> Ceiling {
        Ceiling { effects, memory }
    }
}

prop_compose! {
    fn narrowing()(tools in numbers(), spaces in numbers(), egress in numbers()) -> Narrowing {
        Narrowing {
            tools: tools.into_iter().map(|n| tool(n).to_string()).collect(),
            spaces: spaces.into_iter().map(|n| name(n).to_string()).collect(),
            egress: egress.into_iter().map(|n| name(n).to_string()).collect(),
        }
    }
}

/// Whether everything of `inner` is in `outer`.
fn within(inner: &Grant, outer: &Grant) -> bool {
    let rank = |access: Access| match access {
        Access::None => 0,
        Access::Read => 1,
        Access::Write => 2,
    };
    inner.tools.iter().all(|(name, grant)| outer.tools.get(name) == Some(grant))
        && inner.spaces.iter().all(|(name, writable)| outer.spaces.get(name).is_some_and(|outer| *outer || !writable))
        && inner.egress.is_subset(&outer.egress)
        && inner.mounts.is_subset(&outer.mounts)
        && inner.effects.is_subset(&outer.effects)
        && rank(inner.workspace) <= rank(outer.workspace)
}

proptest! {
    #[test]
    fn no_level_can_widen_what_the_levels_around_it_leave(
        manifest in manifest(), ceiling in ceiling(), narrow in proptest::option::of(narrowing()), called in tool_grant(),
    ) {
        let all = Ceiling { effects: Effect::ALL.into(), memory: true };
        let whole = Grant::of_step(&all, Some(&manifest), None);
        let step = Grant::of_step(&ceiling, Some(&manifest), narrow.as_ref());
        prop_assert!(within(&step, &whole));
        prop_assert!(step.tools.keys().all(|name| manifest.tools.iter().any(|tool| tool.name == *name)));
        prop_assert!(ceiling.memory || step.spaces.is_empty());
        if let Some(narrow) = &narrow {
            prop_assert!(step.tools.keys().all(|name| narrow.tools.contains(name.as_str())));
            prop_assert!(step.spaces.keys().all(|name| narrow.spaces.contains(name.as_str())));
        }
        let inner = step.of_tool(&called);
        prop_assert!(within(&inner, &step));
        prop_assert!(within(&inner.of_tool(&called), &inner));
    }

    #[test]
    fn without_an_agent_there_are_no_rights(ceiling in ceiling(), narrow in narrowing()) {
        prop_assert_eq!(Grant::of_step(&ceiling, None, Some(&narrow)), Grant::default());
    }

    #[test]
    fn a_manifest_never_raises_a_limit(default in 1..1000u64, max in 1000..10_000u64, asked in proptest::option::of(any::<i64>())) {
        let narrowed = narrowed(Range { default, max }, asked);
        prop_assert!(narrowed.max <= max && narrowed.default <= narrowed.max.max(default));
    }
}
