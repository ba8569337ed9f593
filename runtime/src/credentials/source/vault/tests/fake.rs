//! A vault, as far as it is used here. What it answers was compared with OpenBao 2.7.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use http::Method;
use serde_json::{Value, json};

use crate::credentials::{Fetch, Fetched, FetchedReply, tests::now};

/// One role, with one policy: it may read `app/*`.
pub struct Fake {
    root: &'static str,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    requests: Vec<String>,
    /// Versions, and whether each is deleted.
    secrets: HashMap<String, Vec<(Value, bool)>>,
    tokens: HashMap<String, Token>,
    /// How often a secret id may be used still.
    secret_ids: HashMap<String, u64>,
    role: Value,
    issued: u64,
}

struct Token {
    since: SystemTime,
    until: SystemTime,
}

const TTL: Duration = Duration::from_secs(60);
const MAX_TTL: Duration = Duration::from_secs(100);

impl Fake {
    pub fn new(root: &'static str) -> Self {
        Self { root, state: Mutex::default() }
    }

    /// Returns how often a path was asked for.
    pub fn count(&self, path: &str) -> usize {
        self.state.lock().unwrap().requests.iter().filter(|request| *request == path).count()
    }
}

#[async_trait]
impl Fetch for Fake {
    async fn fetch(&self, request: Fetched) -> Result<FetchedReply, String> {
        assert!(request.method != Method::GET || request.body.is_empty());
        let path = request.url.strip_prefix("https://vault.example.com/v1/").unwrap();
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let token = request.headers.get("x-vault-token").map(|token| token.to_str().unwrap());
        let mut state = self.state.lock().unwrap();
        state.requests.push(path.into());
        let answered = match token {
            Some(token) if token == self.root => state.admin(&request.method, path, &body),
            Some(token) => state.read(path, token),
            None => state.login(path, &body),
        };
        let (status, body) = answered.unwrap_or_else(|status| (status, json!({ "errors": [] })));
        Ok(FetchedReply { status, body: body.to_string().into() })
    }
}

type Answered = Result<(u16, Value), u16>;

impl State {
    fn admin(&mut self, method: &Method, path: &str, body: &Value) -> Answered {
        if let Some(secret) = path.strip_prefix("secret/data/") {
            return match *method {
                Method::GET => self.secret(secret),
                Method::DELETE => {
                    self.secrets.get_mut(secret).ok_or(404_u16)?.last_mut().ok_or(404_u16)?.1 = true;
                    Ok((204, Value::Null))
                }
                _ => {
                    self.secrets.entry(secret.into()).or_default().push((body["data"].clone(), false));
                    Ok((200, json!({})))
                }
            };
        }
        if let Some(secret) = path.strip_prefix("secret/undelete/") {
            for version in body["versions"].as_array().unwrap() {
                self.secrets.get_mut(secret).unwrap()[version.as_u64().unwrap() as usize - 1].1 = false;
            }
            return Ok((204, Value::Null));
        }
        match path {
            "sys/policies/acl/app" => Ok((204, Value::Null)),
            "auth/approle/role/app" => {
                self.role = body.clone();
                Ok((204, Value::Null))
            }
            "auth/approle/role/app/role-id" => Ok((200, json!({ "data": { "role_id": "the-role" } }))),
            "auth/approle/role/app/secret-id" => {
                let id = self.name("secret-id");
                let uses = self.role["secret_id_num_uses"].as_u64().filter(|uses| *uses > 0);
                self.secret_ids.insert(id.clone(), uses.unwrap_or(u64::MAX));
                Ok((200, json!({ "data": { "secret_id": id } })))
            }
            "sys/leases/revoke-prefix/auth/approle/login" => {
                self.tokens.clear();
                Ok((204, Value::Null))
            }
            _ => Err(404),
        }
    }

    fn login(&mut self, path: &str, body: &Value) -> Answered {
        match path {
            "auth/approle/login" => {
                let uses = self.secret_ids.get_mut(body["secret_id"].as_str().unwrap_or_default()).ok_or(400_u16)?;
                if *uses == 0 || body["role_id"] != "the-role" {
                    return Err(400);
                }
                *uses -= 1;
            }
            "auth/kubernetes/login" if *body == json!({ "role": "agent", "jwt": "header.payload.signature" }) => {}
            _ => return Err(403),
        }
        let token = self.name("token");
        self.tokens.insert(token.clone(), Token { since: now(), until: now() + TTL });
        Ok((200, auth(&token, TTL)))
    }

    fn read(&mut self, path: &str, token: &str) -> Answered {
        let of = self.tokens.get_mut(token).filter(|token| now() < token.until).ok_or(403_u16)?;
        if path == "auth/token/renew-self" {
            of.until = (now() + TTL).min(of.since + MAX_TTL);
            return Ok((200, auth(token, of.until.duration_since(now()).unwrap())));
        }
        let secret = path.strip_prefix("secret/data/").filter(|secret| secret.starts_with("app/"));
        self.secret(secret.ok_or(403_u16)?)
    }

    fn secret(&self, path: &str) -> Answered {
        let versions = self.secrets.get(path).ok_or(404_u16)?;
        let (data, deleted) = versions.last().ok_or(404_u16)?;
        let metadata = json!({ "version": versions.len(), "destroyed": false, "custom_metadata": null });
        let data = if *deleted { &Value::Null } else { data };
        let status = if *deleted { 404 } else { 200 };
        Ok((status, json!({ "request_id": "1", "auth": null, "data": { "data": data, "metadata": metadata } })))
    }

    fn name(&mut self, what: &str) -> String {
        self.issued += 1;
        format!("a-{what}-{}", self.issued)
    }
}

fn auth(token: &str, life: Duration) -> Value {
    let auth = json!({
        "client_token": token, "accessor": "a", "policies": ["app"], "lease_duration": life.as_secs(), "renewable": true,
    });
    json!({ "request_id": "1", "data": null, "auth": auth })
}
