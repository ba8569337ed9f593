//! Tokens that OAuth 2.0 gives for client credentials: RFC 6749, section 4.4.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, Method, header};
use serde::Deserialize;

use super::{Attach, Attached, Sets, Signing, check_sent, made::Made, no_memory, plain::basic, sensitive};
use crate::credentials::{
    cache::{Cache, Fresh},
    config::{ClientAuthentication, Kind},
    fetch::{self, Fetch, Fetched, FetchedReply, REPLY_BYTES_MAX, REPLY_TIME_MAX},
    percent,
    scrub::Scrubber,
    secret::Secret,
    source::{Opening, Read, Unreadable},
};

/// How long a token is used whose server does not say.
const LIFE: Duration = Duration::from_secs(300);

/// How long before its end a token is not used any more: it must still be good when it arrives.
const MARGIN: Duration = Duration::from_secs(10);

/// What servers answer, by the standard. Anything else is not shown: it could be what was sent.
const ERRORS: [&str; 6] = [
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "unauthorized_client",
    "unsupported_grant_type",
];

/// Gets tokens, and sends them as bearer tokens.
pub struct Client {
    token_url: String,
    client_id: String,
    /// The form without the client's name and secret.
    form: String,
    authentication: ClientAuthentication,
    source: Arc<dyn Read>,
    fetch: Arc<dyn Fetch>,
    tokens: Cache<Secret>,
    made: Made<Attached>,
}

/// What a server answers.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    access_token: Cow<'a, str>,
    token_type: String,
    expires_in: Option<Seconds>,
}

/// Some servers write numbers as texts.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(u64),
    Text(String),
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

impl Client {
    /// Returns the client of `kind`, which is of OAuth, with its secret in `source`.
    pub fn new(kind: &Kind, source: Arc<dyn Read>, opening: &Opening<'_>) -> Result<Self, String> {
        let Kind::OauthClientCredentials { token_url, client_id, scopes, audience, authentication, .. } = kind else {
            return Err("it is not of OAuth".into());
        };
        let mut form = String::from("grant_type=client_credentials");
        if !scopes.is_empty() {
            form = form + "&scope=" + &percent::encode(scopes.join(" ").as_bytes(), b"");
        }
        if let Some(audience) = audience {
            form = form + "&audience=" + &percent::encode(audience.as_bytes(), b"");
        }
        Ok(Self {
            token_url: token_url.clone(),
            client_id: client_id.clone(),
            form,
            authentication: *authentication,
            source,
            fetch: opening.fetch.clone(),
            tokens: Cache::new(opening.clock),
            made: Made::default(),
        })
    }

    async fn token(&self) -> Result<Fresh<Secret>, Unreadable> {
        let secret = self.source.read().await?;
        let asked = self.ask(&secret).await;
        asked.map_err(|why| Unreadable(format!("the token server `{}` {why}", self.token_url)))
    }

    async fn ask(&self, secret: &Secret) -> Result<Fresh<Secret>, String> {
        let request = self.request(secret).map_err(|why| format!("was not asked: {why}"))?;
        let sent = tokio::time::timeout(REPLY_TIME_MAX, self.fetch.fetch(request)).await;
        let reply =
            sent.map_err(|_| "did not answer in time")?.map_err(|why| format!("could not be reached: {why}"))?;
        if reply.status != 200 || reply.body.len() > REPLY_BYTES_MAX {
            return Err(refusal(&reply));
        }
        // The error of the parser is not shown: it may quote the token.
        let answer: Answer = serde_json::from_slice(&reply.body).map_err(|_| "answered with something else")?;
        if !answer.token_type.eq_ignore_ascii_case("bearer") {
            return Err("gave a token that is not of the type `bearer`".into());
        }
        let life = match answer.expires_in {
            None => LIFE,
            Some(Seconds::Number(seconds)) => Duration::from_secs(seconds),
            Some(Seconds::Text(text)) => text.parse().map(Duration::from_secs).unwrap_or(LIFE),
        };
        let token = Secret::of(&[answer.access_token.as_bytes()]).map_err(|e| e.to_string())?;
        check_sent(&token).map_err(|why| format!("gave a token, but {why}"))?;
        Ok(Fresh { value: Arc::new(token), life: life - MARGIN.min(life / 10), renew: life / 4 * 3 })
    }

    fn request(&self, secret: &Secret) -> Result<Fetched, Unreadable> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let id = percent::encode(self.client_id.as_bytes(), b"");
        let secret = percent::encode(secret.expose(), b"");
        let mut form = vec![self.form.as_bytes()];
        match self.authentication {
            ClientAuthentication::Basic => {
                let token = basic(id.as_bytes(), secret.as_bytes()).map_err(no_memory)?;
                headers.insert(header::AUTHORIZATION, sensitive(&[b"Basic ", token.expose()])?);
            }
            ClientAuthentication::Body => {
                form.extend([b"&client_id=", id.as_bytes(), b"&client_secret=", secret.as_bytes()]);
            }
        }
        let body = fetch::body(&form).map_err(no_memory)?;
        Ok(Fetched { method: Method::POST, url: self.token_url.clone(), headers, body })
    }
}

#[async_trait]
impl Attach for Client {
    fn sets(&self) -> Sets {
        Sets::header(header::AUTHORIZATION)
    }

    async fn attach(&self, _to: &Signing<'_>) -> Result<(Attached, u64), Unreadable> {
        let token = self.tokens.get(self.token()).await?;
        self.made.of(&[&token], || {
            let headers = vec![(header::AUTHORIZATION, sensitive(&[b"Bearer ", token.expose()])?)];
            let scrubber = Scrubber::of(&[token.expose()]).map_err(no_memory)?;
            Ok(Attached { headers, scrubber, ..Attached::default() })
        })
    }

    fn forget(&self) -> bool {
        self.source.forget() | self.tokens.forget() | self.made.forget()
    }
}

fn refusal(reply: &FetchedReply) -> String {
    let refusal = serde_json::from_slice::<Refusal>(&reply.body).ok();
    let known = refusal.and_then(|refusal| ERRORS.into_iter().find(|known| *known == refusal.error));
    match known {
        Some(error) => format!("refused: `{error}`"),
        None => format!("answered with status {}", reply.status),
    }
}
