//! How credentials reach token servers and vaults: over the same egress as everything else, to where the operator says.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use ipnet::IpNet;

use crate::{
    credentials::{Fetch, Fetched, FetchedReply, REPLY_BYTES_MAX, REPLY_TIME_MAX},
    egress::{Attachment, Egress, Outgoing, Piece, RawRequest, Request, Route, Rule},
};

/// Sends the daemon's own requests. Its connections carry nobody else's.
pub struct OwnRequests {
    pub egress: Egress,
}

#[async_trait]
impl Fetch for OwnRequests {
    async fn fetch(&self, request: Fetched) -> Result<FetchedReply, String> {
        let (request, attachment, body) = prepared(request)?;
        let route = route(&request)?;
        let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
        let timeouts = *route.timeouts();
        // A tenant's name is never empty.
        let tenant = String::new();
        let outgoing = Outgoing { tenant, route, request, timeouts, attachment, body, repeatable: false };
        let mut reply = self.egress.send(outgoing).await.map_err(|error| error.to_string())?;
        let mut body = BytesMut::new();
        while let Some(piece) = reply.body.next().await {
            if let Piece::Data(data) = piece.map_err(|error| error.to_string())? {
                body.extend_from_slice(&data);
            }
        }
        Ok(FetchedReply { status: reply.status, body: body.freeze() })
    }
}

/// Returns a request in the one form in which requests are sent. Its headers are secret, and go by the way of those.
fn prepared(request: Fetched) -> Result<(Request, Attachment, Bytes), String> {
    let Fetched { method, url, headers, body } = request;
    let uri: http::Uri = url.parse().map_err(|error| format!("`{url}` is not a URL: {error}"))?;
    let text = |part: Option<&str>| part.unwrap_or_default().to_owned();
    let raw = RawRequest {
        method: method.as_str().into(),
        scheme: text(uri.scheme_str()),
        authority: text(uri.authority().map(|authority| authority.as_str())),
        path_with_query: text(uri.path_and_query().map(|path| path.as_str())),
        headers: Vec::new(),
        body: !body.is_empty(),
    };
    let mut parsed = Request::parse(raw).map_err(|error| format!("`{url}`: {error}"))?;
    parsed.content_length = Some(body.len() as u64).filter(|length| *length > 0);
    let headers = headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    Ok((parsed, Attachment { headers, ..Attachment::default() }, body))
}

/// Returns the route of an operator's own URL: there, and wherever that is.
fn route(request: &Request) -> Result<Route, String> {
    let bad = |error: &dyn std::fmt::Display| error.to_string();
    let everywhere = ["0.0.0.0/0", "::/0"].map(str::parse::<IpNet>);
    let cidrs = everywhere.into_iter().collect::<Result<_, _>>().map_err(|error| bad(&error))?;
    let text = serde_json::json!({
        "name": "credentials", "scheme": request.scheme, "host": request.host, "port": request.port,
        "methods": [request.method.as_str()], "request_bytes": REPLY_BYTES_MAX, "response_bytes": REPLY_BYTES_MAX,
        "timeouts": { "total_ms": REPLY_TIME_MAX.as_millis() as u64 },
    });
    let rule: Rule = serde_json::from_value(text).map_err(|error| bad(&error))?;
    Ok(Route::of(&Rule { cidrs, ..rule }))
}
