use proptest::prelude::*;

use super::*;

fn policy(condition: &str) -> String {
    format!("permit (principal, action, resource) when {{ {condition} }};")
}

#[test]
fn brackets_and_operators_are_counted_for_each_policy_and_not_in_texts_and_comments() {
    let harmless = policy(&format!("\"{}\\\"((\" == \"\"", "(".repeat(500)));
    let commented = format!("// {}\n{harmless}", "((&&".repeat(500));
    let long = policy(&"true && ".repeat(200).replace("&& ", "&&"));
    assert_eq!(check(&harmless, 9), Ok(1));
    assert_eq!(check(&commented, 9), Ok(1));
    assert_eq!(check(&long.repeat(5), 9), Ok(5));
    assert!(matches!(check(&policy(&"(".repeat(40)), 9), Err(TooComplex::Depth { .. })));
    assert!(matches!(check(&policy(&"true && ".repeat(300)), 9), Err(TooComplex::Operators { .. })));
    assert!(matches!(check(&policy(&"if a then b else ".repeat(300)), 9), Err(TooComplex::Operators { .. })));
    assert!(matches!(check(&policy("true").repeat(3), 2), Err(TooComplex::Policies { max: 2, .. })));
}

#[test]
fn what_passes_the_bounds_does_not_exhaust_a_small_stack() {
    let conditions = [
        format!("{}true{}", "(".repeat(DEPTH_MAX - 2), ")".repeat(DEPTH_MAX - 2)),
        format!("{}true{}", "[".repeat(DEPTH_MAX - 2), "]".repeat(DEPTH_MAX - 2)),
        vec!["true"; OPERATORS_MAX - 2].join(" && "),
        vec!["true"; OPERATORS_MAX - 2].join(" || "),
        format!("context{}", ".a".repeat(OPERATORS_MAX - 3)),
        format!("context{}", "[\"a\"]".repeat(OPERATORS_MAX - 3)),
        format!("1{} == 1", " + 1".repeat(OPERATORS_MAX - 4)),
        format!("{} true", "if true then true else".repeat(OPERATORS_MAX - 3)),
        format!("{} true", "if if true then true else true then true else".repeat(OPERATORS_MAX / 2 - 2)),
        format!("{}true{}", "if (".repeat(DEPTH_MAX - 2), ") then true else true".repeat(DEPTH_MAX - 2)),
    ];
    // As small as the stacks of tokio's threads.
    let small = std::thread::Builder::new().stack_size(2 << 20);
    let tried = small.spawn(move || {
        for condition in conditions {
            let text = policy(&condition);
            assert_eq!(check(&text, 1), Ok(1), "{condition}");
            let sources = vec![crate::policy::tests::source(text)];
            // Some are refused for their types. What counts is to come back.
            let _ = crate::policy::PolicySet::load(sources, &[]);
        }
    });
    tried.unwrap().join().unwrap();
}

proptest! {
    #[test]
    fn no_text_panics(text in prop_oneof![".{0,60}", "[\"\\\\/a;(){}\n ]{0,60}"]) {
        let _ = check(&text, 3);
        let _ = crate::policy::PolicySet::load(vec![crate::policy::tests::source(text)], &[]);
    }
}
