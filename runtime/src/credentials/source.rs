//! Where values come from.

mod exec;
mod file;
#[cfg(test)]
mod tests;
mod vault;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use zeroize::Zeroize;

use super::{
    cache::Clock,
    config::{self, VaultAuth},
    fetch::Fetch,
    secret::Secret,
};
use vault::Session;

/// Bytes of a value.
pub const VALUE_BYTES_MAX: usize = 64 << 10;

/// Looks a variable of the environment up.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// A value that cannot be read now, in words for the operator: paths and names, never a value.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

/// Reads one value, as often as it is needed.
#[async_trait]
pub trait Read: Send + Sync {
    /// Returns the value of now. As long as it is the same, it is the same `Arc`.
    async fn read(&self) -> Result<Arc<Secret>, Unreadable>;
    /// Drops what is kept, if it can be read again. Returns whether there was something.
    fn forget(&self) -> bool;
}

/// What sources are opened with.
pub struct Opening<'a> {
    pub env: Env<'a>,
    pub fetch: Arc<dyn Fetch>,
    pub clock: Clock,
    /// Logins that several sources share.
    sessions: Vec<(config::Vault, Arc<Session>)>,
}

impl<'a> Opening<'a> {
    /// Starts to open sources.
    pub fn new(env: Env<'a>, fetch: Arc<dyn Fetch>, clock: Clock) -> Self {
        Self { env, fetch, clock, sessions: Vec::new() }
    }

    /// Opens a source that was checked. Reads variables and nothing else. The error is in words.
    pub fn open(&mut self, source: &config::Source) -> Result<Arc<dyn Read>, String> {
        Ok(match source {
            config::Source::File(path) => Arc::new(file::File::new(path.clone(), self.is_guarded(path))),
            config::Source::Env(variable) => Arc::new(Variable(Arc::new(self.variable(variable)?))),
            config::Source::Systemd(name) => {
                let directory = self.credentials_directory().ok_or("`$CREDENTIALS_DIRECTORY` is not set")?;
                Arc::new(file::File::new(directory.join(name), true))
            }
            config::Source::Exec(exec) => Arc::new(exec::Program::new(exec.clone(), self.clock)),
            config::Source::Vault(vault) => {
                let session = self.session(vault)?;
                Arc::new(vault::Field::new((**vault).clone(), session, self.clock))
            }
        })
    }

    fn session(&mut self, vault: &config::Vault) -> Result<Arc<Session>, String> {
        let same = |(other, _): &&(config::Vault, Arc<Session>)| {
            (&other.address, &other.namespace, &other.auth) == (&vault.address, &vault.namespace, &vault.auth)
        };
        if let Some((_, session)) = self.sessions.iter().find(same) {
            return Ok(session.clone());
        }
        let (VaultAuth::Token(source) | VaultAuth::Approle { secret_id: source, .. } | VaultAuth::Jwt { source, .. }) =
            &vault.auth;
        let source = self.open(source)?;
        let session = Arc::new(Session::new(vault.clone(), source, self.fetch.clone(), self.clock));
        self.sessions.push((vault.clone(), session.clone()));
        Ok(session)
    }

    fn variable(&self, variable: &str) -> Result<Secret, String> {
        let value = (self.env)(variable).ok_or_else(|| format!("the variable `{variable}` is not set"))?;
        let mut value = value.into_encoded_bytes();
        let secret = value_of(&value).map_err(|why| format!("the variable `{variable}` {why}"));
        value.zeroize();
        secret
    }

    fn is_guarded(&self, path: &Path) -> bool {
        let guarded = [Some("/run/secrets".into()), Some("/var/run/secrets".into()), self.credentials_directory()];
        guarded.into_iter().flatten().any(|directory| path.starts_with(directory))
    }

    fn credentials_directory(&self) -> Option<PathBuf> {
        (self.env)("CREDENTIALS_DIRECTORY").map(PathBuf::from).filter(|path| path.is_absolute())
    }
}

/// A variable, as it was at start.
struct Variable(Arc<Secret>);

#[async_trait]
impl Read for Variable {
    async fn read(&self) -> Result<Arc<Secret>, Unreadable> {
        Ok(self.0.clone())
    }

    fn forget(&self) -> bool {
        false
    }
}

/// Returns what was read without one newline at the end. The error continues a sentence about the source.
fn value_of(bytes: &[u8]) -> Result<Secret, String> {
    let bytes = bytes.strip_suffix(b"\n").map_or(bytes, |line| line.strip_suffix(b"\r").unwrap_or(line));
    match bytes.len() {
        0 => Err("is empty".into()),
        len if len > VALUE_BYTES_MAX => Err(format!("has more than {VALUE_BYTES_MAX} bytes")),
        _ => Secret::of(&[bytes]).map_err(|e| format!("cannot be kept in memory: {e}")),
    }
}

/// Returns the old value if the new one is the same.
fn keep(old: Option<Arc<Secret>>, new: Secret) -> Arc<Secret> {
    old.filter(|old| old.same(&new)).unwrap_or_else(|| Arc::new(new))
}
