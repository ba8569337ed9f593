//! How a request can fail on its way out, and what the guest is told.

use std::{path::PathBuf, time::Duration};

use tokio::time::Instant;

/// Characters of a message: it is told to a guest and recorded, and parts of it come from an upstream.
const MESSAGE_CHARS_MAX: usize = 400;

/// What kind of failure it is. Guests and operators rely on the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The host has no address, or no name server says so.
    DnsFailed,
    /// The host, or one of its addresses, is where nothing may be sent.
    AddressForbidden,
    ConnectFailed,
    /// The upstream did not prove that it is the host, or refused our certificate.
    TlsFailed,
    /// One of the rule's `timeouts` passed.
    HttpTimeout,
    /// What came is not HTTP, or ended too early.
    HttpProtocol,
    RequestTooLarge,
    ResponseTooLarge,
    /// The response is whole, and of a kind that is not let in.
    ResponseRefused,
    /// No connection came free.
    EgressBusy,
    /// The request's body ended early, is not as long as it said, or was given up.
    BodyBroken,
}

impl Code {
    /// Returns the name by which guests know it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DnsFailed => "DNS_FAILED",
            Self::AddressForbidden => "ADDRESS_FORBIDDEN",
            Self::ConnectFailed => "CONNECT_FAILED",
            Self::TlsFailed => "TLS_FAILED",
            Self::HttpTimeout => "HTTP_TIMEOUT",
            Self::HttpProtocol => "HTTP_PROTOCOL",
            Self::RequestTooLarge => "REQUEST_TOO_LARGE",
            Self::ResponseTooLarge => "RESPONSE_TOO_LARGE",
            Self::ResponseRefused => "RESPONSE_REFUSED",
            Self::EgressBusy => "EGRESS_BUSY",
            Self::BodyBroken => "BODY_BROKEN",
        }
    }
}

/// A request that failed. Neither field holds anything of a credential, of the query or of a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct SendError {
    pub code: Code,
    /// Lower case, one line, up to 400 characters; names the limit if one was met.
    pub message: String,
    /// Whether a byte of the request may have reached the upstream. If not, nothing happened there.
    pub sent: bool,
}

impl SendError {
    /// A failure before anything was sent.
    pub(super) fn new(code: Code, message: impl AsRef<str>) -> Self {
        let printable = message.as_ref().chars().map(|c| if c.is_control() { ' ' } else { c });
        Self { code, message: printable.take(MESSAGE_CHARS_MAX).collect(), sent: false }
    }

    /// The same, when something may have been sent.
    pub(super) fn sent(self) -> Self {
        Self { sent: true, ..self }
    }
}

/// A request's body that cannot be had: why, in words. The request is aborted, so that the upstream never takes the part
/// that it has for the whole.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct BodyError(pub String);

/// Why there can be no egress at all.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the name servers of this machine cannot be read, list some in `dns_servers`: {0}")]
    NameServers(String),
    #[error("the resolver does not start: {0}")]
    Resolver(String),
    #[error("`{}` in `ca_files` cannot be read as PEM certificates: {reason}", path.display())]
    CaFile { path: PathBuf, reason: String },
    #[error("TLS does not start: {0}")]
    Tls(#[from] rustls::Error),
}

/// When something must be done, and which limit of the rule says so.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    pub at: Instant,
    limit: &'static str,
    limit_ms: u128,
}

impl Deadline {
    /// The limit `timeouts.<limit>`, from `since` on.
    pub fn new(since: Instant, limit: &'static str, duration: Duration) -> Self {
        Self { at: since + duration, limit, limit_ms: duration.as_millis() }
    }

    /// Returns the one of two that comes first.
    pub fn or(self, other: Self) -> Self {
        if other.at < self.at { other } else { self }
    }

    /// Returns the failure of `what`, which did not end in time.
    pub fn passed(&self, what: &str) -> SendError {
        let Self { limit, limit_ms, .. } = self;
        SendError::new(Code::HttpTimeout, format!("{what} took longer than the limit `timeouts.{limit}` of {limit_ms}"))
    }

    /// Waits for `future` until then.
    pub async fn limit<F: Future>(&self, what: &str, future: F) -> Result<F::Output, SendError> {
        tokio::time::timeout_at(self.at, future).await.map_err(|_| self.passed(what))
    }
}
