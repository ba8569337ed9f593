//! `palisade component`.

use std::{fs::File, io::Read, path::Path};

use palisade_proto::v1::{self, push_component_request::Message};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Client, Common, Failure, arguments::Component, print};
use crate::wire::CHUNK_BYTES_MAX;

/// Runs a subcommand.
pub async fn component(command: Component, common: &Common) -> Result<(), Failure> {
    let client = Client::connect(common, Vec::new()).await?;
    match command {
        Component::Push { file, alias, digest } => {
            let component = push(&client, &file, alias, digest).await?;
            print::rows(common, &["component", "kind", "bytes", "aliases"], &[&component], print::component)?;
        }
        Component::List => list(&client, common).await?,
        Component::Inspect { component } => {
            let request = v1::InspectComponentRequest { name: component };
            let inspection = client.components().inspect_component(request).await?.into_inner();
            print::inspection(common, &inspection)?;
        }
        Component::Delete { component } => {
            client.components().delete_component(v1::DeleteComponentRequest { name: component }).await?;
        }
    }
    client.close().await
}

/// Pushes a file.
pub async fn push(
    client: &Client,
    file: &Path,
    alias: Option<String>,
    digest: Option<String>,
) -> Result<v1::Component, Failure> {
    let unreadable = |e| Failure::new(Failure::NOT_FOUND, format!("cannot read `{}`: {e}", file.display()));
    let file = File::open(file).map_err(unreadable)?;
    let header = v1::PushHeader { alias: alias.unwrap_or_default(), digest: digest.unwrap_or_default() };
    let first = v1::PushComponentRequest { message: Some(Message::Header(header)) };
    let requests = chunks(file, first, |chunk| v1::PushComponentRequest { message: Some(Message::Chunk(chunk)) });
    Ok(client.components().push_component(requests).await?.into_inner())
}

/// Returns `first` and then a file in chunks, as fast as they are taken.
pub fn chunks<T: Send + 'static>(
    mut file: impl Read + Send + 'static,
    first: T,
    of_chunk: impl Fn(Vec<u8>) -> T + Send + 'static,
) -> ReceiverStream<T> {
    let (sender, requests) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        let mut next = Some(first);
        while let Some(request) = next {
            if sender.blocking_send(request).is_err() {
                return;
            }
            let mut chunk = vec![0; CHUNK_BYTES_MAX];
            // A file that cannot be read to its end is a short one; the daemon finds it invalid.
            let read = file.read(&mut chunk).unwrap_or(0);
            chunk.truncate(read);
            next = (read > 0).then(|| of_chunk(chunk));
        }
    });
    ReceiverStream::new(requests)
}

async fn list(client: &Client, common: &Common) -> Result<(), Failure> {
    let mut components = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListComponentsRequest { page_size: 1000, page_token };
        let page = client.components().list_components(request).await?.into_inner();
        components.extend(page.components);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let components: Vec<_> = components.iter().collect();
    print::rows(common, &["component", "kind", "bytes", "aliases"], &components, print::component)?;
    Ok(())
}

/// Returns a component as JSON.
pub fn to_json(component: &v1::Component) -> serde_json::Value {
    json!({
        "name": component.name,
        "digest": component.digest,
        "aliases": component.aliases,
        "kind": component.kind().as_str_name().to_lowercase(),
        "size_bytes": component.size_bytes,
    })
}
