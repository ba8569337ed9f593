//! Headers and trailers: which of them a guest may send, and which of an upstream's it may see.

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING},
};

use super::text::{is_token, shown};

#[cfg(test)]
mod tests;

/// Header fields of a request, and of its trailers.
pub const FIELDS_MAX: usize = 100;

/// Bytes of the names and values of a request's header fields together, and of its trailers.
pub const FIELD_BYTES_MAX: usize = 32 << 10;

/// Headers that belong to the connection, to the daemon, or that make a server take a request for another one: by
/// another host, client, method or path. An underscore counts as a hyphen, as it does for CGI and its kin.
const FORBIDDEN: [&str; 22] = [
    "connection",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy",
    "te",
    "trailer",
    "transfer-encoding",
    "true-client-ip",
    "upgrade",
    "via",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
];
const FORBIDDEN_STARTS: [&str; 3] = ["palisade-", "proxy-", "x-forwarded-"];

/// Headers that hold for one connection only: an upstream's are not the guest's.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers that come too late in a trailer: somebody has acted on the message by then.
const NOT_IN_TRAILERS: [&str; 9] = [
    "authorization",
    "cache-control",
    "cookie",
    "location",
    "max-forwards",
    "range",
    "set-cookie",
    "vary",
    "www-authenticate",
];
const NOT_IN_TRAILERS_STARTS: [&str; 2] = ["content-", "if-"];

/// A header that is not sent, or that makes a message mean two things.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    #[error("there are {0} header fields: at most {FIELDS_MAX} are sent")]
    TooMany(usize),
    #[error("the header fields have {0} bytes: at most {FIELD_BYTES_MAX} are sent")]
    TooLong(usize),
    #[error("`{0}` is not the name of a header")]
    Name(String),
    #[error("the header `{0}` has a value with control characters, or blanks around it")]
    Value(String),
    #[error("the header `{0}` cannot be set: it is the daemon's, or makes a server take the request for another")]
    Forbidden(String),
    #[error("the header `{0}` cannot be a trailer")]
    Trailer(String),
    #[error("the header `{0}` is there more than once")]
    Twice(HeaderName),
    #[error("`content-length` is not one decimal number")]
    Length,
    #[error("`content-type` is not one media type")]
    Type,
    #[error(
        "the body's length is said twice, by `content-length` and `transfer-encoding`, or in a coding other than `chunked`"
    )]
    Framing,
    #[error("the status {0} answers a request that was not made")]
    Status(StatusCode),
}

/// Reads the headers of a guest's request.
pub fn parse(fields: &[(String, Vec<u8>)]) -> Result<HeaderMap, BadHeader> {
    if fields.len() > FIELDS_MAX {
        return Err(BadHeader::TooMany(fields.len()));
    }
    check_bytes(fields.iter().map(|(name, value)| name.len() + value.len()))?;
    let mut headers = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| BadHeader::Name(shown(name)))?;
        if is_forbidden(&name) {
            return Err(BadHeader::Forbidden(shown(name.as_str())));
        }
        headers.append(name.clone(), parse_value(value).ok_or_else(|| BadHeader::Value(shown(name.as_str())))?);
    }
    for single in [AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE] {
        if headers.get_all(&single).iter().nth(1).is_some() {
            return Err(BadHeader::Twice(single));
        }
    }
    Ok(headers)
}

/// Reads the trailers of a guest's request.
pub fn parse_trailers(fields: &[(String, Vec<u8>)]) -> Result<HeaderMap, BadHeader> {
    if fields.len() > FIELDS_MAX {
        return Err(BadHeader::TooMany(fields.len()));
    }
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| BadHeader::Name(shown(name)))?;
        let value = parse_value(value).ok_or_else(|| BadHeader::Value(shown(name.as_str())))?;
        trailers.append(name, value);
    }
    check_trailers(&trailers)?;
    Ok(trailers)
}

/// Refuses trailers of a guest's request: more of them, or others, than a message may end with.
pub fn check_trailers(trailers: &HeaderMap) -> Result<(), BadHeader> {
    if trailers.len() > FIELDS_MAX {
        return Err(BadHeader::TooMany(trailers.len()));
    }
    check_bytes(trailers.iter().map(|(name, value)| name.as_str().len() + value.len()))?;
    for (name, value) in trailers {
        if is_forbidden_trailer(name) {
            return Err(BadHeader::Trailer(shown(name.as_str())));
        }
        if parse_value(value.as_bytes()).is_none() {
            return Err(BadHeader::Value(shown(name.as_str())));
        }
    }
    Ok(())
}

/// Refuses an upstream's response that can be read in two ways, or that switches protocols. Else takes away what holds
/// for the connection only.
pub fn check_response(status: StatusCode, headers: &mut HeaderMap) -> Result<(), BadHeader> {
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(BadHeader::Status(status));
    }
    let length = content_length(headers)?;
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        if length.is_some() || !chunked || codings.next().is_some() {
            return Err(BadHeader::Framing);
        }
    }
    let listed: Vec<HeaderName> = headers.get_all(CONNECTION).iter().flat_map(listed_names).collect();
    for name in listed {
        // An upstream cannot hide what was judged here.
        if name != CONTENT_LENGTH && name != CONTENT_TYPE {
            headers.remove(name);
        }
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    Ok(())
}

/// Takes away the trailers of an upstream's response that a guest could take for more than trailers.
pub fn strip_trailers(trailers: &mut HeaderMap) {
    let forbidden: Vec<HeaderName> = trailers.keys().filter(|name| is_forbidden_trailer(name)).cloned().collect();
    for name in forbidden {
        trailers.remove(name);
    }
}

/// Returns the length that the headers declare.
pub fn content_length(headers: &HeaderMap) -> Result<Option<u64>, BadHeader> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let bytes = value.as_bytes();
    let digits = bytes.iter().all(u8::is_ascii_digit) && (bytes.len() == 1 || !bytes.starts_with(b"0"));
    let length = value.to_str().ok().filter(|_| digits).and_then(|text| text.parse().ok());
    match (length, values.next()) {
        (Some(length), None) => Ok(Some(length)),
        _ => Err(BadHeader::Length),
    }
}

/// Returns the media type that the headers declare, in lower case, without parameters.
pub fn content_type(headers: &HeaderMap) -> Result<Option<String>, BadHeader> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match (value.to_str().ok().and_then(media_type), values.next()) {
        (Some(media_type), None) => Ok(Some(media_type)),
        _ => Err(BadHeader::Type),
    }
}

/// Returns whether a header is not a trailer, nor one that the daemon fills on a rule's word.
pub fn is_forbidden_trailer(name: &HeaderName) -> bool {
    let name = name.as_str().replace('_', "-");
    is_forbidden_text(&name)
        || NOT_IN_TRAILERS.contains(&name.as_str())
        || NOT_IN_TRAILERS_STARTS.iter().any(|start| name.starts_with(start))
}

fn is_forbidden(name: &HeaderName) -> bool {
    is_forbidden_text(&name.as_str().replace('_', "-"))
}

fn is_forbidden_text(name: &str) -> bool {
    FORBIDDEN.contains(&name) || FORBIDDEN_STARTS.iter().any(|start| name.starts_with(start))
}

fn check_bytes(fields: impl Iterator<Item = usize>) -> Result<(), BadHeader> {
    let bytes = fields.fold(0, usize::saturating_add);
    if bytes > FIELD_BYTES_MAX { Err(BadHeader::TooLong(bytes)) } else { Ok(()) }
}

/// Blanks around a value are dropped by whoever receives it: then it is another value.
fn parse_value(value: &[u8]) -> Option<HeaderValue> {
    if value.trim_ascii().len() < value.len() { None } else { HeaderValue::from_bytes(value).ok() }
}

/// Returns what comes before the parameters. A list has a comma, and no one type: some readers take its last.
fn media_type(value: &str) -> Option<String> {
    let essence = value.split(';').next().unwrap_or(value).trim_end();
    let (kind, part) = essence.split_once('/')?;
    let is = |half: &str| !half.is_empty() && half.bytes().all(is_token);
    if is(kind) && is(part) && !value.contains(',') { Some(essence.to_ascii_lowercase()) } else { None }
}

fn listed_names(value: &HeaderValue) -> Vec<HeaderName> {
    let names = value.as_bytes().split(|byte| *byte == b',');
    names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect()
}
