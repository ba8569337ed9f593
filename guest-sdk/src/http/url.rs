//! Splits a URL into the parts that WASI asks for. What they may hold is for the host to say.

use super::Error;

#[derive(Debug, PartialEq, Eq)]
pub struct Url<'a> {
    pub scheme: &'a str,
    pub authority: &'a str,
    pub path_with_query: String,
}

impl<'a> Url<'a> {
    /// Splits an absolute URL. Its fragment is not sent.
    pub fn split(url: &'a str) -> Result<Self, Error> {
        let parts = url.split_once("://").filter(|(scheme, _)| !scheme.is_empty());
        let (scheme, rest) = parts.ok_or_else(|| invalid("a URL begins with `https://` or `http://`"))?;
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let (authority, path_with_query) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.is_empty() {
            return Err(invalid("a URL has a host after `://`"));
        }
        let slash = if path_with_query.starts_with('/') { "" } else { "/" };
        Ok(Self { scheme, authority, path_with_query: format!("{slash}{path_with_query}") })
    }
}

fn invalid(message: &str) -> Error {
    Error::invalid("URL_INVALID", message)
}
