use super::*;

fn read(text: &str) -> Result<Narrow, toml::de::Error> {
    toml::from_str(text)
}

#[test]
fn a_table_of_nothing_but_a_rule_narrows_nothing() {
    let narrow = read("rule = 'github'").unwrap();
    assert_eq!(narrow.check(), Ok(()));
    assert_eq!(serde_json::to_string(&narrow).unwrap(), r#"{"rule":"github"}"#);
}

#[test]
fn a_table_survives_toml_and_json() {
    let narrow = read(
        r#"
        rule = "github"
        host = "api.example.com"
        methods = ["GET"]
        paths = ["/repos/acme/**"]
        request_bytes = 1
        response_bytes = 2
        request_types = ["application/json"]
        response_types = ["text/*"]
        timeouts = { idle_ms = 3 }
        rate = { requests = 4, seconds = 5 }
        concurrency = 6
        credential = "github-read"
        "#,
    )
    .unwrap();
    assert_eq!(read(&toml::to_string(&narrow).unwrap()).unwrap(), narrow);
    let json = serde_json::to_string(&narrow).unwrap();
    assert_eq!(serde_json::from_str::<Narrow>(&json).unwrap(), narrow);
}

#[test]
fn a_table_cannot_speak_of_what_only_a_rule_says() {
    for more in [
        "name = 'y'",
        "scheme = 'http'",
        "port = 80",
        "effect = 'read'",
        "labels = []",
        "credentials = ['a']",
        "cidrs = ['10.0.0.0/8']",
        "idempotency_header = 'x'",
        "timeouts = { read_ms = 1 }",
    ] {
        assert!(read(&format!("rule = 'x'\n{more}")).is_err(), "{more}");
    }
    assert!(read("host = 'example.com'").is_err());
}

#[test]
fn time_outs_only_get_shorter() {
    let given = Timeouts::default();
    let asked = |total_ms| NarrowTimeouts { total_ms: Some(total_ms), ..NarrowTimeouts::default() }.shorten(given);
    assert_eq!(NarrowTimeouts::default().shorten(given), Ok(given));
    assert_eq!(asked(1), Ok(Timeouts { total_ms: 1, ..given }));
    assert_eq!(asked(given.total_ms), Ok(given));
    for total_ms in [0, given.total_ms + 1, u64::MAX] {
        let more = BadNarrow::More { key: "timeouts.total_ms", asked: total_ms, given: given.total_ms };
        assert_eq!(asked(total_ms), Err(more));
    }
}
