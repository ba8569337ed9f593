//! Signatures, certificates, and what both are made of.

use std::sync::Arc;

use http::{HeaderMap, Method};

use super::Signing;
use crate::credentials::{
    AttachError, Credentials,
    tests::{Folder, NoFetch, advance, attach, credentials, header},
};

const HMAC: &str = r#"
    [[credential]]
    name = "hmac"
    type = "hmac"
    key_id = "k1"
    source = { file = "DIR/key" }
"#;

const MTLS: &str = r#"
    [[credential]]
    name = "mtls"
    type = "mtls"
    certificates = { file = "DIR/certificates" }
    key = { file = "DIR/key" }
"#;

async fn signature(credentials: &Credentials, to: &Signing<'_>) -> String {
    header(&credentials.attach("hmac", to).await.unwrap(), "x-signature")
}

#[tokio::test]
async fn the_signature_is_over_the_documented_lines() {
    let folder = Folder::new();
    folder.write("key", "a-shared-key\n");
    let credentials = credentials(HMAC, &folder, Arc::new(NoFetch));
    let headers = HeaderMap::new();
    let method = Method::POST;
    let post = |port, query, body| Signing {
        method: &method,
        scheme: "https",
        host: "api.example.com",
        port,
        path: "/v1/a%20b",
        query,
        headers: &headers,
        body,
    };
    let to = post(8443, Some("a=1&b"), Some(&b"{}"[..]));
    let attached = credentials.attach("hmac", &to).await.unwrap();
    assert_eq!(header(&attached, "x-key-id"), "k1");
    assert_eq!(header(&attached, "x-timestamp"), "1800000000");
    assert_eq!(attached.scrubber.text("a-shared-key"), "************");
    // printf 'HMAC-SHA256\n1800000000\nPOST\napi.example.com:8443\n/v1/a%%20b\na=1&b\n%s' "$(printf {} | sha256sum |
    // cut -c1-64)" | openssl dgst -sha256 -hmac a-shared-key
    let first = header(&attached, "x-signature");
    assert_eq!(first, "d8fc14fc92f1ad2a8bcfb001006d4618dd2294a86fb4ad1bce1a29fdc647f41e");
    // Everything in it counts.
    for other in [
        post(443, Some("a=1&b"), Some(&b"{}"[..])),
        post(8443, Some("a=1"), Some(b"{}")),
        post(8443, None, Some(b"{}")),
        post(8443, Some("a=1&b"), Some(b"{ }")),
        post(8443, Some("a=1&b"), None),
    ] {
        assert_ne!(signature(&credentials, &other).await, first);
    }
    advance(1);
    assert_ne!(signature(&credentials, &to).await, first);
}

#[tokio::test]
async fn a_client_certificate_changes_with_its_files() {
    let folder = Folder::new();
    let credentials = credentials(MTLS, &folder, Arc::new(NoFetch));
    let pem = |kind: &str, body: &str| format!("-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n");
    let chain = pem("CERTIFICATE", "Zmlyc3Q=") + &pem("CERTIFICATE", "c2Vjb25k");
    let key = pem("PRIVATE KEY", "a2V5");
    folder.write("certificates", &chain);
    folder.write("key", &key);
    let first = attach(&credentials, "mtls").await.unwrap();
    let identity = first.identity.unwrap();
    assert_eq!(identity.chain, [b"first"[..].into(), b"second"[..].into()]);
    assert_eq!(identity.key.secret_der(), b"key");
    assert!(first.headers.is_empty() && first.query.is_none());
    let same = attach(&credentials, "mtls").await.unwrap().identity.unwrap();
    assert!(Arc::ptr_eq(&identity, &same));
    // Both in one file.
    folder.write("certificates", &(pem("CERTIFICATE", "b3RoZXI=") + &key));
    folder.write("key", &(pem("CERTIFICATE", "b3RoZXI=") + &key));
    let other = attach(&credentials, "mtls").await.unwrap().identity.unwrap();
    assert_eq!(other.chain, [b"other"[..].into()]);
    assert_ne!(other.id, identity.id);
}

#[tokio::test]
async fn what_is_no_certificate_or_key_is_refused_without_being_shown() {
    let folder = Folder::new();
    let credentials = credentials(MTLS, &folder, Arc::new(NoFetch));
    let certificate = "-----BEGIN CERTIFICATE-----\nZmlyc3Q=\n-----END CERTIFICATE-----\n";
    let key = "-----BEGIN PRIVATE KEY-----\na2V5\n-----END PRIVATE KEY-----\n";
    for (certificates, key, word) in [
        ("hunter2", key, "0 certificates"),
        ("-----BEGIN CERTIFICATE-----\nhunter2\n", key, "not valid PEM"),
        ("-----BEGIN CERTIFICATE-----\nhunter2!\n-----END CERTIFICATE-----\n", key, "not valid PEM"),
        (&*certificate.repeat(11), key, "11 certificates"),
        (certificate, "hunter2", "its key"),
        (certificate, "-----BEGIN PRIVATE KEY-----\nhunter2!\n-----END PRIVATE KEY-----\n", "its key"),
        (certificate, certificate, "its key"),
    ] {
        folder.write("certificates", certificates);
        folder.write("key", key);
        let Err(AttachError::Unavailable { why, .. }) = attach(&credentials, "mtls").await else {
            panic!("it was attached");
        };
        assert!(why.contains(word) && !why.contains("hunter2"), "{why}");
    }
}

#[tokio::test]
async fn the_keys_of_aws_are_read_from_a_document_or_one_by_one() {
    let folder = Folder::new();
    let toml = r#"
        [[credential]]
        name = "document"
        type = "aws-sigv4"
        region = "eu-west-1"
        service = "sqs"
        keys = { document = { file = "DIR/document" } }
        [[credential]]
        name = "separate"
        type = "aws-sigv4"
        region = "eu-west-1"
        service = "sqs"
        keys = { separate = { access_key_id = "AKID", secret_access_key = { file = "DIR/secret" }, session_token = { file = "DIR/token" } } }
    "#;
    let credentials = credentials(toml, &folder, Arc::new(NoFetch));
    folder.write("secret", "a-secret-key");
    folder.write("token", "a-session-token");
    folder.write(
        "document",
        r#"{"Version": 1, "AccessKeyId": "AKID", "SecretAccessKey": "a-secret-key", "SessionToken": "a-session-token",
            "Expiration": "2030-01-01T00:00:00Z"}"#,
    );
    let document = attach(&credentials, "document").await.unwrap();
    let separate = attach(&credentials, "separate").await.unwrap();
    assert_eq!(document.headers, separate.headers);
    assert_eq!(header(&document, "x-amz-security-token"), "a-session-token");
    assert_eq!(header(&document, "x-amz-date"), "20270115T080000Z");
    assert!(header(&document, "authorization").contains("Credential=AKID/20270115/eu-west-1/sqs/aws4_request"));
    assert_eq!(document.scrubber.text("a-session-token a-secret-key"), "*************** ************");
    folder.write("document", r#"{"AccessKeyId": "AKID", "SecretAccessKey": ["hunter2"]}"#);
    let Err(AttachError::Unavailable { why, .. }) = attach(&credentials, "document").await else {
        panic!("it was attached");
    };
    assert!(!why.contains("hunter2"), "{why}");
}
