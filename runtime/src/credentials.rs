//! Credentials: named in the configuration, read from where they are kept, put on requests, and scrubbed from answers.
//!
//! A value is in the pages of a [`Secret`] from the moment that it was read. It is attached after the decision, to the
//! request that was decided, and goes to the pinned connection. Nothing here writes a value into an error or a log.

mod attach;
mod cache;
mod check;
mod config;
mod fetch;
mod percent;
mod scrub;
mod secret;
mod source;
mod store;
#[cfg(test)]
mod tests;

pub use attach::{AttachError, Attached, ClientIdentity, Signing};
pub use cache::Clock;
pub use check::{BadCredential, check};
pub use config::{AwsKeys, ClientAuthentication, CredentialConfig, Exec, HmacHeaders, Kind, Source, Vault, VaultAuth};
pub use fetch::{Fetch, Fetched, FetchedReply, REPLY_BYTES_MAX, REPLY_TIME_MAX};
pub use scrub::{Scrub, Scrubber};
pub use secret::Secret;
pub use source::Env;
pub use store::{Credentials, Status};
