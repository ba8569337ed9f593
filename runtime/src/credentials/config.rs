//! Credentials in the daemon's configuration. Nothing here is secret: it says where the secrets are.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::step::Name;

/// A `[[credential]]`.
///
/// ```toml
/// [[credential]]
/// name = "github"
/// type = "bearer"
/// source = { file = "/run/secrets/github" }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CredentialConfig {
    pub name: Name,
    /// What reading with this credential puts on a job.
    #[serde(default)]
    pub labels: Vec<Name>,
    /// Refuses unknown keys for the whole table.
    #[serde(flatten)]
    pub kind: Kind,
}

/// How a request shows that it comes from us. `type` in the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Kind {
    /// `authorization: Bearer <value>`
    Bearer { source: Source },
    /// `authorization: Basic <username:value>`
    Basic { username: String, source: Source },
    /// `<header>: <prefix><value>`
    Header {
        header: String,
        #[serde(default)]
        prefix: String,
        source: Source,
    },
    /// `?<parameter>=<value>`. Servers log queries: prefer anything else.
    Query { parameter: String, source: Source },
    /// See `hmac.rs` for what is signed.
    Hmac {
        key_id: String,
        source: Source,
        #[serde(default)]
        headers: HmacHeaders,
    },
    /// AWS Signature Version 4, in headers.
    AwsSigv4 { region: String, service: String, keys: AwsKeys },
    /// A client certificate. Both may be the same PEM file, which then changes at once.
    Mtls { certificates: Source, key: Source },
    /// RFC 6749, section 4.4.
    OauthClientCredentials {
        token_url: String,
        client_id: String,
        source: Source,
        #[serde(default)]
        scopes: Vec<String>,
        #[serde(default)]
        audience: Option<String>,
        #[serde(default)]
        authentication: ClientAuthentication,
    },
}

/// The headers of an HMAC signature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HmacHeaders {
    pub key_id: String,
    pub timestamp: String,
    pub signature: String,
}

impl Default for HmacHeaders {
    fn default() -> Self {
        Self { key_id: "x-key-id".into(), timestamp: "x-timestamp".into(), signature: "x-signature".into() }
    }
}

/// Where the keys of AWS are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AwsKeys {
    /// JSON as AWS' `credential_process` prints it: `AccessKeyId`, `SecretAccessKey` and perhaps `SessionToken`.
    Document(Source),
    Separate {
        access_key_id: String,
        secret_access_key: Source,
        #[serde(default)]
        session_token: Option<Source>,
    },
}

/// How an OAuth client shows its secret.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAuthentication {
    #[default]
    Basic,
    Body,
}

/// Where a value comes from: a table with one key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Source {
    /// An absolute path. Read again when the file changes. World-readable files are refused, but below
    /// `/run/secrets`, `/var/run/secrets` and `$CREDENTIALS_DIRECTORY`.
    File(PathBuf),
    /// A variable of the daemon's environment, read once, at start. Who may look at the process may look at it: prefer
    /// files.
    Env(String),
    /// A name below `$CREDENTIALS_DIRECTORY`: systemd's `LoadCredential=`.
    Systemd(String),
    Exec(Exec),
    Vault(Box<Vault>),
}

/// A program that prints the value, or `{"value": "…", "expires_in": seconds}`. There is no shell, no input, and no
/// environment but `PATH`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// The program's absolute path, and its arguments. Arguments are visible to everybody on the machine.
    pub command: Vec<String>,
    #[serde(default = "ten_seconds")]
    pub timeout_ms: u64,
    /// How long a printed value is used, if it does not say when it expires.
    #[serde(default = "one_minute")]
    pub cache_ms: u64,
}

/// A field of a secret in a KV version 2 engine of Vault or OpenBao.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vault {
    /// `https://vault.example.com:8200`. Plain HTTP is for loopback addresses.
    pub address: String,
    #[serde(default)]
    pub namespace: Option<String>,
    #[serde(default = "secret_mount")]
    pub mount: String,
    pub path: String,
    #[serde(default = "value_field")]
    pub field: String,
    pub auth: VaultAuth,
    #[serde(default = "one_minute")]
    pub cache_ms: u64,
}

/// How the daemon logs in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum VaultAuth {
    /// A token that somebody else keeps alive, such as Vault Agent in a file.
    Token(Box<Source>),
    Approle {
        role_id: String,
        secret_id: Box<Source>,
        #[serde(default = "approle_mount")]
        mount: String,
    },
    /// Also Kubernetes: its engine takes the same. The token's file is `/var/run/secrets/…/token`.
    Jwt {
        role: String,
        source: Box<Source>,
        #[serde(default = "kubernetes_mount")]
        mount: String,
    },
}

fn ten_seconds() -> u64 {
    10_000
}

fn one_minute() -> u64 {
    60_000
}

fn secret_mount() -> String {
    "secret".into()
}

fn value_field() -> String {
    "value".into()
}

fn approle_mount() -> String {
    "approle".into()
}

fn kubernetes_mount() -> String {
    "kubernetes".into()
}

impl Kind {
    /// Returns the kind as in the file.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Bearer { .. } => "bearer",
            Self::Basic { .. } => "basic",
            Self::Header { .. } => "header",
            Self::Query { .. } => "query",
            Self::Hmac { .. } => "hmac",
            Self::AwsSigv4 { .. } => "aws-sigv4",
            Self::Mtls { .. } => "mtls",
            Self::OauthClientCredentials { .. } => "oauth-client-credentials",
        }
    }

    /// Returns where the values are, in words.
    pub fn source(&self) -> String {
        match self {
            Self::Bearer { source }
            | Self::Basic { source, .. }
            | Self::Header { source, .. }
            | Self::Query { source, .. }
            | Self::Hmac { source, .. }
            | Self::AwsSigv4 { keys: AwsKeys::Document(source), .. } => source.to_string(),
            Self::AwsSigv4 { keys: AwsKeys::Separate { secret_access_key, .. }, .. } => secret_access_key.to_string(),
            Self::Mtls { certificates, key } if certificates == key => key.to_string(),
            Self::Mtls { certificates, key } => format!("{certificates} and {key}"),
            Self::OauthClientCredentials { token_url, source, .. } => format!("{token_url} with {source}"),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Env(variable) => write!(f, "variable {variable}"),
            Self::Systemd(name) => write!(f, "systemd credential {name}"),
            // Without its arguments, which are many at times.
            Self::Exec(exec) => write!(f, "program {}", exec.command.first().map_or("", String::as_str)),
            Self::Vault(vault) => {
                let Vault { address, mount, path, field, .. } = &**vault;
                write!(f, "vault {address} {mount}/{path} {field}")
            }
        }
    }
}

impl CredentialConfig {
    /// Returns the files that values are read from, and the programs that print them.
    pub fn files(&self) -> Vec<&Path> {
        self.kind.sources().into_iter().filter_map(Source::file).collect()
    }
}

impl Kind {
    fn sources(&self) -> Vec<&Source> {
        match self {
            Self::Bearer { source }
            | Self::Basic { source, .. }
            | Self::Header { source, .. }
            | Self::Query { source, .. }
            | Self::Hmac { source, .. }
            | Self::OauthClientCredentials { source, .. }
            | Self::AwsSigv4 { keys: AwsKeys::Document(source), .. } => vec![source],
            Self::AwsSigv4 { keys: AwsKeys::Separate { secret_access_key, session_token, .. }, .. } => {
                std::iter::once(secret_access_key).chain(session_token).collect()
            }
            Self::Mtls { certificates, key } => vec![certificates, key],
        }
    }
}

impl Source {
    fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Exec(exec) => exec.command.first().map(Path::new),
            Self::Vault(vault) => match &vault.auth {
                VaultAuth::Token(source)
                | VaultAuth::Approle { secret_id: source, .. }
                | VaultAuth::Jwt { source, .. } => source.file(),
            },
            Self::Env(_) | Self::Systemd(_) => None,
        }
    }
}
