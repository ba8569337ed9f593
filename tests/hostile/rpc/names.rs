//! Names, paths and tokens of callers: none leads out of where it belongs, or to what is another's.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use palisade_proto::v1;
use tonic::{Code, Status};

use super::super::siege::Siege;
use crate::harness::{probe, reason};

/// Names that are none.
fn names() -> Vec<String> {
    let mut names: Vec<String> = [
        "",
        "/",
        ".",
        "..",
        "../..",
        "a/b",
        "../../etc/passwd",
        "/etc/passwd",
        "workspaces/../../..",
        "w\0",
        "w\n",
        "W",
        "w.",
        "w/",
        "%2e%2e",
        "..%2f",
        "\\..\\",
        "ｗ",
        "w\u{301}",
        "\u{202e}w",
        "-w",
        "1w",
        "w w",
        "*",
        "default",
        "quotas",
        "con:",
        "file:///etc/passwd",
        "sha256:",
        "sha256:../../etc",
        "~root",
        "$HOME",
        "`id`",
        "{}",
        "null",
    ]
    .map(String::from)
    .into();
    names.extend([64, 255, 4_096, 1 << 20].map(|length| "n".repeat(length)));
    names.push("../".repeat(2_000));
    names
}

/// Paths that are none.
fn paths() -> Vec<String> {
    let mut paths = names();
    // Others are odd names of files, and no more than that.
    paths.retain(|path| path.contains("../") || path.starts_with('/') || path.contains('\0') || path.len() > 4_096);
    paths.extend(["a//b", "a/./b", "a/../../b", "/workspace/a", "a/\0/b"].map(String::from));
    paths.push("d/".repeat(1_000) + "f");
    paths.push("n".repeat(256));
    paths
}

/// Everything around the workspaces: path, inode, mode and content.
fn outside(dir: &Path) -> BTreeMap<PathBuf, (u64, u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut open = vec![
        dir.join("data/aliases"),
        dir.join("data/components"),
        dir.join("data/agents"),
        dir.join("data/tools"),
        dir.join("outside"),
    ];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                open.push(entry.path());
            }
            let content = if metadata.is_file() { fs::read(entry.path()).unwrap() } else { Vec::new() };
            found.insert(entry.path(), (metadata.ino(), metadata.mode(), content));
        }
    }
    found
}

fn refused<T>(result: Result<T, Status>) -> Result<(), String> {
    match result {
        Ok(_) => Err("it was taken".into()),
        Err(status)
            if matches!(
                status.code(),
                Code::InvalidArgument | Code::NotFound | Code::OutOfRange | Code::ResourceExhausted
            ) =>
        {
            Ok(())
        }
        Err(status) => Err(format!("{status:?}")),
    }
}

#[tokio::test]
async fn rpc_09_no_name_or_path_leads_anywhere_else() {
    let mut siege = Siege::lay("").await;
    let dir = siege.daemon.dir.path().to_owned();
    let canary = format!("canary-{:x}", u64::from(std::process::id()).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    fs::create_dir(dir.join("outside")).unwrap();
    fs::write(dir.join("outside/secret"), &canary).unwrap();
    let workspace = |id: &str| v1::CreateWorkspaceRequest { workspace_id: id.into(), ..Default::default() };
    siege.daemon.workspaces().create_workspace(workspace("w")).await.unwrap();
    // Planted by somebody else, inside: no call may go through it.
    let inside = dir.join("data/tenants/default/workspaces/w");
    std::os::unix::fs::symlink(dir.join("outside"), inside.join("link")).unwrap();
    let before = outside(&dir);
    let (mut workspaces, mut components) = (siege.daemon.workspaces(), siege.daemon.components());
    let (mut agents, mut tools, mut steps) = (siege.daemon.agents(), siege.daemon.tools(), siege.daemon.steps());
    let mut held = Vec::new();
    for name in names() {
        let shown: String = name.chars().take(40).collect();
        let full = format!("workspaces/{name}");
        let mut judge = |what: &str, result| held.push((format!("{what} {shown:?}"), result));
        if !["", "default", "quotas", "null"].contains(&name.as_str()) {
            judge("create", refused(workspaces.create_workspace(workspace(&name)).await));
        }
        judge("delete", refused(workspaces.delete_workspace(v1::DeleteWorkspaceRequest { name: full.clone() }).await));
        judge(
            "run in",
            refused(
                steps.run_step(v1::RunStepRequest { workspace: full.clone(), ..probe(serde_json::json!([])) }).await,
            ),
        );
        judge(
            "run",
            refused(steps.run_step(v1::RunStepRequest { component: format!("x{name}"), ..Default::default() }).await),
        );
        judge(
            "component",
            refused(components.get_component(v1::GetComponentRequest { name: format!("components/{name}") }).await),
        );
        judge(
            "delete component",
            refused(
                components.delete_component(v1::DeleteComponentRequest { name: format!("components/{name}") }).await,
            ),
        );
        judge("agent", refused(agents.get_agent(v1::GetAgentRequest { name: format!("agents/{name}") }).await));
        judge("tool", refused(tools.get_tool(v1::GetToolRequest { name: format!("tools/{name}") }).await));
        let get = v1::GetFileRequest { workspace: full, path: "f".into() };
        judge("file of", refused(workspaces.get_file(get).await));
    }
    let mut told = Vec::new();
    let w = || "workspaces/w".to_owned();
    for path in paths().into_iter().chain(["link/secret", "link", "link/", "link/../f"].map(String::from)) {
        let shown: String = path.chars().take(40).collect();
        match workspaces.get_file(v1::GetFileRequest { workspace: w(), path: path.clone() }).await {
            Err(status) => held.push((format!("get {shown:?}"), refused::<()>(Err(status)))),
            Ok(stream) => {
                let mut stream = stream.into_inner();
                let got = loop {
                    match stream.message().await {
                        Ok(Some(piece)) => told.extend_from_slice(&prost::Message::encode_to_vec(&piece)),
                        Ok(None) => break Err("it was given".to_owned()),
                        Err(status) => break refused::<()>(Err(status)),
                    }
                };
                held.push((format!("get {shown:?}"), got));
            }
        }
        let header = v1::PutFileHeader { workspace: w(), path: path.clone() };
        use v1::put_file_request::Message;
        let messages = [Message::Header(header), Message::Chunk(b"overwritten".to_vec())];
        let messages = messages.map(|message| v1::PutFileRequest { message: Some(message) });
        let put = workspaces.put_file(tokio_stream::iter(messages)).await;
        // A link itself is replaced by the file.
        let put = if path == "link" { put.map(drop).map_err(|status| format!("{status:?}")) } else { refused(put) };
        held.push((format!("put {shown:?}"), put));
    }
    let now = outside(&dir);
    held.push(("outside".into(), (now == before).then_some(()).ok_or("something changed".into())));
    let seen = told.windows(canary.len()).any(|bytes| bytes == canary.as_bytes());
    held.push(("canary".into(), (!seen).then_some(()).ok_or("it was read".into())));
    for (name, held) in held {
        siege.judge(&name, held);
    }
    siege.lift(0).await;
}

#[tokio::test]
async fn rpc_09_tokens_of_pages_are_what_a_list_gave() {
    let mut siege = Siege::lay("").await;
    let mut forged: Vec<String> = [
        "garbage",
        "-1",
        "1.5",
        "99999999999999999999",
        "../..",
        "0x10",
        " 1",
        "1 ",
        "\u{663}",
        "sha256:",
        "w\0",
        "'; drop table records; --",
    ]
    .map(String::from)
    .into();
    forged.push("9".repeat(100_000));
    let (mut workspaces, mut components) = (siege.daemon.workspaces(), siege.daemon.components());
    let (mut agents, mut tools, mut audit) = (siege.daemon.agents(), siege.daemon.tools(), siege.daemon.audit());
    let mut held = Vec::new();
    for token in &forged {
        let shown: String = token.chars().take(30).collect();
        let token = || token.clone();
        let lists = [
            (
                "workspaces",
                workspaces
                    .list_workspaces(v1::ListWorkspacesRequest { page_token: token(), page_size: 1 })
                    .await
                    .map(drop),
            ),
            (
                "components",
                components
                    .list_components(v1::ListComponentsRequest { page_token: token(), page_size: 1 })
                    .await
                    .map(drop),
            ),
            ("agents", agents.list_agents(v1::ListAgentsRequest { page_token: token(), page_size: 1 }).await.map(drop)),
            ("tools", tools.list_tools(v1::ListToolsRequest { page_token: token(), page_size: 1 }).await.map(drop)),
            (
                "records",
                audit
                    .list_records(v1::ListRecordsRequest { page_token: token(), page_size: 1, ..Default::default() })
                    .await
                    .map(drop),
            ),
        ];
        for (list, result) in lists {
            // Some words could be the id of a workspace: then the page after it is empty.
            let well = match result {
                Ok(()) if list == "workspaces" && shown == "garbage" => Ok(()),
                Err(status) if status.code() == Code::InvalidArgument && reason(&status) == "FIELD_INVALID" => Ok(()),
                other => Err(format!("{other:?}")),
            };
            held.push((format!("{list} after {shown:?}"), well));
        }
    }
    for size in [-1, i32::MIN] {
        let listed =
            components.list_components(v1::ListComponentsRequest { page_size: size, ..Default::default() }).await;
        held.push((format!("a page of {size}"), refused(listed)));
    }
    let all = components.list_components(v1::ListComponentsRequest { page_size: i32::MAX, ..Default::default() }).await;
    held.push(("a page of everything".into(), all.map(drop).map_err(|status| format!("{status:?}"))));
    for (name, held) in held {
        siege.judge(&name, held);
    }
    siege.lift(0).await;
}
