//! What is around the agent in its sandbox. `wstd` speaks `wasi:http`, and knows nothing of Palisade.

use std::{env, fs};

use palisade_guest::{CallError, http::why};
use wstd::{
    http::{self, Body, Client, error::Error},
    runtime::block_on,
};

use crate::{Answer, Around, Request, Unsent};

pub struct Sandbox;

impl Around for Sandbox {
    fn send(&mut self, request: &Request) -> Result<Answer, Unsent> {
        let message = message(request).map_err(|error| Unsent::Failed(error.to_string()))?;
        block_on(exchange(message)).map_err(unsent)
    }

    fn file(&mut self, path: &str) -> Result<String, String> {
        fs::read_to_string(path).map_err(|error| error.to_string())
    }

    fn environment(&mut self) -> String {
        // Not `vars`, which panics if one is not UTF-8.
        let lines: Vec<String> =
            env::vars_os().map(|(name, value)| format!("{}={}", name.display(), value.display())).collect();
        lines.join("\n")
    }
}

fn message(request: &Request) -> Result<http::Request<Body>, Error> {
    let mut message = http::Request::builder().method(request.method).uri(&request.url);
    if let Some((name, value)) = &request.header {
        message = message.header(name, value);
    }
    if !request.body.is_empty() {
        message = message.header("content-type", "application/json");
    }
    Ok(message.body(Body::from(request.body.clone()))?)
}

async fn exchange(message: http::Request<Body>) -> Result<Answer, Error> {
    let answer = Client::new().send(message).await?;
    let status = answer.status().as_u16();
    let body = answer.into_body().str_contents().await?.to_owned();
    Ok(Answer { status, body })
}

/// A client of WASI gets an error code and no more. The reason is to be asked for.
fn unsent(error: Error) -> Unsent {
    match why() {
        Some(CallError::Denied(denial)) => Unsent::Denied(denial),
        Some(other) => Unsent::Failed(other.to_string()),
        None => Unsent::Failed(format!("{error:#}")),
    }
}
