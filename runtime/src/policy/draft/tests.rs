#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::{Condition, Permit, conditions};
use crate::policy::{
    Question, RequestFacts,
    tests::{agent, load, surroundings},
};
use crate::step::Effect;

fn permit<'a>(id: &'a str, alternatives: &'a [Vec<Condition>]) -> Permit<'a> {
    Permit {
        id,
        description: "a \"description\"\nof two lines",
        principal: ("Agent", "desk"),
        action: "SendRequest",
        resource: ("Host", "api.example.com"),
        alternatives,
    }
}

fn request(method: &str, path: &str) -> RequestFacts {
    RequestFacts {
        method: method.into(),
        scheme: "https".into(),
        host: "api.example.com".into(),
        port: 443,
        path: path.into(),
        query: String::new(),
        content_type: String::new(),
        rule: "tracker".into(),
        effect: Effect::Read,
        credential: String::new(),
        labels: Vec::new(),
    }
}

#[test]
fn a_permit_allows_its_alternatives_and_nothing_else() {
    let get = vec![Condition::equals("method", "GET"), Condition::like("path", ["/v1/issues/", ""])];
    let post = vec![Condition::one_of("method", ["POST", "PUT"]), Condition::like("path", ["/v1/", "/comments"])];
    let text = permit("learned.one", &[get, post]).text().unwrap();
    let set = load(&text);
    assert_eq!(set.policies()[0].id, "learned.one");
    assert_eq!(set.policies()[0].description, "a \"description\"\nof two lines");
    let desk = agent("desk");
    let allowed = |method: &str, path: &str| {
        let question = Question::SendRequest { agent: &desk, request: &request(method, path) };
        set.decide(&question, &surroundings()).allowed
    };
    assert!(allowed("GET", "/v1/issues/7") && allowed("PUT", "/v1/issues/7/comments"));
    assert!(!allowed("POST", "/v1/issues/7") && !allowed("GET", "/v1/users/7") && !allowed("DELETE", "/v1/issues/7"));
}

#[test]
fn an_addition_is_taken_apart_and_a_comment_is_none() {
    let desk = agent("desk");
    let set = load(
        "permit (principal, action == Palisade::Action::\"SendRequest\", resource)
         when { context.environment == \"test\" && context.method == \"HEAD\" };",
    );
    let (request, now) = (request("GET", "/"), surroundings());
    let question = Question::SendRequest { agent: &desk, request: &request };
    let addition = set.explain(&question, &now, &set.decide(&question, &now), &[]).unwrap().addition;
    let taken = conditions(&addition).unwrap();
    let expected = [("method", "GET"), ("path", "/"), ("rule", "tracker"), ("environment", "production")]
        .map(|(a, b)| Condition::equals(a, b));
    assert_eq!(taken, expected);
    assert!(taken[0].sees("method") && !taken[0].sees("environment"));
    let again = load(&permit("learned.again", &[taken]).text().unwrap());
    assert!(again.decide(&question, &now).allowed);
    assert_eq!(conditions("// No permit can override the forbid `x`."), None);
    assert_eq!(conditions("forbid (principal, action, resource);"), None);
}

proptest! {
    #[test]
    fn whatever_is_compared_stays_a_text(id in "[a-z.:/-]{1,40}", texts in proptest::collection::vec(any::<String>(), 1..4)) {
        let conditions: Vec<Condition> = texts
            .iter()
            .flat_map(|text| {
                let text = text.as_str();
                [Condition::equals("path", text), Condition::like("query", [text, text]), Condition::one_of("rule", [text])]
            })
            .collect();
        let description: &str = &texts[0];
        let alternatives = [conditions];
        let text = Permit { description, resource: ("Host", description), ..permit(&id, &alternatives) }.text().unwrap();
        let set = load(&text);
        prop_assert_eq!(set.policies().len(), 1);
        prop_assert_eq!(&set.policies()[0].id, &id);
        prop_assert_eq!(&set.policies()[0].description, &texts[0]);
    }
}
