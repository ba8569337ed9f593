//! A rule after every level has narrowed it: what a guest gets.

use std::{fmt::Display, sync::Arc};

use http::{HeaderMap, HeaderName, Method};
use ipnet::IpNet;
use serde::Serialize;

use super::{
    headers,
    narrow::{BadNarrow, Narrow, at_most},
    pattern::{HostPattern, MediaPattern, MethodName, PathPattern},
    request::{Request, Scheme},
    rule::{Rate, Rule, Timeouts},
};
use crate::step::{Digest, Effect, Name};

#[cfg(test)]
mod tests;

/// Where requests may go, and how. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Route(Arc<Levels>);

#[derive(Debug, Clone)]
struct Levels {
    /// With every bound that one level can lower for all: host, methods, bytes, time-outs.
    rule: Rule,
    /// Of every level that has any; one of each must match.
    paths: Vec<Vec<PathPattern>>,
    request_types: Vec<Vec<MediaPattern>>,
    response_types: Vec<Vec<MediaPattern>>,
    rates: Vec<Option<Rate>>,
    concurrencies: Vec<Option<u32>>,
    credential: Option<Name>,
    revision: String,
}

/// Why a route does not admit a request: the first thing that does not fit, of what is looked at in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch<'a> {
    #[error("the host is not `{0}`")]
    Host(&'a HostPattern),
    #[error("the scheme is not `{0}`")]
    Scheme(Scheme),
    #[error("the port is not {0}")]
    Port(u16),
    #[error("the method is not one of {}", few(.0))]
    Method(&'a [MethodName]),
    #[error("the path is none of {}", few(.0))]
    Path(&'a [PathPattern]),
    #[error("the body's `content-type` is none of {}", few(.0))]
    RequestType(&'a [MediaPattern]),
    #[error("the response's `content-type` is none of {}", few(.0))]
    ResponseType(&'a [MediaPattern]),
}

impl Mismatch<'_> {
    /// Returns how much of the request did fit: of several routes, the nearest is worth telling of.
    pub fn nearness(&self) -> u8 {
        match self {
            Self::Host(_) => 0,
            Self::Scheme(_) => 1,
            Self::Port(_) => 2,
            Self::Method(_) => 3,
            Self::Path(_) => 4,
            Self::RequestType(_) => 5,
            Self::ResponseType(_) => 6,
        }
    }
}

impl Route {
    /// Makes a route of a rule that `Rule::check` has passed.
    pub fn of(rule: &Rule) -> Self {
        let some = |types: &Vec<MediaPattern>| if types.is_empty() { vec![] } else { vec![types.clone()] };
        Self(Arc::new(Levels {
            paths: vec![rule.paths.clone()],
            request_types: some(&rule.request_types),
            response_types: some(&rule.response_types),
            rates: vec![Some(rule.rate)],
            concurrencies: vec![Some(rule.concurrency)],
            credential: None,
            revision: revision("", rule),
            rule: rule.clone(),
        }))
    }

    /// Goes one level down: from the rule to the tenant, from there to the agent.
    pub fn narrow(self, by: &Narrow) -> Result<Self, BadNarrow> {
        by.check()?;
        let mut levels = Arc::unwrap_or_clone(self.0);
        let rule = &mut levels.rule;
        if by.rule != rule.name {
            return Err(BadNarrow::OtherRule { asked: by.rule.clone(), rule: rule.name.clone() });
        }
        if let Some(host) = &by.host {
            if !host.within(&rule.host) {
                return Err(BadNarrow::Host { asked: host.clone(), given: rule.host.clone() });
            }
            rule.host = host.clone();
        }
        if let Some(methods) = &by.methods {
            if let Some(asked) = methods.iter().find(|method| !rule.methods.contains(method)) {
                return Err(BadNarrow::Method { asked: asked.clone(), rule: rule.name.clone() });
            }
            rule.methods = methods.clone();
        }
        if let Some(asked) = &by.credential {
            if !rule.credentials.contains(asked) {
                return Err(BadNarrow::Credential { asked: asked.clone(), rule: rule.name.clone() });
            }
            if let Some(given) = levels.credential.filter(|given| given != asked) {
                return Err(BadNarrow::OtherCredential { asked: asked.clone(), given });
            }
            levels.credential = Some(asked.clone());
        }
        rule.request_bytes = at_most("request_bytes", by.request_bytes, rule.request_bytes)?;
        rule.response_bytes = at_most("response_bytes", by.response_bytes, rule.response_bytes)?;
        rule.timeouts = by.timeouts.shorten(rule.timeouts)?;
        levels.paths.extend(by.paths.clone());
        levels.request_types.extend(by.request_types.clone());
        levels.response_types.extend(by.response_types.clone());
        levels.rates.push(by.rate);
        levels.concurrencies.push(by.concurrency);
        levels.revision = revision(&levels.revision, by);
        Ok(Self(Arc::new(levels)))
    }

    /// Returns the route for requests that carry no credential, whichever a level has picked.
    pub fn without_credential(self) -> Self {
        let mut levels = Arc::unwrap_or_clone(self.0);
        levels.credential = None;
        levels.revision = revision(&levels.revision, &"without credential");
        Self(Arc::new(levels))
    }

    /// Returns whether the route is for `request`, or the first thing that does not fit.
    pub fn admits(&self, request: &Request) -> Result<(), Mismatch<'_>> {
        let Levels { rule, paths, request_types, .. } = &*self.0;
        if !rule.host.admits(&request.host) {
            return Err(Mismatch::Host(&rule.host));
        }
        if rule.scheme != request.scheme {
            return Err(Mismatch::Scheme(rule.scheme));
        }
        if rule.port() != request.port {
            return Err(Mismatch::Port(rule.port()));
        }
        if !rule.methods.iter().any(|method| *method.as_method() == request.method) {
            return Err(Mismatch::Method(&rule.methods));
        }
        let level = paths.iter().find(|level| !level.iter().any(|pattern| pattern.admits(&request.path)));
        if let Some(level) = level {
            return Err(Mismatch::Path(level));
        }
        if !request.body && request.content_type.is_none() {
            return Ok(());
        }
        admits_type(request_types, request.content_type.as_deref()).map_err(Mismatch::RequestType)
    }

    /// Returns whether a response that has a body may have these headers.
    pub fn admits_response(&self, headers: &HeaderMap) -> Result<(), Mismatch<'_>> {
        let media_type = headers::content_type(headers).unwrap_or(None);
        admits_type(&self.0.response_types, media_type.as_deref()).map_err(Mismatch::ResponseType)
    }

    /// Returns the name of the rule.
    pub fn rule(&self) -> &Name {
        &self.0.rule.name
    }

    pub fn labels(&self) -> &[Name] {
        &self.0.rule.labels
    }

    /// Returns the credential that requests carry.
    pub fn credential(&self) -> Option<&Name> {
        self.0.credential.as_ref()
    }

    /// Returns what a request with this method does.
    pub fn effect(&self, method: &Method) -> Effect {
        self.0.rule.effect(method)
    }

    pub fn request_bytes(&self) -> u64 {
        self.0.rule.request_bytes
    }

    pub fn response_bytes(&self) -> u64 {
        self.0.rule.response_bytes
    }

    pub fn timeouts(&self) -> &Timeouts {
        &self.0.rule.timeouts
    }

    pub fn idempotency_header(&self) -> Option<&HeaderName> {
        self.0.rule.idempotency_header.as_ref().map(|name| name.as_header())
    }

    /// Returns the special-purpose networks that may be dialled.
    pub fn cidrs(&self) -> &[IpNet] {
        &self.0.rule.cidrs
    }

    /// Returns the rate of every level, the rule's first. All hold, each over what its level covers.
    pub fn rates(&self) -> &[Option<Rate>] {
        &self.0.rates
    }

    /// Returns how many requests may be under way on every level, the rule's first.
    pub fn concurrencies(&self) -> &[Option<u32>] {
        &self.0.concurrencies
    }

    /// Returns 16 hex digits of a digest of what every level says: they change whenever the route can.
    pub fn revision(&self) -> &str {
        &self.0.revision
    }

    /// Returns what the route admits by its last level, a line for each method and path: `GET https://host:443/path`.
    pub fn each_in_words(&self) -> Vec<String> {
        let Levels { rule, paths, .. } = &*self.0;
        let paths = paths.last().map(Vec::as_slice).unwrap_or_default();
        let of = |method| {
            paths.iter().map(move |path| format!("{method} {}://{}:{}{path}", rule.scheme, rule.host, rule.port()))
        };
        rule.methods.iter().flat_map(of).collect()
    }

    /// Returns what the route admits: `GET, HEAD https://api.example.com:443/repos/acme/**`.
    pub fn in_words(&self) -> String {
        let Levels { rule, paths, .. } = &*self.0;
        let paths: Vec<String> = paths.iter().map(|level| list(level)).collect();
        format!("{} {}://{}:{}{}", list(&rule.methods), rule.scheme, rule.host, rule.port(), paths.join(" and "))
    }
}

/// Returns the level that has types, and not this one.
fn admits_type<'a>(levels: &'a [Vec<MediaPattern>], media_type: Option<&str>) -> Result<(), &'a [MediaPattern]> {
    let admits = |level: &&Vec<MediaPattern>| {
        media_type.is_some_and(|media_type| level.iter().any(|pattern| pattern.admits(media_type)))
    };
    levels.iter().find(|level| !admits(level)).map_or(Ok(()), |level| Err(level))
}

/// Chains a level to the levels above it.
fn revision(above: &str, level: &impl Serialize) -> String {
    // Only maps with other keys than texts cannot be written as JSON, and no level has any.
    let text = serde_json::to_string(level).unwrap_or_default();
    let mut hex = Digest::of(format!("{above}\n{text}").as_bytes()).hex();
    hex.truncate(16);
    hex
}

/// Lists so many that a message stays readable.
fn few<T: Display>(items: &[T]) -> String {
    const SHOWN: usize = 8;
    let more = items.len().saturating_sub(SHOWN);
    let shown = list(&items[..items.len() - more]);
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

fn list<T: Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
