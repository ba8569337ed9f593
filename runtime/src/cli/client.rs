//! Talks to a daemon: the one at `--endpoint`, or one that runs inside this command as the same user.

use std::{path::PathBuf, time::Duration};

use palisade_proto::v1::{
    agents_client::AgentsClient, audit_client::AuditClient, components_client::ComponentsClient,
    control_client::ControlClient, credentials_client::CredentialsClient, policies_client::PoliciesClient,
    steps_client::StepsClient, system_client::SystemClient, tools_client::ToolsClient,
    workspaces_client::WorkspacesClient,
};
use tokio::time::{Instant, sleep};
use tonic::{
    Request, Status,
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use super::{Common, Failure};
use crate::{
    config::{Config, Mount},
    serve::{Daemon, ServeError},
    store::DataDirError,
};

/// How long to wait for another command's daemon to release the data directory.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);

/// Messages are at most 4 MiB; the library's default for receiving is the same.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// A connection, and the daemon behind it if it is our own.
pub struct Client {
    channel: Line,
    embedded: Option<Embedded>,
}

/// The way to the daemon. Every request says for which tenant it is, if the command was told.
type Line = InterceptedService<Channel, Said>;

#[derive(Clone)]
pub struct Said(Option<AsciiMetadataValue>);

struct Embedded {
    daemon: Daemon,
    _socket_dir: tempfile::TempDir,
}

impl Client {
    /// Connects. `mounts` are directories for a daemon of our own.
    pub async fn connect(common: &Common, mounts: Vec<Mount>) -> Result<Self, Failure> {
        match &common.endpoint {
            Some(_) if common.policies.is_some() => {
                Err(Failure::usage("a daemon at --endpoint decides by its own policies: leave --policies out"))
            }
            Some(endpoint) => {
                let channel = InterceptedService::new(connect(endpoint).await?, Said::new(common)?);
                Ok(Self { channel, embedded: None })
            }
            None if common.tenant.is_some() => {
                Err(Failure::usage("--tenant needs --endpoint: the command's own daemon has one tenant"))
            }
            None => {
                let embedded = embed(common, mounts).await?;
                let endpoint = embedded.daemon.addresses().first().cloned().unwrap_or_default();
                let channel = InterceptedService::new(connect(&endpoint).await?, Said(None));
                Ok(Self { channel, embedded: Some(embedded) })
            }
        }
    }

    pub fn steps(&self) -> StepsClient<Line> {
        StepsClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub fn components(&self) -> ComponentsClient<Line> {
        ComponentsClient::new(self.channel.clone())
    }

    pub fn workspaces(&self) -> WorkspacesClient<Line> {
        WorkspacesClient::new(self.channel.clone())
    }

    pub fn system(&self) -> SystemClient<Line> {
        SystemClient::new(self.channel.clone())
    }

    pub fn agents(&self) -> AgentsClient<Line> {
        AgentsClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub fn tools(&self) -> ToolsClient<Line> {
        ToolsClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub fn policies(&self) -> PoliciesClient<Line> {
        PoliciesClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub fn credentials(&self) -> CredentialsClient<Line> {
        CredentialsClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub fn control(&self) -> ControlClient<Line> {
        ControlClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub fn audit(&self) -> AuditClient<Line> {
        AuditClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Closes after something was done with it, also if that failed: a daemon of our own still has a journal to sign.
    pub async fn finish<T>(self, done: Result<T, Failure>) -> Result<T, Failure> {
        let closed = self.close().await;
        let done = done?;
        closed.map(|()| done)
    }

    /// Ends the connection, and the daemon if it is our own.
    pub async fn close(self) -> Result<(), Failure> {
        drop(self.channel);
        match self.embedded {
            Some(embedded) => embedded.daemon.serve_until(async {}).await.map_err(Failure::other),
            None => Ok(()),
        }
    }
}

impl Said {
    fn new(common: &Common) -> Result<Self, Failure> {
        let tenant = common.tenant.as_ref().map(|tenant| tenant.parse()).transpose();
        Ok(Self(tenant.map_err(|_| Failure::usage("--tenant is not the name of a tenant"))?))
    }
}

impl Interceptor for Said {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(tenant) = &self.0 {
            request.metadata_mut().insert("palisade-tenant", tenant.clone());
        }
        Ok(request)
    }
}

async fn connect(endpoint: &str) -> Result<Channel, Failure> {
    let unreachable = |e: tonic::transport::Error| {
        let cause = std::error::Error::source(&e).map(|source| format!(": {source}")).unwrap_or_default();
        Failure::new(
            Failure::UNAVAILABLE,
            format!("no daemon answers at `{endpoint}`{cause}; start one with `palisade serve`"),
        )
    };
    let address = Endpoint::from_shared(endpoint.to_owned()).map_err(|_| {
        Failure::usage(format!("`{endpoint}` is not an address: use `unix:/path` or `http://127.0.0.1:port`"))
    })?;
    address.connect_timeout(Duration::from_secs(10)).connect().await.map_err(unreachable)
}

async fn embed(common: &Common, mounts: Vec<Mount>) -> Result<Embedded, Failure> {
    let socket_dir = tempfile::Builder::new().prefix("palisade-").tempdir()?;
    let mut config = Config { data_dir: data_dir(common)?, mounts, ..Config::default() };
    config.listen.socket = socket_dir.path().join("palisade.sock");
    // It runs what one command asks.
    config.workers.spares = 0;
    if let Some(dir) = &common.policies {
        if !dir.is_dir() {
            return Err(Failure::new(
                Failure::NOT_FOUND,
                format!("`{}` is not a directory of policies", dir.display()),
            ));
        }
        config.policy.dir = Some(std::path::absolute(dir)?);
    }
    let deadline = Instant::now() + LOCK_PATIENCE;
    let mut said = false;
    loop {
        match Daemon::start(config.clone(), &|name| std::env::var(name).ok()).await {
            Ok(daemon) => return Ok(Embedded { daemon, _socket_dir: socket_dir }),
            // Another command of the same user, as a rule: it is over soon.
            Err(ServeError::DataDir(DataDirError::InUse { .. })) if Instant::now() < deadline => {
                if !said && !common.quiet {
                    eprintln!("waiting for another palisade that uses `{}` …", config.data_dir.display());
                    said = true;
                }
                sleep(Duration::from_millis(100)).await;
            }
            Err(error @ ServeError::Policy(_)) => return Err(Failure::usage(error)),
            Err(error) => return Err(Failure::new(Failure::UNAVAILABLE, error)),
        }
    }
}

fn data_dir(common: &Common) -> Result<PathBuf, Failure> {
    if let Some(dir) = &common.data_dir {
        return std::path::absolute(dir).map_err(Failure::other);
    }
    let data_home = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    match data_home.or_else(home) {
        Some(dir) => Ok(dir.join("palisade")),
        None => Err(Failure::usage("there is no $HOME: say where to keep components with --data-dir")),
    }
}
