//! HTTP outside the sandbox: there is none.

use super::{Error, Request, Response, request::WriteBody, url::Url};

pub fn exchange(_: &Request, _: &Url<'_>, _: Option<WriteBody<'_>>) -> Result<Response, Error> {
    Err(Error::Unavailable(crate::Error::new("OUTSIDE_SANDBOX", "there is no HTTP outside the sandbox")))
}

pub fn why() -> Option<crate::CallError> {
    None
}
