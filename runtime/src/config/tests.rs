#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn refused(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn the_sample_is_the_default() {
    assert_eq!(parse(SAMPLE).unwrap(), Config::default());
}

#[test]
fn the_commented_examples_are_valid() {
    let examples: String = SAMPLE
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|l| l.contains(" = ") || l.starts_with("[[")).unwrap_or(line))
        .map(|line| line.replace("/srv/source", "/usr/share").replace("/srv/reports", "/usr/lib") + "\n")
        .collect();
    let config = parse(&examples).unwrap();
    assert_eq!(config.mounts.len(), 2);
    assert_eq!(config.listen.group.as_deref(), Some("palisade"));
}

#[test]
fn an_unknown_key_is_refused_by_name() {
    assert!(refused("[limits]\nfule = 3").contains("fule"));
    assert!(refused("colour = 1").contains("colour"));
}

#[test]
fn an_absurd_limit_is_refused_with_its_bound() {
    assert!(refused("[limits]\nconcurrent_steps = 0").contains("`limits.concurrent_steps` is 0"));
    assert!(refused("[limits]\ninput_bytes = 99_999_999_999").contains("at most 3145728"));
    assert!(refused("[limits]\nfuel = { default = 9, max = 3 }").contains("above the maximum 3"));
    assert!(refused("[limits]\nfuel = { default = -1, max = 3 }").contains("-1"));
}

#[test]
fn an_address_that_is_not_loopback_is_refused() {
    assert!(refused("[listen]\ntcp = '0.0.0.0:80'").contains("only loopback"));
}

#[test]
fn mounts_that_could_leak_into_each_other_are_refused() {
    let two = |a: &str, b: &str| format!("[[mount]]\nname='a'\npath='{a}'\n[[mount]]\nname='b'\npath='{b}'\n");
    let writable = "writable = { bytes = 1, entries = 1 }";
    assert!(parse(&two("/usr/share", "/usr")).is_ok(), "two read-only views of a tree are harmless");
    assert!(refused(&(two("/usr/share", "/usr") + writable)).contains("share a directory tree"));
    assert!(refused(&(two("/usr", "/usr/share/../share") + writable)).contains("share a directory tree"));
    assert!(refused("[[mount]]\nname='root'\npath='/'").contains("whole file system"));
    assert!(refused("data_dir='/usr/x'\n[[mount]]\nname='a'\npath='/usr'").contains("`data_dir`"));
    assert!(refused("[[mount]]\nname='No Name'\npath='/usr'").contains("is not a name"));
    let socket = format!("[listen]\nsocket='/usr/x/s'\n[[mount]]\nname='a'\npath='/usr'\n{writable}");
    assert!(refused(&socket).contains("a step could take its place"));
}

#[test]
fn only_walls_that_a_host_may_lack_can_be_waived() {
    assert!(refused("[jail]\nallow_missing = ['moat']").contains("`moat`"));
    assert!(refused("[jail]\nallow_missing = ['landlock']").contains("may be missing are user-namespace"));
    assert!(parse("[jail]\nallow_missing = ['user-namespace']").is_ok());
}

#[test]
fn who_may_hold_and_what_holds_by_itself_is_checked() {
    let rule =
        "[[containment]]\nname='loops'\nagents=['*']\nwhen={ same_call=50, within_seconds=60 }\nthen='read-only'\n";
    assert!(parse(rule).is_ok());
    assert!(refused(&rule.replace("50", "5")).contains("containment rule `loops`: `when.same_call` is 5"));
    assert!(refused(&rule.repeat(2)).contains("`containment` names `loops` twice"));
    let many: String = (0..17).map(|number| rule.replace("loops", &format!("loops-{number}"))).collect();
    assert!(refused(&many).contains("at most 16"));
    assert!(refused("[control]\noperators=['root']").contains("`control.operators` names `root`"));
    assert!(refused(&format!("[control]\noperators={:?}", vec!["loopback"; 257])).contains("at most 256"));
    assert!(parse("[control]\noperators=['loopback', 'unix:0']").is_ok());
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "[a-z_\\[\\]={}\"0-9.\n -]{0,200}") {
        let _ = parse(&text);
        let _ = parse(&format!("{SAMPLE}{text}"));
    }
}
