//! All credentials, by name.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use http::HeaderMap;
use serde::Serialize;

use super::{
    attach::{self, Attach, AttachError, Attached, Signing},
    cache::Clock,
    check::{self, BadCredential},
    config::CredentialConfig,
    fetch::Fetch,
    source::{Env, Opening},
};
use crate::step::Name;

/// Characters of a failure that are kept: some of it is what a network said.
const FAILURE_CHARS_MAX: usize = 500;

/// The credentials of a daemon.
pub struct Credentials {
    entries: BTreeMap<String, Entry>,
    clock: Clock,
}

struct Entry {
    config: CredentialConfig,
    attach: Arc<dyn Attach>,
    revoked: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Default, Clone)]
struct Seen {
    version: u64,
    attached: Option<SystemTime>,
    failure: Option<String>,
}

/// What can be said of a credential.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    pub name: Name,
    /// As in the configuration: `bearer`.
    pub kind: &'static str,
    /// In words: paths, names of variables, programs and servers.
    pub source: String,
    pub labels: Vec<Name>,
    pub revoked: bool,
    /// How often its values changed since the daemon started. 0: they were not read yet.
    pub version: u64,
    /// When it was last attached to a request.
    pub attached: Option<SystemTime>,
    /// Why it could not be attached the last time.
    pub failure: Option<String>,
}

impl Credentials {
    /// Checks the configuration and opens every credential. It reads variables; files, programs and servers are for
    /// the first use.
    pub fn open(
        configs: &[CredentialConfig],
        env: Env<'_>,
        fetch: Arc<dyn Fetch>,
        clock: Clock,
    ) -> Result<Self, BadCredential> {
        check::check(configs)?;
        let mut opening = Opening::new(env, fetch, clock);
        let entries = configs.iter().map(|config| {
            let attach = attach::open(&config.kind, &mut opening);
            let attach = attach.map_err(|why| BadCredential { name: config.name.clone(), why })?;
            let (revoked, seen) = (AtomicBool::default(), Mutex::default());
            Ok((config.name.to_string(), Entry { config: config.clone(), attach, revoked, seen }))
        });
        Ok(Self { entries: entries.collect::<Result<_, _>>()?, clock })
    }

    /// Returns what can be said of each credential, by name.
    pub fn list(&self) -> Vec<Status> {
        let status = |entry: &Entry| {
            let Seen { version, attached, failure } = entry.seen();
            let CredentialConfig { name, labels, kind } = entry.config.clone();
            let revoked = entry.revoked.load(Ordering::Acquire);
            Status { name, kind: kind.word(), source: kind.source(), labels, revoked, version, attached, failure }
        };
        self.entries.values().map(status).collect()
    }

    /// Revokes a credential from the next call on, and drops its values. Returns whether there is one of this name.
    pub fn revoke(&self, name: &str) -> bool {
        let Some(entry) = self.entries.get(name) else { return false };
        entry.revoked.store(true, Ordering::Release);
        entry.attach.forget();
        true
    }

    /// Drops the values of a credential: the next request has them read again. Returns whether there were any.
    pub fn forget(&self, name: &str) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.attach.forget())
    }

    /// Takes a revocation back. Returns whether there is a credential of this name.
    pub fn restore(&self, name: &str) -> bool {
        let Some(entry) = self.entries.get(name) else { return false };
        entry.revoked.store(false, Ordering::Release);
        true
    }

    /// Returns the labels of a credential; none if there is no such credential.
    pub fn labels(&self, name: &str) -> &[Name] {
        self.entries.get(name).map_or(&[], |entry| &entry.config.labels)
    }

    /// Returns whether the whole body must be there before a credential can be attached.
    pub fn needs_body(&self, name: &str) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.attach.needs_body())
    }

    /// Returns what a guest's request has of its own that a credential sets, in words, or any `authorization`.
    pub fn clash(&self, name: &str, headers: &HeaderMap, query: Option<&str>) -> Option<String> {
        self.entries.get(name)?.attach.sets().clash(headers, query)
    }

    /// Returns what a credential puts on a request, with its values of now. Asks its sources, and may take as long as
    /// they do.
    pub async fn attach(&self, name: &str, to: &Signing<'_>) -> Result<Attached, AttachError> {
        let unknown = || AttachError::Unknown(name.chars().take(80).collect());
        let entry = self.entries.get(name).ok_or_else(unknown)?;
        entry.check_revoked()?;
        let name = || entry.config.name.clone();
        if let Some(what) = entry.attach.sets().clash(to.headers, to.query) {
            return Err(AttachError::Clash { name: name(), what });
        }
        let attached = entry.attach.attach(to).await;
        // It may have been revoked while a source was asked.
        entry.check_revoked()?;
        let mut seen = entry.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match attached {
            Ok((attached, version)) => {
                *seen = Seen { version, attached: Some((self.clock)()), failure: None };
                Ok(attached)
            }
            Err(why) => {
                let why: String = why.0.chars().take(FAILURE_CHARS_MAX).collect();
                seen.failure = Some(why.clone());
                Err(AttachError::Unavailable { name: name(), why })
            }
        }
    }
}

impl Entry {
    fn check_revoked(&self) -> Result<(), AttachError> {
        if self.revoked.load(Ordering::Acquire) {
            // What was read meanwhile must not stay.
            self.attach.forget();
            return Err(AttachError::Revoked(self.config.name.clone()));
        }
        Ok(())
    }

    fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
