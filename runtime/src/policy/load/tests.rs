use super::*;
use crate::policy::{
    PolicySet as Set,
    tests::{load, source, tools},
};

fn refused(sources: Vec<Source>) -> String {
    Set::load(sources, &tools()).map(|_| ()).unwrap_err().to_string()
}

const ANY: &str = "permit (principal, action == Palisade::Action::\"RunStep\", resource);\n";

#[test]
fn the_starter_permits_to_run_steps_and_has_no_warnings() {
    let set = Set::starter(&[]).unwrap();
    assert_eq!(set.warnings(), [""; 0]);
    let ids: Vec<&str> = set.policies().iter().map(|policy| policy.id.as_str()).collect();
    assert_eq!(ids, ["starter.run-step", "starter.confidential-stays-inside"]);
    assert!(set.policies()[0].description.starts_with("Every caller"));
}

#[test]
fn policies_are_named_by_their_annotation_or_by_their_place() {
    let other = Source { file: "0.cedar".into(), text: format!("@id(\"mine\"){ANY}") };
    let set = Set::load(vec![source(ANY.repeat(12)), other], &[]).unwrap();
    let ids: Vec<&str> = set.policies().iter().map(|policy| policy.id.as_str()).collect();
    assert_eq!((ids[0], ids[1], ids[2], ids[12]), ("mine", "a.cedar:1", "a.cedar:2", "a.cedar:12"));
    assert_eq!(set.policies()[1].text, ANY.trim());
}

#[test]
fn every_mistake_is_told_at_once_with_its_place() {
    let other = Source { file: "b.cedar".into(), text: "permit (principal, action, resource) when { 1 + };".into() };
    let told = refused(vec![source(format!("{ANY}permit (principal, action resource);")), other]);
    assert!(told.contains("a.cedar:2:27: ") && told.contains("\nb.cedar:1:49: "), "{told}");

    let told = refused(vec![source(
        "permit (principal, action == Palisade::Action::\"tool:none\", resource);\n\
         permit (principal, action == Palisade::Action::\"tool:ticket.read\", resource)\n\
         when { context.arguments.queue == 1 };\n\
         permit (principal, action == Palisade::Action::\"tool:ticket.read\", resource)\n\
         when { context.arguments.author == \"x\" };\n",
    )]);
    let told: Vec<&str> = told.lines().collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].starts_with("a.cedar:1:") && told[0].contains("tool:none"), "{told:?}");
    assert!(told[1].starts_with("a.cedar:3:8: "), "{told:?}");
    assert!(told[2].starts_with("a.cedar:5:8: ") && told[2].contains("author"), "{told:?}");
}

#[test]
fn what_cannot_apply_is_warned_about() {
    let set = load("permit (principal, action, resource) when { principal is Palisade::Space };");
    assert_eq!(set.warnings().len(), 1);
    assert!(set.warnings()[0].starts_with("a.cedar:1:"), "{:?}", set.warnings());
}

#[test]
fn a_forbid_that_cannot_apply_is_refused() {
    let never = "forbid (principal, action, resource) when { principal is Palisade::Space };";
    assert!(refused(vec![source(never)]).contains("a.cedar:1:"));
    // Before the first tool is registered, a safety net for all tools may be there.
    let net = "forbid (principal, action in Palisade::Action::\"CallTool\", resource) when { resource.effect == \"destroy\" };";
    assert!(!Set::load(vec![source(net)], &[]).unwrap().warnings().is_empty());
    assert_eq!(Set::load(vec![source(net)], &tools()).unwrap().warnings().len(), 0);
}

#[test]
fn ids_that_repeat_or_cannot_be_written_are_refused() {
    assert!(refused(vec![source(format!("@id(\"x\"){ANY}").repeat(2))]).contains("`x` is there twice"));
    assert!(refused(vec![source(format!("@id(\"a.cedar:2\"){ANY}{ANY}"))]).contains("there twice"));
    for id in ["", "a b", "a\\nb", &"x".repeat(129)] {
        assert!(refused(vec![source(format!("@id(\"{id}\"){ANY}"))]).contains("is not an id"), "{id}");
    }
    assert!(refused(vec![source(format!("@id {ANY}"))]).contains("is not an id"));
}

#[test]
fn templates_are_refused() {
    assert!(refused(vec![source("permit (principal == ?principal, action, resource);")]).contains("templates"));
}

#[test]
fn sets_beyond_the_limits_are_refused_before_they_are_parsed() {
    assert!(
        refused(vec![source(" ".repeat(BYTES_MAX)), Source { file: "b".into(), text: " ".into() }]).contains("bytes")
    );
    assert!(refused(vec![source(";".repeat(POLICIES_MAX + 1))]).contains("more than 1000 policies"));
    let half = ";".repeat(POLICIES_MAX / 2 + 1);
    assert!(refused(vec![source(half.clone()), Source { file: "b".into(), text: half }]).contains("more than"));
    assert!(refused(vec![source("("), source("")]).contains("twice"));
    assert!(refused(vec![Source { file: "a\nb".into(), text: String::new() }]).contains("is no name"));
    let many: Vec<ToolFacts> =
        (0..=TOOLS_MAX).map(|n| ToolFacts { name: n.to_string(), ..tools().remove(0) }).collect();
    assert!(Set::load(Vec::new(), &many).map(|_| ()).unwrap_err().to_string().contains("501 tools"));
}

#[test]
fn a_megabyte_of_nonsense_is_refused() {
    for nonsense in ["a ", "permit ", "@", "\"", "permit(principal,action,resource)", "ä", "when{}", "@a(\"\")"] {
        let told = refused(vec![source(nonsense.repeat(BYTES_MAX / nonsense.len()))]);
        assert!(told.len() < 2000, "{told}");
    }
}

#[test]
fn the_number_of_problems_is_bounded() {
    let broken =
        "permit (principal, action == Palisade::Action::\"RunStep\", resource) when { context.x };\n".repeat(500);
    let told = refused(vec![source(broken)]);
    assert_eq!(told.lines().filter(|line| line.starts_with("a.cedar:")).count(), 100);
}

#[test]
fn the_revision_names_the_files_and_the_schema_and_not_their_order() {
    let file = |name: &str, text: &str| Source { file: name.into(), text: text.into() };
    let revision = |sources: Vec<Source>, tools: &[ToolFacts]| Set::load(sources, tools).unwrap().revision().to_owned();
    let first = revision(vec![file("a", ANY), file("b", "")], &[]);
    assert_eq!(first.len(), 16);
    assert_eq!(first, revision(vec![file("b", ""), file("a", ANY)], &[]));
    assert_ne!(first, revision(vec![file("b", ANY), file("a", "")], &[]));
    assert_ne!(first, revision(vec![file("a", &format!("{ANY} ")), file("b", "")], &[]));
    assert_ne!(first, revision(vec![file("a", ANY), file("b", "")], &tools()));
}

#[test]
fn the_schema_is_shown_as_policies_see_it() {
    let text = load("").schema_text().to_owned();
    assert!(text.contains("action \"tool:ticket.read\" in [Action::\"CallTool\"]"), "{text}");
    assert!(text.contains("author?: String") && text.contains("queue: String"), "{text}");
    assert!(SchemaFragment::from_cedarschema_str(&text).is_ok());
}
