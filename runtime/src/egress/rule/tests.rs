use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Result<Rule, toml::de::Error> {
    toml::from_str(text)
}

fn rule(more: &str) -> Rule {
    read(&format!("name = 'x'\nhost = 'api.example.com'\n{more}")).unwrap()
}

fn problem(more: &str) -> String {
    rule(more).check().unwrap_err().to_string()
}

#[test]
fn a_rule_of_a_name_and_a_host_has_every_default() {
    let rule = rule("");
    assert_eq!(rule.check(), Ok(()));
    assert_eq!((rule.scheme, rule.port()), (Scheme::Https, 443));
    assert_eq!(rule.methods.iter().map(ToString::to_string).collect::<Vec<_>>(), ["GET", "HEAD"]);
    assert_eq!(rule.paths.iter().map(ToString::to_string).collect::<Vec<_>>(), ["/**"]);
    assert_eq!((rule.request_bytes, rule.response_bytes), (1 << 20, 8 << 20));
    assert_eq!(
        rule.timeouts,
        Timeouts { connect_ms: 5_000, first_byte_ms: 30_000, idle_ms: 15_000, total_ms: 120_000 }
    );
    assert_eq!((rule.rate, rule.concurrency), (Rate { requests: 600, seconds: 60 }, 16));
}

const EVERYTHING: &str = r#"
    name = "github"
    scheme = "http"
    host = "*.example.com"
    port = 8080
    methods = ["GET", "POST"]
    paths = ["/repos/acme/*/issues", "/search/**"]
    request_bytes = 1024
    response_bytes = 2048
    request_types = ["application/json"]
    response_types = ["application/json", "text/*"]
    timeouts = { total_ms = 1000 }
    rate = { requests = 1, seconds = 2 }
    concurrency = 3
    effect = "append"
    labels = ["public"]
    credentials = ["github-read", "github-write"]
    idempotency_header = "Idempotency-Key"
    cidrs = ["10.0.0.0/8", "fd00::/8"]
"#;

#[test]
fn a_rule_survives_toml_and_json() {
    for rule in [read(EVERYTHING).unwrap(), rule("")] {
        assert_eq!(rule.check(), Ok(()));
        assert_eq!(read(&toml::to_string(&rule).unwrap()).unwrap(), rule);
        let json = serde_json::to_string(&rule).unwrap();
        let again: Rule = serde_json::from_str(&json).unwrap();
        assert_eq!(again, rule);
        assert_eq!(serde_json::to_string(&again).unwrap(), json);
    }
}

#[test]
fn a_key_that_is_not_known_is_refused() {
    for more in
        ["hosts = []", "timeouts = { read_ms = 1 }", "rate = { requests = 1, seconds = 1, burst = 1 }", "follow = true"]
    {
        assert!(read(&format!("name = 'x'\nhost = 'example.com'\n{more}")).is_err(), "{more}");
    }
    assert!(read("name = 'x'").is_err());
    assert!(read("host = 'example.com'").is_err());
}

#[test]
fn a_value_of_another_form_is_refused() {
    for more in [
        "methods = ['get']",
        "methods = ['CONNECT']",
        "methods = ['*']",
        "paths = ['/a/../b']",
        "paths = ['/a*']",
        "request_types = ['*/*']",
        "scheme = 'HTTPS'",
        "scheme = 'ftp'",
        "effect = 'harmless'",
        "labels = ['Public']",
        "idempotency_header = 'authorization'",
        "cidrs = ['10.0.0.0/33']",
        "port = 65536",
        "request_bytes = -1",
    ] {
        assert!(read(&format!("name = 'x'\nhost = 'example.com'\n{more}")).is_err(), "{more}");
    }
    for host in
        ["*", "*.com", "Example.com", "example.com.", "example.com:443", "https://example.com", "127.1", "::1", ""]
    {
        assert!(read(&format!("name = 'x'\nhost = '{host}'")).is_err(), "{host}");
    }
}

#[test]
fn a_problem_names_its_key_and_the_limit() {
    for (more, message) in [
        ("methods = []", "`methods` is empty: nothing would be allowed"),
        ("paths = []", "`paths` is empty: nothing would be allowed"),
        ("port = 0", "`port` is 0: it must be at least 1 and at most 65535"),
        ("request_bytes = 0", "`request_bytes` is 0: it must be at least 1 and at most 1073741824"),
        ("request_bytes = 1073741825", "`request_bytes` is 1073741825: it must be at least 1 and at most 1073741824"),
        (
            "response_bytes = 17179869185",
            "`response_bytes` is 17179869185: it must be at least 1 and at most 17179869184",
        ),
        ("timeouts = { idle_ms = 0 }", "`timeouts.idle_ms` is 0: it must be at least 1 and at most 3600000"),
        (
            "timeouts = { total_ms = 3600001 }",
            "`timeouts.total_ms` is 3600001: it must be at least 1 and at most 3600000",
        ),
        ("rate = { requests = 0, seconds = 1 }", "`rate.requests` is 0: it must be at least 1 and at most 1000000000"),
        ("rate = { requests = 1, seconds = 0 }", "`rate.seconds` is 0: it must be at least 1 and at most 86400"),
        ("concurrency = 0", "`concurrency` is 0: it must be at least 1 and at most 10000"),
        ("cidrs = ['10.0.0.1/8']", "`cidrs` has `10.0.0.1/8`, which is not in its normal form: write `10.0.0.0/8`"),
        ("cidrs = ['0.0.0.0/0']", "`cidrs` has `0.0.0.0/0`, which is no special-purpose network: list `/8` or longer"),
        ("cidrs = ['::/0']", "`cidrs` has `::/0`, which is no special-purpose network: list `/7` or longer"),
        (
            "cidrs = ['::ffff:10.0.0.0/104']",
            "`cidrs` has `::ffff:10.0.0.0/104`, which no address is compared with: list the IPv4 network",
        ),
    ] {
        assert_eq!(problem(more), message);
    }
    let many = |item: &str| vec![format!("'{item}'"); LIST_MAX + 1].join(",");
    for (key, item) in [
        ("methods", "GET"),
        ("paths", "/"),
        ("request_types", "a/b"),
        ("response_types", "a/b"),
        ("labels", "a"),
        ("credentials", "a"),
        ("cidrs", "10.0.0.0/8"),
    ] {
        let message = format!("`{key}` has {} entries: at most {LIST_MAX}", LIST_MAX + 1);
        assert_eq!(problem(&format!("{key} = [{}]", many(item))), message);
    }
}

#[test]
fn an_address_that_is_special_must_be_listed() {
    let of =
        |host: &str, cidrs: &str| read(&format!("name = 'x'\nhost = '{host}'\ncidrs = [{cidrs}]")).unwrap().check();
    assert_eq!(of("8.8.8.8", ""), Ok(()));
    assert_eq!(of("10.1.2.3", "'10.0.0.0/8'"), Ok(()));
    assert_eq!(of("[::1]", "'::1/128'"), Ok(()));
    for (host, cidrs) in
        [("10.1.2.3", ""), ("[::1]", ""), ("127.0.0.1", "'10.0.0.0/8'"), ("169.254.169.254", "'169.254.0.0/16'")]
    {
        assert!(matches!(of(host, cidrs), Err(BadRule::Host(_))), "{host}");
    }
}

#[test]
fn what_a_request_does_is_told_by_its_method_or_by_the_rule() {
    let by_method = rule("");
    for (method, effect) in [
        (Method::GET, Effect::Read),
        (Method::HEAD, Effect::Read),
        (Method::OPTIONS, Effect::Read),
        (Method::DELETE, Effect::Destroy),
        (Method::POST, Effect::ExternalSend),
        (Method::PUT, Effect::ExternalSend),
        (Method::PATCH, Effect::ExternalSend),
        (Method::from_bytes(b"PURGE").unwrap(), Effect::ExternalSend),
    ] {
        assert_eq!(by_method.effect(&method), effect, "{method}");
        assert_eq!(rule("effect = 'append'").effect(&method), Effect::Append);
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text: String, more in "(host|name|cidrs|port|paths) = ['\\[\\]a-z0-9./*]{0,12}") {
        let _ = read(&text);
        if let Ok(rule) = read(&format!("name = 'x'\nhost = 'a.test'\n{more}")) {
            let _ = rule.check();
        }
    }

    #[test]
    fn a_number_passes_up_to_its_limit(value in 0..3 * REQUEST_BYTES_MAX) {
        let passes = rule(&format!("request_bytes = {value}")).check().is_ok();
        prop_assert_eq!(passes, (1..=REQUEST_BYTES_MAX).contains(&value));
    }
}
