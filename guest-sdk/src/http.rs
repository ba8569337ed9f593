//! Sends HTTP requests: those that the agent's manifest names a rule for and that policy allows.
//!
//! ```no_run
//! use palisade_guest::{Error, http};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize)]
//! struct Comment<'a> {
//!     body: &'a str,
//! }
//!
//! #[derive(Deserialize)]
//! struct Issue {
//!     title: String,
//! }
//!
//! fn welcome() -> Result<(), Error> {
//!     let issue = "https://api.example.com/repos/acme/site/issues/7";
//!     let title = http::get(issue)?.error_for_status()?.json::<Issue>()?.title;
//!     let comment = Comment { body: &format!("We look into “{title}”.") };
//!     http::post(format!("{issue}/comments")).json(&comment)?.send()?.error_for_status()?;
//!     Ok(())
//! }
//! ```
//!
//! A credential is nothing that a step knows: if the rule has one, the host attaches it. A refusal says why:
//!
//! ```no_run
//! use palisade_guest::{events, http};
//!
//! match http::get("https://example.com/") {
//!     Ok(response) => events::info!("answered", status = response.status()),
//!     Err(http::Error::Denied(denial)) => events::warn!(denial.message, code = denial.code),
//!     Err(error) => events::error!(error),
//! }
//! ```
//!
//! Each call blocks. Redirects are answers like any other and are not followed. Bodies that are large, or that are not
//! there yet, need not be in memory: [`Request::send_streaming`] and [`Response::reader`].
//!
//! Any other client for WASI 0.2 works as well; [`why`] has the reason that it cannot tell. Outside the sandbox there is no network: each
//! request answers [`Error::Unavailable`] with the code `OUTSIDE_SANDBOX`.

mod error;
#[cfg(target_arch = "wasm32")]
mod inside;
#[cfg(not(target_arch = "wasm32"))]
mod outside;
mod request;
mod response;
#[cfg(test)]
mod tests;
mod url;

#[cfg(target_arch = "wasm32")]
use self::inside as host;
#[cfg(not(target_arch = "wasm32"))]
use self::outside as host;

pub use error::Error;
pub use request::Request;
pub use response::Response;

/// Returns why the last request of this step that failed did, whichever client made it: ask right after it failed.
/// `None` if none failed, or if it did not get as far as to the host.
pub fn why() -> Option<crate::CallError> {
    host::why()
}

/// Sends a GET request. For headers and the like, send a [`Request`].
pub fn get(url: impl Into<String>) -> Result<Response, Error> {
    Request::new("GET", url).send()
}

/// Returns a POST request, to be filled and sent.
pub fn post(url: impl Into<String>) -> Request {
    Request::new("POST", url)
}
