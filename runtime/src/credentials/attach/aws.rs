//! Requests that are signed with AWS Signature Version 4.

mod canonical;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, sync::Arc, time::SystemTime};

use async_trait::async_trait;
use http::{HeaderName, HeaderValue, header};
use serde::Deserialize;
use sha2_11::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{
    Attach, Attached, Sets, Signing, check_sent,
    hmac::{hex, mac},
    made::Made,
    marked, no_memory, sensitive,
};
use crate::credentials::{
    cache::Clock,
    config::AwsKeys,
    scrub::Scrubber,
    secret::Secret,
    source::{Opening, Read, Unreadable},
};

const DATE_HEADER: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-amz-security-token");
const CONTENT_HEADER: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// What a request must not have: it would be signed twice.
const PARAMETERS: [&str; 7] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Amz-SignedHeaders",
];

/// Signs requests.
pub struct Signer {
    scope: Scope,
    sources: Sources,
    clock: Clock,
    made: Made<Arc<Keys>>,
}

/// What a signature is good for.
struct Scope {
    region: String,
    service: String,
}

impl Scope {
    /// S3 has its own rules.
    fn is_s3(&self) -> bool {
        self.service == "s3" || self.service.starts_with("s3-") || self.service == "s3express"
    }
}

enum Sources {
    Document(Arc<dyn Read>),
    Separate { id: String, secret: Arc<dyn Read>, token: Option<Arc<dyn Read>> },
}

/// The keys of now.
struct Keys {
    id: String,
    /// What the keys of signatures are derived from: `AWS4` and the secret key.
    first: Secret,
    token: Option<HeaderValue>,
    scrubber: Scrubber,
}

/// The JSON of AWS' `credential_process` and of its metadata services.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document<'a> {
    access_key_id: String,
    #[serde(borrow)]
    secret_access_key: Cow<'a, str>,
    #[serde(borrow, alias = "Token")]
    session_token: Option<Cow<'a, str>>,
}

impl Signer {
    /// Opens the keys.
    pub fn new(region: &str, service: &str, keys: &AwsKeys, opening: &mut Opening<'_>) -> Result<Self, String> {
        let sources = match keys {
            AwsKeys::Document(source) => Sources::Document(opening.open(source)?),
            AwsKeys::Separate { access_key_id, secret_access_key, session_token } => Sources::Separate {
                id: access_key_id.clone(),
                secret: opening.open(secret_access_key)?,
                token: session_token.as_ref().map(|source| opening.open(source)).transpose()?,
            },
        };
        let scope = Scope { region: region.into(), service: service.into() };
        Ok(Self { scope, sources, clock: opening.clock, made: Made::default() })
    }

    async fn keys(&self) -> Result<(Arc<Keys>, u64), Unreadable> {
        match &self.sources {
            Sources::Document(source) => {
                let document = source.read().await?;
                self.made.of(&[&document], || {
                    // The error of the parser is not shown: it may quote the document.
                    let parsed: Document = serde_json::from_slice(document.expose())
                        .map_err(|_| Unreadable("it is not JSON with `AccessKeyId` and `SecretAccessKey`".into()))?;
                    let token = parsed.session_token.as_ref().map(|token| token.as_bytes());
                    Keys::of(parsed.access_key_id, parsed.secret_access_key.as_bytes(), token)
                })
            }
            Sources::Separate { id, secret, token } => {
                let secret = secret.read().await?;
                let token = match token {
                    Some(token) => Some(token.read().await?),
                    None => None,
                };
                let values: Vec<_> = [&secret].into_iter().chain(&token).collect();
                self.made
                    .of(&values, || Keys::of(id.clone(), secret.expose(), token.as_ref().map(|token| token.expose())))
            }
        }
    }
}

impl Keys {
    fn of(id: String, secret: &[u8], token: Option<&[u8]>) -> Result<Arc<Self>, Unreadable> {
        if !id.bytes().all(|b| b.is_ascii_alphanumeric()) || !(1..=128).contains(&id.len()) {
            return Err(Unreadable("its access key id is not 1 to 128 letters and digits".into()));
        }
        let secret = Secret::of(&[secret]).map_err(no_memory)?;
        check_sent(&secret)?;
        let mut values = vec![secret.expose()];
        values.extend(token);
        let scrubber = Scrubber::of(&values).map_err(no_memory)?;
        let token = token.map(|token| {
            check_sent(&Secret::of(&[token]).map_err(no_memory)?)?;
            sensitive(&[token])
        });
        let first = Secret::of(&[b"AWS4", secret.expose()]).map_err(no_memory)?;
        Ok(Arc::new(Self { id, first, token: token.transpose()?, scrubber }))
    }
}

#[async_trait]
impl Attach for Signer {
    fn sets(&self) -> Sets {
        let headers = vec![header::AUTHORIZATION, DATE_HEADER, TOKEN_HEADER, CONTENT_HEADER];
        Sets { headers, parameters: PARAMETERS.map(String::from).into() }
    }

    fn needs_body(&self) -> bool {
        true
    }

    async fn attach(&self, to: &Signing<'_>) -> Result<(Attached, u64), Unreadable> {
        let (keys, version) = self.keys().await?;
        let headers = sign(&self.scope, &keys, to, (self.clock)())?;
        Ok((Attached { headers, scrubber: keys.scrubber.clone(), ..Attached::default() }, version))
    }

    fn forget(&self) -> bool {
        let read = match &self.sources {
            Sources::Document(source) => source.forget(),
            Sources::Separate { secret, token, .. } => {
                token.iter().fold(secret.forget(), |dropped, token| token.forget() | dropped)
            }
        };
        self.made.forget() | read
    }
}

/// Returns the headers that sign a request.
fn sign(
    scope: &Scope,
    keys: &Keys,
    to: &Signing<'_>,
    now: SystemTime,
) -> Result<Vec<(HeaderName, HeaderValue)>, Unreadable> {
    let time = canonical::time(now);
    let date = &time[..8];
    let content = hex(&Sha256::digest(to.body.unwrap_or_default()));
    let mut own = vec![(DATE_HEADER, marked(&time)?)];
    if let Some(token) = &keys.token {
        own.push((TOKEN_HEADER, token.clone()));
    }
    if scope.is_s3() {
        own.push((CONTENT_HEADER, marked(&content)?));
    }
    let request = canonical::request(to, &own, &content, scope.is_s3());
    let reach = format!("{date}/{}/{}/aws4_request", scope.region, scope.service);
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{reach}\n{}", hex(&Sha256::digest(&request.text)));
    let mut key = Zeroizing::new(mac(keys.first.expose(), date.as_bytes()));
    for part in [&scope.region, &scope.service, "aws4_request"] {
        key = Zeroizing::new(mac(&*key, part.as_bytes()));
    }
    let signature = hex(&mac(&*key, text.as_bytes()));
    let (id, signed) = (&keys.id, request.signed);
    let value = format!("AWS4-HMAC-SHA256 Credential={id}/{reach}, SignedHeaders={signed}, Signature={signature}");
    own.push((header::AUTHORIZATION, marked(&value)?));
    Ok(own)
}
