#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const LEAST: &str = "name = \"a\"\nversion = \"1\"\ncomponent = \"c\"\nowner = \"o\"\n";

fn refused(text: &str) -> String {
    parse(&format!("{LEAST}{text}")).unwrap_err().to_string()
}

#[test]
fn the_sample_is_valid() {
    let manifest = parse(SAMPLE).unwrap();
    assert_eq!((manifest.tools.len(), manifest.mounts.len(), manifest.spaces.len()), (1, 1, 1));
    assert_eq!(manifest.egress.len(), 1);
}

#[test]
fn what_is_not_named_is_not_given() {
    let manifest = parse(LEAST).unwrap();
    assert!(manifest.powers.is_empty() && manifest.tools.is_empty() && manifest.mounts.is_empty());
    assert_eq!(reach(&manifest, &[], |_| None), ["component c"]);
}

#[test]
fn an_unknown_key_is_refused_by_name() {
    assert!(refused("tolls = []").contains("tolls"));
    assert!(refused("[limits]\nfule = 3").contains("fule"));
    assert!(refused("powers = [\"sockets\"]").contains("sockets"));
}

#[test]
fn a_tool_cannot_get_what_the_agent_does_not_have() {
    let tool = "powers = [\"tools\"]\n[[tool]]\nname = \"t\"\n";
    assert!(refused(&format!("{tool}mounts = [\"m\"]")).contains("`tool.mounts` of `t` names `m`"));
    assert!(refused(&format!("{tool}tools = [\"u\"]")).contains("`tool.tools` of `t` names `u`"));
    assert!(refused(&format!("{tool}spaces = [\"s\"]")).contains("`tool.spaces` of `t` names `s`"));
}

#[test]
fn what_is_given_twice_or_without_its_power_is_refused() {
    assert!(
        refused("powers = [\"tools\"]\n[[tool]]\nname = \"t\"\n[[tool]]\nname = \"t\"").contains("names `t` twice")
    );
    assert!(refused("[[tool]]\nname = \"t\"").contains("does not list \"tools\""));
    assert!(refused("[[memory]]\nspace = \"s\"").contains("does not list \"memory\""));
}

#[test]
fn a_difference_shows_what_is_added_and_removed() {
    let before = parse(&format!("{LEAST}powers = [\"memory\"]\n[[memory]]\nspace = \"s\"")).unwrap();
    let after = parse(&format!("{LEAST}powers = [\"memory\"]\n[[memory]]\nspace = \"s\"\nwritable = true")).unwrap();
    let (before, after) = (reach(&before, &[], |_| None), reach(&after, &[], |_| None));
    let more = Difference { added: vec!["memory s, read-write".into()], removed: vec![] };
    assert_eq!(difference(&before, &after), more);
    assert_eq!(difference(&after, &before), Difference { added: more.removed, removed: more.added });
}

#[test]
fn a_bound_that_is_raised_or_gone_is_more_reach_and_one_that_is_lowered_is_less() {
    let with = |tail: &str| reach(&parse(&format!("{LEAST}{tail}")).unwrap(), &[], |_| None);
    let (none, low, high) = (with(""), with("[limits]\nfuel = 5"), with("[limits]\nfuel = 9"));
    assert_eq!(difference(&low, &high).added, ["limits.fuel at most 9"]);
    assert_eq!(difference(&high, &low), Difference { added: vec![], removed: vec!["limits.fuel at most 9".into()] });
    assert_eq!(difference(&low, &none).added, ["limits.fuel as much as the configuration allows"]);
    assert!(difference(&none, &low).added.is_empty());
}

#[test]
fn no_path_can_pass_for_a_bound() {
    let mount =
        |path: &str| parse(&format!("{LEAST}[[mount]]\nname = \"m\"\npath = \"{path}\"\nwritable = true")).unwrap();
    let none = reach(&parse(LEAST).unwrap(), &[], |_| None);
    for path in ["/a at most b", "/a at most 9", "/limits.fuel at most 9"] {
        assert_eq!(difference(&none, &reach(&mount(path), &[], |_| None)).added.len(), 1, "{path}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,300}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_change_of_the_sample_makes_it_panic(at in 0..SAMPLE.len(), byte in any::<u8>()) {
        let mut bytes = SAMPLE.as_bytes().to_vec();
        bytes[at] = byte;
        let _ = parse(&String::from_utf8_lossy(&bytes));
    }
}
