//! What the configuration may say, and what it may not.

use super::check;
use crate::credentials::{
    CredentialConfig,
    tests::{ALL, Folder, parse},
};

#[test]
fn the_configuration_reads_and_writes_alike() {
    #[derive(serde::Serialize)]
    struct File {
        credential: Vec<CredentialConfig>,
    }
    let folder = Folder::new();
    let configs = parse(ALL, &folder).unwrap();
    let written = toml::to_string(&File { credential: configs.clone() }).unwrap();
    assert_eq!(parse(&written, &folder).unwrap(), configs);
}

#[test]
fn what_the_configuration_cannot_mean_is_refused() {
    let folder = Folder::new();
    let unread = [
        r#"type = "bearer""#,
        r#"type = "none""#,
        r#"type = "bearer"
           source = { file = "/x" }
           extra = 1"#,
        r#"type = "bearer"
           source = { file = "/x", env = "X" }"#,
        r#"type = "bearer"
           source = { exec = { command = ["/x"], shell = true } }"#,
        r#"type = "hmac"
           key_id = "x"
           source = { file = "/x" }
           headers = { sign = "x" }"#,
    ];
    for table in unread {
        assert!(parse(&format!("[[credential]]\nname = \"x\"\n{table}"), &folder).is_err(), "{table}");
    }
    let vault = |rest: &str| format!("type = \"bearer\"\nsource = {{ vault = {{ {rest} }} }}");
    let refused = [
        (
            r#"type = "bearer"
            source = { file = "relative" }"#
                .into(),
            "`file`",
        ),
        (
            r#"type = "bearer"
            source = { file = "/run/secrets/../../etc/shadow" }"#
                .into(),
            "`file`",
        ),
        (
            r#"type = "bearer"
            source = { systemd = "../x" }"#
                .into(),
            "`systemd`",
        ),
        (
            r#"type = "bearer"
            source = { env = "A=B" }"#
                .into(),
            "`env`",
        ),
        (
            r#"type = "bearer"
            source = { exec = { command = [] } }"#
                .into(),
            "`exec.command`",
        ),
        (
            r#"type = "bearer"
            source = { exec = { command = ["sh"] } }"#
                .into(),
            "`exec.command`",
        ),
        (
            r#"type = "bearer"
            source = { exec = { command = ["/x"], timeout_ms = 0 } }"#
                .into(),
            "`exec.timeout_ms`",
        ),
        (
            r#"type = "basic"
            username = "a:b"
            source = { file = "/x" }"#
                .into(),
            "`username`",
        ),
        (
            r#"type = "header"
            header = "Transfer-Encoding"
            source = { file = "/x" }"#
                .into(),
            "`header`",
        ),
        (
            r#"type = "header"
            header = "a b"
            source = { file = "/x" }"#
                .into(),
            "`header`",
        ),
        (
            r#"type = "header"
            header = "a"
            prefix = "x\ny"
            source = { file = "/x" }"#
                .into(),
            "`prefix`",
        ),
        (
            r#"type = "query"
            parameter = ""
            source = { file = "/x" }"#
                .into(),
            "`parameter`",
        ),
        (
            r#"type = "hmac"
            key_id = "x"
            source = { file = "/x" }
            headers = { signature = "X-Key-Id" }"#
                .into(),
            "`headers.signature`",
        ),
        (
            r#"type = "aws-sigv4"
            region = "eu/west"
            service = "s3"
            keys = { document = { file = "/x" } }"#
                .into(),
            "`region`",
        ),
        (
            r#"type = "oauth-client-credentials"
            token_url = "http://example.com"
            client_id = "x"
            source = { file = "/x" }"#
                .into(),
            "`token_url`",
        ),
        (
            r#"type = "oauth-client-credentials"
            token_url = "https://user@example.com"
            client_id = "x"
            source = { file = "/x" }"#
                .into(),
            "`token_url`",
        ),
        (vault(r#"address = "http://10.0.0.1", path = "x", auth = { token = { env = "T" } }"#), "`vault.address`"),
        (vault(r#"address = "https://v/ui", path = "x", auth = { token = { env = "T" } }"#), "`vault.address`"),
        (vault(r#"address = "https://v", path = "a/../b", auth = { token = { env = "T" } }"#), "`vault.path`"),
        (vault(r#"address = "https://v", path = "a?b", auth = { token = { env = "T" } }"#), "`vault.path`"),
        (
            vault(
                r#"address = "https://v", path = "x", auth = { token = { vault = { address = "https://v", path = "x", auth = { token = { env = "T" } } } } }"#,
            ),
            "cannot come from a vault",
        ),
    ];
    for (table, word) in refused {
        let configs = parse(&format!("[[credential]]\nname = \"x\"\n{table}"), &folder).unwrap();
        let error = check(&configs).expect_err(&table).to_string();
        assert!(error.contains(word) && error.contains("`x`"), "{error}");
    }
    let twice = parse(ALL, &folder).unwrap().into_iter().cycle().take(10).collect::<Vec<_>>();
    assert!(check(&twice).unwrap_err().to_string().contains("another one of this name"));
}
