//! `Workspaces`: directories that outlive a step, and the files in them.

use std::{io::Read as _, pin::Pin};

use cap_std::fs::Dir;
use futures::{Stream, stream};
use palisade_proto::v1::{self, put_file_request::Message, workspaces_server::Workspaces};
use tokio::{
    sync::{Semaphore, mpsc},
    task::{JoinError, spawn_blocking},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use super::{
    callers,
    components::{bad_page_token, page_size},
    convert, status, upload,
};
use crate::{
    lifecycle::{Lifecycle, Tenant},
    step::{Name, Quota},
    store::{
        self, WorkspaceError, random_id,
        workspace_files::{self, FileEntry, FileKind, Upload},
    },
};

/// Bytes of one chunk of a download.
const DOWNLOAD_CHUNK_BYTES: usize = 64 << 10;

/// Serves `palisade.v1.Workspaces`.
pub struct Service(pub Lifecycle);

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Workspaces for Service {
    async fn create_workspace(
        &self,
        request: Request<v1::CreateWorkspaceRequest>,
    ) -> Result<Response<v1::Workspace>, Status> {
        let tenant = callers::tenant(&self.0, &request)?;
        let request = request.into_inner();
        let limits = &self.0.config().limits;
        let quota = Quota {
            bytes: limits.workspace_bytes.grant("quota_bytes", request.quota_bytes).map_err(status::limit)?,
            entries: limits.workspace_entries.grant("quota_entries", request.quota_entries).map_err(status::limit)?,
        };
        let id = if request.workspace_id.is_empty() { format!("w{}", random_id()) } else { request.workspace_id };
        let name: Name = id
            .parse()
            .map_err(|e: crate::step::BadName| status::bad_field("FIELD_INVALID", "workspace_id", e.to_string()))?;
        let workspaces = tenant.workspaces.clone();
        let workspace = blocking(move || workspaces.create(name, quota)).await?;
        described(&tenant, workspace).await.map(Response::new)
    }

    async fn list_workspaces(
        &self,
        request: Request<v1::ListWorkspacesRequest>,
    ) -> Result<Response<v1::ListWorkspacesResponse>, Status> {
        let tenant = callers::tenant(&self.0, &request)?;
        let request = request.into_inner();
        let count = page_size(request.page_size)?;
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(token.parse::<Name>().map_err(|_| bad_page_token())?),
        };
        let found = tenant.workspaces.list(after, count);
        let next_page_token = match found.last() {
            Some(last) if found.len() == count => last.name.to_string(),
            _ => String::new(),
        };
        let mut workspaces = Vec::new();
        for workspace in found {
            // One that was deleted meanwhile is not listed.
            match described(&tenant, workspace).await {
                Err(gone) if gone.code() == Code::NotFound => {}
                found => workspaces.push(found?),
            }
        }
        Ok(Response::new(v1::ListWorkspacesResponse { workspaces, next_page_token }))
    }

    async fn delete_workspace(&self, request: Request<v1::DeleteWorkspaceRequest>) -> Result<Response<()>, Status> {
        let tenant = callers::tenant(&self.0, &request)?;
        let (workspaces, name) = (tenant.workspaces.clone(), request.into_inner().name);
        blocking(move || workspaces.delete(&name)).await?;
        Ok(Response::new(()))
    }

    async fn put_file(&self, request: Request<Streaming<v1::PutFileRequest>>) -> Result<Response<v1::File>, Status> {
        let tenant = callers::tenant(&self.0, &request)?;
        let mut messages = request.into_inner();
        let header = upload::header(upload::next(&mut messages).await?.and_then(|m| match m.message {
            Some(Message::Header(header)) => Some(header),
            _ => None,
        }))?;
        let workspaces = tenant.workspaces.clone();
        let mut file = blocking(move || {
            let workspace = workspaces.find(&header.workspace)?;
            Upload::begin(workspaces.lease(&workspace.name)?, &header.path, workspaces.spool())
        })
        .await?;
        while let Some(message) = upload::next(&mut messages).await? {
            let chunk = upload::chunk(match message.message {
                Some(Message::Chunk(chunk)) => Some(chunk),
                _ => None,
            })?;
            file = blocking(move || file.write(&chunk).map(|()| file)).await?;
        }
        let entry = blocking(move || file.finish()).await?;
        Ok(Response::new(to_file(entry)))
    }

    type GetFileStream = Responses<v1::GetFileResponse>;

    async fn get_file(&self, request: Request<v1::GetFileRequest>) -> Result<Response<Self::GetFileStream>, Status> {
        let tenant = callers::tenant(&self.0, &request)?;
        let v1::GetFileRequest { workspace, path } = request.into_inner();
        let file = blocking(move || workspace_files::open(&root(&tenant, &workspace)?, &path)).await?;
        // Each chunk is read when it is asked for: a caller that does not take it holds no thread.
        Ok(Response::new(Box::pin(stream::unfold(Some(file), async |file| {
            let mut file = file?;
            let read = blocking(move || {
                let mut chunk = vec![0; DOWNLOAD_CHUNK_BYTES];
                let read = file.read(&mut chunk)?;
                chunk.truncate(read);
                Ok((chunk, file))
            });
            match read.await {
                Ok((chunk, _)) if chunk.is_empty() => None,
                Ok((chunk, file)) => Some((Ok(v1::GetFileResponse { chunk }), Some(file))),
                Err(status) => Some((Err(status), None)),
            }
        }))))
    }

    type ListFilesStream = Responses<v1::File>;

    async fn list_files(
        &self,
        request: Request<v1::ListFilesRequest>,
    ) -> Result<Response<Self::ListFilesStream>, Status> {
        let tenant = callers::tenant(&self.0, &request)?;
        let v1::ListFilesRequest { workspace, path } = request.into_inner();
        let root = blocking(move || root(&tenant, &workspace)).await?;
        Ok(Response::new(streamed(move |send| workspace_files::list(&root, &path, &mut |entry| send(to_file(entry))))))
    }
}

async fn described(tenant: &Tenant, workspace: store::Workspace) -> Result<v1::Workspace, Status> {
    let (workspaces, name, quota) = (tenant.workspaces.clone(), workspace.name.clone(), workspace.quota);
    let used = blocking(move || match workspace_files::used(&workspaces.dir(&name)?) {
        // Nothing can be added to it any more, and the list of the others is of use.
        Err(WorkspaceError::TooDeep(_)) => Ok(quota),
        used => used,
    })
    .await?;
    Ok(v1::Workspace {
        name: format!("workspaces/{}", workspace.name),
        create_time: Some(workspace.create_time.into()),
        quota_bytes: convert::int(workspace.quota.bytes),
        quota_entries: convert::int(workspace.quota.entries),
        used_bytes: convert::int(used.bytes),
        used_entries: convert::int(used.entries),
    })
}

fn root(tenant: &Tenant, reference: &str) -> Result<Dir, WorkspaceError> {
    let workspace = tenant.workspaces.find(reference)?;
    tenant.workspaces.dir(&workspace.name)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, WorkspaceError> + Send + 'static,
) -> Result<T, Status> {
    let done = spawn_blocking(work).await;
    done.map_err(|e: JoinError| WorkspaceError::Io(e.into())).flatten().map_err(status::workspace)
}

/// Threads for listings whose callers take their time; more wait.
static LISTINGS: Semaphore = Semaphore::const_new(32);

/// Returns what `produce` sends, as fast as the caller takes it.
fn streamed<T: Send + 'static>(
    produce: impl FnOnce(&mut dyn FnMut(T) -> bool) -> Result<(), WorkspaceError> + Send + 'static,
) -> Responses<T> {
    let (sender, received) = mpsc::channel(16);
    let listing = move || {
        let mut send = |item| sender.blocking_send(Ok(item)).is_ok();
        if let Err(error) = produce(&mut send) {
            let _ = sender.blocking_send(Err(status::workspace(error))); // fails if the caller hung up
        }
    };
    tokio::spawn(async move {
        let _place = LISTINGS.acquire().await;
        spawn_blocking(listing).await
    });
    Box::pin(ReceiverStream::new(received))
}

fn to_file(entry: FileEntry) -> v1::File {
    let kind = match entry.kind {
        FileKind::Regular => v1::file::Type::Regular,
        FileKind::Directory => v1::file::Type::Directory,
        FileKind::SymbolicLink => v1::file::Type::SymbolicLink,
    };
    v1::File { path: entry.path, r#type: kind.into(), size_bytes: convert::int(entry.bytes) }
}
