//! A value that is sent as it is: bearer, basic, a header, a query parameter.

use std::sync::Arc;

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderName, header};
use zeroize::Zeroizing;

use super::{Attach, Attached, Sets, Signing, check_sent, made::Made, no_memory, sensitive};
use crate::credentials::{
    percent,
    scrub::Scrubber,
    secret::Secret,
    source::{Read, Unreadable},
};

/// A credential that is the same for every request.
pub struct Plain {
    source: Arc<dyn Read>,
    way: Way,
    made: Made<Attached>,
}

enum Way {
    Header { name: HeaderName, prefix: String },
    Basic { username: String },
    Query { parameter: String },
}

impl Plain {
    /// `authorization: Bearer <value>`
    pub fn bearer(source: Arc<dyn Read>) -> Self {
        Self::header(header::AUTHORIZATION, "Bearer ".into(), source)
    }

    /// `<name>: <prefix><value>`
    pub fn header(name: HeaderName, prefix: String, source: Arc<dyn Read>) -> Self {
        Self { source, way: Way::Header { name, prefix }, made: Made::default() }
    }

    /// `authorization: Basic <username:value>`
    pub fn basic(username: String, source: Arc<dyn Read>) -> Self {
        Self { source, way: Way::Basic { username }, made: Made::default() }
    }

    /// `?<parameter>=<value>`
    pub fn query(parameter: String, source: Arc<dyn Read>) -> Self {
        Self { source, way: Way::Query { parameter }, made: Made::default() }
    }

    fn make(&self, value: &Secret) -> Result<Attached, Unreadable> {
        check_sent(value)?;
        let mut attached = Attached::default();
        let token;
        let mut values = vec![value.expose()];
        match &self.way {
            Way::Header { name, prefix } => {
                attached.headers = vec![(name.clone(), sensitive(&[prefix.as_bytes(), value.expose()])?)];
            }
            Way::Basic { username } => {
                // Checked as a header's value would be: what is inside of base64 is a header's value for the server.
                sensitive(&[value.expose()])?;
                token = basic(username.as_bytes(), value.expose()).map_err(no_memory)?;
                attached.headers = vec![(header::AUTHORIZATION, sensitive(&[b"Basic ", token.expose()])?)];
                values.push(token.expose());
            }
            Way::Query { parameter } => {
                let name = percent::encode(parameter.as_bytes(), b"");
                let value = percent::encode(value.expose(), b"");
                let mut query = String::with_capacity(name.len() + 1 + value.len());
                query.extend([name.as_str(), "=", value.as_str()]);
                attached.query = Some(Arc::new(Zeroizing::new(query)));
            }
        }
        attached.scrubber = Scrubber::of(&values).map_err(no_memory)?;
        Ok(attached)
    }
}

#[async_trait]
impl Attach for Plain {
    fn sets(&self) -> Sets {
        match &self.way {
            Way::Header { name, .. } => Sets::header(name.clone()),
            Way::Basic { .. } => Sets::header(header::AUTHORIZATION),
            Way::Query { parameter } => Sets { headers: Vec::new(), parameters: vec![parameter.clone()] },
        }
    }

    async fn attach(&self, _to: &Signing<'_>) -> Result<(Attached, u64), Unreadable> {
        let value = self.source.read().await?;
        self.made.of(&[&value], || self.make(&value))
    }

    fn forget(&self) -> bool {
        self.source.forget() | self.made.forget()
    }
}

/// Returns the token of HTTP's basic authentication.
pub fn basic(username: &[u8], password: &[u8]) -> std::io::Result<Secret> {
    let pair = Secret::of(&[username, b":", password])?;
    let mut token = Secret::blank(pair.expose().len().div_ceil(3) * 4)?;
    STANDARD.encode_slice(pair.expose(), token.expose_mut()).map_err(std::io::Error::other)?;
    Ok(token)
}
