//! `palisade workspace`.

use std::{
    fs::File,
    io::{Write as _, stdout},
};

use palisade_proto::v1::{self, put_file_request::Message};
use serde_json::json;

use super::{Client, Common, Failure, arguments::Workspace, component::chunks, print};

/// Runs a subcommand.
pub async fn workspace(command: Workspace, common: &Common) -> Result<(), Failure> {
    let client = Client::connect(common, Vec::new()).await?;
    let name = |id: &str| print::resource("workspaces", id);
    match command {
        Workspace::Create { id, bytes, entries } => {
            let request = v1::CreateWorkspaceRequest {
                workspace_id: id.unwrap_or_default(),
                quota_bytes: bytes,
                quota_entries: entries,
            };
            let workspace = client.workspaces().create_workspace(request).await?.into_inner();
            show(common, &[&workspace])?;
        }
        Workspace::List => list(&client, common).await?,
        Workspace::Delete { id } => {
            client.workspaces().delete_workspace(v1::DeleteWorkspaceRequest { name: name(&id) }).await?;
        }
        Workspace::Put { id, file, path } => {
            let opened = File::open(&file)
                .map_err(|e| Failure::new(Failure::NOT_FOUND, format!("cannot read `{}`: {e}", file.display())))?;
            let own_name = || file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let header = v1::PutFileHeader { workspace: name(&id), path: path.unwrap_or_else(own_name) };
            let first = v1::PutFileRequest { message: Some(Message::Header(header)) };
            let requests = chunks(opened, first, |chunk| v1::PutFileRequest { message: Some(Message::Chunk(chunk)) });
            let put = client.workspaces().put_file(requests).await?.into_inner();
            print::rows(common, FILE, &[&put], file_row)?;
        }
        Workspace::Get { id, path } => {
            let request = v1::GetFileRequest { workspace: name(&id), path };
            let mut chunks = client.workspaces().get_file(request).await?.into_inner();
            while let Some(response) = chunks.message().await? {
                stdout().write_all(&response.chunk)?;
            }
            stdout().flush()?;
        }
        Workspace::Files { id, path } => {
            let request = v1::ListFilesRequest { workspace: name(&id), path };
            let mut listed = client.workspaces().list_files(request).await?.into_inner();
            let mut files = Vec::new();
            while let Some(file) = listed.message().await? {
                files.push(file);
            }
            print::rows(common, FILE, &files.iter().collect::<Vec<_>>(), file_row)?;
        }
    }
    client.close().await
}

async fn list(client: &Client, common: &Common) -> Result<(), Failure> {
    let mut workspaces = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListWorkspacesRequest { page_size: 1000, page_token };
        let page = client.workspaces().list_workspaces(request).await?.into_inner();
        workspaces.extend(page.workspaces);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    show(common, &workspaces.iter().collect::<Vec<_>>())
}

fn show(common: &Common, workspaces: &[&v1::Workspace]) -> Result<(), Failure> {
    print::rows(common, &["workspace", "bytes", "of", "entries", "of"], workspaces, |w| {
        let cells = [w.used_bytes, w.quota_bytes, w.used_entries, w.quota_entries].map(|n| n.to_string());
        let json = json!({
            "name": w.name,
            "used_bytes": w.used_bytes,
            "quota_bytes": w.quota_bytes,
            "used_entries": w.used_entries,
            "quota_entries": w.quota_entries,
        });
        (std::iter::once(w.name.clone()).chain(cells).collect(), json)
    })?;
    Ok(())
}

const FILE: &[&str] = &["path", "type", "bytes"];

fn file_row(file: &v1::File) -> (Vec<String>, serde_json::Value) {
    let kind = file.r#type().as_str_name().to_lowercase();
    let json = json!({ "path": file.path, "type": kind, "size_bytes": file.size_bytes });
    (vec![print::safe(&file.path), kind, file.size_bytes.to_string()], json)
}
