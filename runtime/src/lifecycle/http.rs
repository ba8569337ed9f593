//! The http power: a request leaves to where a rule lets it, as it was judged, and with a credential that its guest never
//! sees. This file decides; `exchange` does.

use http::HeaderMap;
use serde_json::{Value, json};

use super::{
    act::{cut, refused},
    denial::{invalid, unavailable},
    exchange,
    execution::Execution,
    standing::Standing,
};
use crate::{
    config::Mode,
    egress::{RawRequest, Request, Route},
    policy::RequestFacts,
    step::{CallError, Denial, Effect, HttpRequest, Name, Patience},
    telemetry::Span,
};

pub use exchange::perform;

/// A request that may be sent, if policy says so.
pub struct Sending {
    pub request: Request,
    pub route: Route,
    pub patience: Patience,
    /// What policy sees of it.
    pub facts: RequestFacts,
    /// What an enforcing daemon would have said: the daemon observes, and no grant has it.
    pub lacking: Option<Denial>,
    /// What is asked, in words, and the name of the decision about it.
    pub words: String,
    pub decision: String,
    pub standing: Standing,
}

impl Sending {
    /// Returns the bytes that leave before the body.
    pub fn head_bytes(&self) -> u64 {
        let request = &self.request;
        let query = request.query.as_ref().map_or(0, String::len);
        let line = request.method.as_str().len() + request.authority().len() + request.path.len() + query;
        let headers: usize =
            request.headers.iter().map(|(name, value)| name.as_str().len() + value.as_bytes().len()).sum();
        (line + headers) as u64
    }

    pub fn effect(&self) -> Effect {
        self.facts.effect
    }

    /// Returns the name of the rule that admits it.
    pub fn rule(&self) -> &str {
        &self.facts.rule
    }

    /// Returns the name of the credential that it will carry; empty if it carries none.
    pub fn credential(&self) -> &str {
        &self.facts.credential
    }

    /// Returns whether its rule is still what it was.
    pub fn still_has_its_rule(&self, execution: &Execution) -> bool {
        let Some(agent) = execution.step.agent.as_deref() else { return false };
        let given = if self.lacking.is_some() { execution.lifecycle.tenant_routes() } else { Vec::new() };
        let routes = execution.lifecycle.routes(agent);
        routes.iter().chain(&given).any(|route| route.revision() == self.route.revision())
    }

    /// Refuses trailers that are not the guest's to set.
    pub fn check_trailers(&self, execution: &Execution, trailers: &HeaderMap) -> Result<(), CallError> {
        check_own_headers(execution, &self.route, trailers, None, &self.decision)
    }

    /// Denies a request whose credential was revoked.
    pub fn revoked(&self, credential: &Name) -> CallError {
        let message = format!("the credential `{credential}` is revoked");
        CallError::Denied(refused("CREDENTIAL_REVOKED", message, "credentials", None, &self.decision))
    }

    /// Denies a request to a name that stands for an address that is not dialled.
    pub fn forbidden(&self, message: String) -> CallError {
        let rule = format!("egress.{}.cidrs", self.rule());
        CallError::Denied(refused("ADDRESS_FORBIDDEN", message, &rule, None, &self.decision))
    }
}

/// Returns what a guest asks, for people. Its query may be what nobody else should see.
pub fn in_words(request: &HttpRequest) -> String {
    let path = request.path_with_query.split(['?', '#']).next().unwrap_or_default();
    format!("{} {}://{}{}", cut(&request.method), cut(&request.scheme), cut(&request.authority), cut(path))
}

/// Starts the span of a request.
pub fn span(execution: &Execution, request: &HttpRequest) -> Span {
    let default = if request.scheme == "http" { 80 } else { 443 };
    let (host, port) = request.authority.rsplit_once(':').unwrap_or((&request.authority, ""));
    let telemetry = execution.lifecycle.telemetry();
    telemetry.request(&execution.context, &request.method, &cut(host), port.parse().unwrap_or(default))
}

/// Reads a request, once and for all, and finds the rule that admits it.
pub fn resolve(
    execution: &Execution,
    asked: HttpRequest,
    decision: &str,
    about: &mut Value,
) -> Result<Sending, CallError> {
    about["verb"] = json!(cut(&asked.method));
    let HttpRequest { method, scheme, authority, path_with_query, headers, has_body, patience } = asked;
    let raw = RawRequest { method, scheme, authority, path_with_query, headers, body: has_body };
    let request = Request::parse(raw).map_err(|error| invalid("REQUEST_INVALID", error.to_string()))?;
    describe(&request, &execution.lifecycle.config().journal.redact, about);
    let standing = Standing::now(execution);
    let (route, lacking) = find(execution, &request, decision)?;
    let facts = facts(&request, &route);
    about["rule"] = json!(facts.rule);
    about["revision"] = json!(route.revision());
    about["effect"] = json!(facts.effect.as_str());
    about["credential"] = json!(route.credential());
    about["labels"] = json!(facts.labels);
    if !execution.grant.effects.contains(&facts.effect) {
        let message = format!("{} has an effect that this daemon allows to nobody", words(&request));
        return Err(CallError::Denied(refused("ABOVE_CEILING", message, "ceiling.effects", None, decision)));
    }
    check_own_headers(execution, &route, &request.headers, request.query.as_deref(), decision)?;
    let (words, decision) = (words(&request), decision.to_owned());
    Ok(Sending { request, route, patience, facts, lacking, words, decision, standing })
}

/// Bytes of the names of headers that a record lists.
const NAMES_BYTES_MAX: usize = 1 << 10;

/// Says in a record what is asked: of headers their names, of a query what may be kept of it.
fn describe(request: &Request, redact: &[String], about: &mut Value) {
    let mut names: Vec<&str> = request.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    let mut bytes = 0;
    names.retain(|name| {
        bytes += name.len();
        bytes <= NAMES_BYTES_MAX
    });
    about["url"] = json!(cut(&request.url()));
    about["host"] = json!(request.host.to_string());
    about["path"] = json!(cut(&request.path));
    about["query"] = json!(request.query.as_deref().map(|query| cut(&redacted(query, redact))));
    about["headers"] = json!(names);
    about["content_type"] = json!(request.content_type.as_deref().map(cut));
    about["content_length"] = json!(request.content_length.map(|length| length.to_string()));
}

/// Returns a query without the values of keys that are not to be kept.
fn redacted(query: &str, redact: &[String]) -> String {
    let parts = query.split('&').map(|part| match part.split_once('=') {
        Some((key, _)) if redact.iter().any(|hidden| hidden.eq_ignore_ascii_case(key)) => format!("{key}=[redacted]"),
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("&")
}

/// Returns the first route of the guest that admits a request.
fn find(execution: &Execution, request: &Request, decision: &str) -> Result<(Route, Option<Denial>), CallError> {
    let routes = match execution.step.agent.as_deref() {
        Some(agent) => execution.lifecycle.routes(agent),
        None => [].into(),
    };
    let granted = |route: &&Route| execution.grant.egress.contains(route.rule());
    if let Some(route) = routes.iter().filter(granted).find(|route| route.admits(request).is_ok()) {
        return Ok((route.clone(), None));
    }
    let narrowed = routes.iter().find(|route| route.admits(request).is_ok());
    let denial = match narrowed {
        Some(route) => {
            let rule = if execution.via.is_empty() { "request.narrow.egress" } else { "manifest.tool.egress" };
            let message = format!("the egress rule `{}` is left out for this step or tool", route.rule());
            refused("NARROWED", message, rule, None, decision)
        }
        None => not_in_manifest(execution, request, routes.iter().filter(granted), decision),
    };
    // Who observes wants to learn what the agent does; what no rule of the tenant gives stays shut, and no credential goes
    // along that no grant names.
    let observes = execution.lifecycle.config().policy.mode == Mode::Observe && execution.step.agent.is_some();
    if observes {
        let given = execution.lifecycle.tenant_routes().into_iter().find(|route| route.admits(request).is_ok());
        if let Some(route) = given {
            return Ok((route, Some(denial)));
        }
    }
    Err(CallError::Denied(denial))
}

fn not_in_manifest<'a>(
    execution: &Execution,
    request: &Request,
    routes: impl Iterator<Item = &'a Route>,
    decision: &str,
) -> Denial {
    let Some(agent) = &execution.step.agent else {
        let message = "a component that runs without an agent can send no request".into();
        return refused("NOT_IN_MANIFEST", message, "manifest.egress", None, decision);
    };
    let asked = words(request);
    let nearest = routes.filter_map(|route| Some((route, route.admits(request).err()?)));
    let nearest = nearest.max_by_key(|(_, mismatch)| mismatch.nearness());
    let Some((route, mismatch)) = nearest else {
        let message = format!("{asked} is within no egress rule of {}: it has none", agent.reference());
        return refused("NOT_IN_MANIFEST", message, "manifest.egress", None, decision);
    };
    let message = format!("{asked} is within no egress rule of {}; by the nearest, {mismatch}", agent.reference());
    let alternative = Some(format!("the egress rule `{}` allows {}", route.rule(), route.in_words()));
    let mut denial = refused("NOT_IN_MANIFEST", message, "manifest.egress", alternative, decision);
    denial.missing = vec![mismatch.to_string()];
    denial
}

fn facts(request: &Request, route: &Route) -> RequestFacts {
    RequestFacts {
        method: request.method.as_str().into(),
        scheme: request.scheme.as_str().into(),
        host: request.host.to_string(),
        port: request.port,
        path: request.path.clone(),
        query: request.query.clone().unwrap_or_default(),
        content_type: request.content_type.clone().unwrap_or_default(),
        rule: route.rule().to_string(),
        effect: route.effect(&request.method),
        credential: route.credential().map(ToString::to_string).unwrap_or_default(),
        labels: route.labels().iter().map(ToString::to_string).collect(),
    }
}

/// Headers that take a part of a response, by which a credential in it could come in pieces. Apache knows the second.
const RANGES: [&str; 2] = ["range", "request-range"];

/// Refuses headers, or trailers, that are not the guest's to set: the idempotency key; and where a credential goes along,
/// one of its own, which is confused or tries something.
fn check_own_headers(
    execution: &Execution,
    route: &Route,
    headers: &HeaderMap,
    query: Option<&str>,
    decision: &str,
) -> Result<(), CallError> {
    // To many servers an underscore is a hyphen.
    let has = |name: &str| headers.keys().any(|header| header.as_str().replace('_', "-") == name);
    if let Some(header) = route.idempotency_header().filter(|header| has(header.as_str())) {
        let message = format!("the header `{header}` is filled by the daemon, by the egress rule `{}`", route.rule());
        return Err(invalid("REQUEST_INVALID", message));
    }
    let Some(credential) = route.credential() else { return Ok(()) };
    if let Some(range) = RANGES.into_iter().find(|range| has(range)) {
        let message = format!("a request that carries a credential takes the whole of a response: leave `{range}` out");
        return Err(invalid("REQUEST_INVALID", message));
    }
    let own = execution.lifecycle.credentials().clash(credential.as_str(), headers, query);
    let Some(own) = own else { return Ok(()) };
    let message = format!("the request brings {own} of its own, and the daemon attaches the credential `{credential}`");
    let alternative = Some(format!("the same request without {own} is sent with the credential"));
    let denial = refused("CREDENTIAL_SUPPLIED", message, "manifest.egress.credential", alternative, decision);
    Err(CallError::Denied(denial))
}

/// Counts a request against the rates of its route, at every level that has one. Innermost first: an agent whose own rate
/// is used up takes nothing from others.
pub fn count(execution: &Execution, route: &Route) -> Result<(), CallError> {
    let levels: Vec<_> = lanes(execution, route).zip(route.rates()).collect();
    for (lane, rate) in levels.into_iter().rev() {
        let Some(rate) = rate else { continue };
        execution.lifecycle.traffic().count(&lane, *rate).map_err(|too_often| {
            let (requests, seconds) = (too_often.rate.requests, too_often.rate.seconds);
            let wait = too_often.wait.as_millis().div_ceil(1000);
            let rule = route.rule();
            let message = format!(
                "the egress rule `{rule}` allows `rate` = {requests} requests in {seconds} s: wait {wait} s and retry"
            );
            unavailable("RATE_LIMITED", message)
        })?;
    }
    Ok(())
}

/// Returns the lanes of a route: everybody's, the tenant's, the agent's.
pub fn lanes<'a>(execution: &'a Execution, route: &'a Route) -> impl Iterator<Item = String> + 'a {
    // Versions of an agent can set different numbers.
    let agent = execution.step.agent.as_ref().map(|agent| agent.reference()).unwrap_or_default();
    ["all".to_owned(), "tenant".to_owned(), format!("agent/{agent}")]
        .into_iter()
        .map(|level| format!("{level}/{}", route.rule()))
}

fn words(request: &Request) -> String {
    format!("{} {}", request.method, cut(&request.url()))
}
