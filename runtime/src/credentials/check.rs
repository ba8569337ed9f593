//! What the configuration of credentials may say.

#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    net::IpAddr,
    path::{Component, Path},
};

use http::{HeaderName, HeaderValue, Uri};

use super::config::{AwsKeys, CredentialConfig, Exec, HmacHeaders, Kind, Source, Vault, VaultAuth};
use crate::step::Name;

/// Milliseconds that a program may be given.
const TIMEOUT_MS_MAX: u64 = 60_000;

/// Milliseconds that a value may be used without being read again.
const CACHE_MS_MAX: u64 = 3_600_000;

/// Bytes of a text in the configuration.
const TEXT_BYTES_MAX: usize = 1 << 10;

/// The first problem of the configuration, or of its surroundings.
#[derive(Debug, thiserror::Error)]
#[error("the credential `{name}`: {why}")]
pub struct BadCredential {
    pub name: Name,
    pub why: String,
}

/// Checks everything that can be checked without looking at files, variables or servers.
pub fn check(configs: &[CredentialConfig]) -> Result<(), BadCredential> {
    let mut names = HashSet::new();
    for config in configs {
        let bad = |why| BadCredential { name: config.name.clone(), why };
        if !names.insert(&config.name) {
            return Err(bad("there is another one of this name".into()));
        }
        kind(&config.kind).map_err(bad)?;
    }
    Ok(())
}

fn kind(kind: &Kind) -> Result<(), String> {
    match kind {
        Kind::Bearer { source: from } => source(from),
        Kind::Basic { username, source: from } => {
            text("username", username)?;
            if username.contains(':') {
                return Err("`username` cannot have a colon: it ends there".into());
            }
            source(from)
        }
        Kind::Header { header, prefix, source: from } => {
            self::header("header", header)?;
            if !prefix.is_empty() {
                text("prefix", prefix)?;
            }
            source(from)
        }
        Kind::Query { parameter, source: from } => text("parameter", parameter).and_then(|()| source(from)),
        Kind::Hmac { key_id, source: from, headers: HmacHeaders { key_id: id, timestamp, signature } } => {
            text("key_id", key_id)?;
            let names = [("headers.key_id", id), ("headers.timestamp", timestamp), ("headers.signature", signature)];
            let mut distinct = HashSet::new();
            for (key, name) in names {
                if !distinct.insert(self::header(key, name)?) {
                    return Err(format!("`{key}` is the same header as another"));
                }
            }
            source(from)
        }
        Kind::AwsSigv4 { region, service, keys } => {
            word("region", region, part)?;
            word("service", service, part)?;
            match keys {
                AwsKeys::Document(from) => source(from),
                AwsKeys::Separate { access_key_id, secret_access_key, session_token } => {
                    word("access_key_id", access_key_id, part)?;
                    source(secret_access_key)?;
                    session_token.as_ref().map_or(Ok(()), source)
                }
            }
        }
        Kind::Mtls { certificates, key } => source(certificates).and_then(|()| source(key)),
        Kind::OauthClientCredentials { token_url, client_id, source: from, scopes, audience, .. } => {
            url("token_url", token_url)?;
            text("client_id", client_id)?;
            scopes.iter().try_for_each(|name| word("scopes", name, scope))?;
            audience.as_ref().map_or(Ok(()), |audience| text("audience", audience))?;
            source(from)
        }
    }
}

fn source(source: &Source) -> Result<(), String> {
    match source {
        Source::File(path) => self::path(path),
        Source::Env(variable) => self::variable(variable),
        Source::Systemd(name) => systemd(name),
        Source::Exec(exec) => self::exec(exec),
        Source::Vault(vault) => self::vault(vault),
    }
}

fn path(path: &Path) -> Result<(), String> {
    let plain = path.components().all(|part| part != Component::ParentDir);
    if path.is_absolute() && plain {
        Ok(())
    } else {
        Err(format!("`file` must be an absolute path without `..`, and is `{}`", shown(&path.to_string_lossy())))
    }
}

fn variable(variable: &str) -> Result<(), String> {
    let allowed = variable.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if allowed && (1..=TEXT_BYTES_MAX).contains(&variable.len()) {
        Ok(())
    } else {
        Err(format!("`env` must be the name of a variable, and is `{}`", shown(variable)))
    }
}

fn systemd(name: &str) -> Result<(), String> {
    let one = Path::new(name).components().eq([Component::Normal(name.as_ref())]);
    if one && name.len() <= 255 && !name.contains('\0') {
        Ok(())
    } else {
        Err(format!("`systemd` must be the name of a credential, and is `{}`", shown(name)))
    }
}

fn exec(exec: &Exec) -> Result<(), String> {
    if !exec.command.first().is_some_and(|program| program.starts_with('/')) {
        return Err("`exec.command` must begin with the absolute path of a program".into());
    }
    if exec.command.iter().any(|part| part.contains('\0')) {
        return Err("`exec.command` has a zero byte".into());
    }
    range("exec.timeout_ms", exec.timeout_ms, 1, TIMEOUT_MS_MAX)?;
    range("exec.cache_ms", exec.cache_ms, 0, CACHE_MS_MAX)
}

fn vault(vault: &Vault) -> Result<(), String> {
    let Vault { address, namespace, mount, path, field, auth, cache_ms } = vault;
    url("vault.address", address)?;
    if address.trim_end_matches('/').matches('/').count() > 2 {
        return Err("`vault.address` has a path: its interface is at `/v1`".into());
    }
    if let Some(namespace) = namespace {
        segments("vault.namespace", namespace)?;
    }
    segments("vault.mount", mount)?;
    segments("vault.path", path)?;
    text("vault.field", field)?;
    range("vault.cache_ms", *cache_ms, 0, CACHE_MS_MAX)?;
    let from = match auth {
        VaultAuth::Token(source) => source,
        VaultAuth::Approle { role_id, secret_id, mount } => {
            text("vault.auth.approle.role_id", role_id)?;
            segments("vault.auth.approle.mount", mount)?;
            secret_id
        }
        VaultAuth::Jwt { role, source, mount } => {
            text("vault.auth.jwt.role", role)?;
            segments("vault.auth.jwt.mount", mount)?;
            source
        }
    };
    match **from {
        Source::Vault(_) => Err("the login to a vault cannot come from a vault".into()),
        _ => source(from),
    }
}

/// HTTPS, or HTTP to this machine; without what a URL of ours does not need.
fn url(key: &str, url: &str) -> Result<(), String> {
    let bad = |what: &str| Err(format!("`{key}` {what}: `{}`", shown(url)));
    let Ok(uri) = url.parse::<Uri>() else { return bad("is not a URL") };
    let Some(host) = uri.host().filter(|host| !host.is_empty()) else { return bad("names no host") };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let local = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if local => {}
        _ => return bad("must be `https://`, or `http://` to a loopback address"),
    }
    if url.contains(['@', '#']) {
        return bad("has a user or a fragment");
    }
    if uri.query().is_some() || url.len() > TEXT_BYTES_MAX {
        return bad("has a query, or is too long");
    }
    Ok(())
}

fn header(key: &str, name: &str) -> Result<HeaderName, String> {
    // They say how a message is sent, not who sends it.
    const FRAMING: [&str; 12] = [
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "proxy-authorization",
    ];
    match HeaderName::try_from(name) {
        Ok(name) if !FRAMING.contains(&name.as_str()) => Ok(name),
        _ => Err(format!("`{key}` must be a header that a credential may set, and is `{}`", shown(name))),
    }
}

/// Anything that can be in a header, so without controls.
fn text(key: &str, text: &str) -> Result<(), String> {
    let legal = HeaderValue::from_str(text).is_ok() && !text.contains('\t');
    if legal && (1..=TEXT_BYTES_MAX).contains(&text.len()) {
        Ok(())
    } else {
        Err(format!("`{key}` must have 1 to {TEXT_BYTES_MAX} bytes and no control characters"))
    }
}

/// A text without spaces or what else could end it.
fn word(key: &str, word: &str, allowed: fn(u8) -> bool) -> Result<(), String> {
    text(key, word)?;
    if word.bytes().all(allowed) {
        Ok(())
    } else {
        Err(format!("`{key}` has a character that it cannot have: `{}`", shown(word)))
    }
}

/// Of a scope, by RFC 6749.
fn scope(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\"\\".contains(&byte)
}

/// Of a part of the scope of an AWS signature.
fn part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// Words with slashes between them, that mean the same to every server.
fn segments(key: &str, path: &str) -> Result<(), String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && part.bytes().all(allowed);
    if path.len() <= TEXT_BYTES_MAX && path.split('/').all(plain) {
        Ok(())
    } else {
        let shown = shown(path);
        Err(format!(
            "`{key}` must be words of letters, digits, `-`, `_`, `.` and `~` with `/` between, and is `{shown}`"
        ))
    }
}

fn range(key: &str, value: u64, min: u64, max: u64) -> Result<(), String> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(format!("`{key}` is {value}, and must be {min} to {max}")) }
}

/// Cuts a text for an error message.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}
