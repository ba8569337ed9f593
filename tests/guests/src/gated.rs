//! What the probe asks of the host: acts that pass the gate. A refusal is told with all that it says.

use std::{
    io::{self, Read as _},
    time::Duration,
};

use palisade_guest::{CallError, http::Request, memory, memory::PutOptions, tools};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gated {
    /// The names of the tools.
    ListTools,
    /// All that is said of the tools.
    DescribeTools,
    CallTool {
        name: String,
        /// None, if they are left out.
        #[serde(default)]
        arguments: Value,
    },
    /// Arguments as a text, which need not be JSON.
    CallToolRaw {
        name: String,
        arguments: String,
    },
    MemoryGet {
        space: String,
        key: String,
    },
    MemoryPut {
        space: String,
        key: String,
        value: Value,
        ttl_ms: Option<u64>,
        if_version: Option<u64>,
    },
    /// Puts so many bytes, which are no JSON.
    MemoryPutBytes {
        space: String,
        key: String,
        bytes: usize,
    },
    MemoryDelete {
        space: String,
        key: String,
        if_version: Option<u64>,
    },
    /// Every key, page by page.
    MemoryList {
        space: String,
        #[serde(default)]
        prefix: String,
    },
    /// One page, of any size.
    MemoryListPage {
        space: String,
        #[serde(default)]
        prefix: String,
        after: Option<String>,
        limit: u32,
    },
    /// Sends a request with the SDK's client and says the status and the body, or only a status that is not 2xx.
    Fetch {
        #[serde(default = "get")]
        method: String,
        url: String,
        #[serde(default)]
        headers: Vec<(String, String)>,
        body: Option<String>,
        /// Streams so many bytes as the body.
        stream: Option<usize>,
        timeout_ms: Option<u64>,
        /// Bytes of the response at most.
        limit: Option<u64>,
    },
    /// Does an act so many times, or until it is refused.
    Repeat {
        count: u64,
        act: Box<Gated>,
    },
}

impl Gated {
    /// Does it and returns the line of its outcome: `ok: …`, or `error: CODE: message [class; detail: …]`.
    pub fn outcome(self) -> String {
        match self.perform() {
            Ok(said) => format!("ok: {said}"),
            Err(error) => format!("error: {}: {error} [{}]", error.code(), details(&error)),
        }
    }

    fn perform(self) -> Result<String, CallError> {
        Ok(match self {
            Self::ListTools => tools::list()?.into_iter().map(|tool| tool.name).collect::<Vec<_>>().join(" "),
            Self::DescribeTools => format!("{:?}", tools::list()?),
            Self::CallTool { name, arguments } => tools::call::<_, Value>(&name, &arguments)?.to_string(),
            Self::CallToolRaw { name, arguments } => tools::call_raw(&name, &arguments)?,
            Self::MemoryGet { space, key } => match memory::space(space).get_bytes(&key)? {
                None => "none".into(),
                Some(item) => {
                    let text = || String::from_utf8_lossy(&item.value).into_owned().into();
                    let value: Value = serde_json::from_slice(&item.value).unwrap_or_else(|_| text());
                    let expires = item.expires_at.is_some();
                    json!({
                        "value": value, "version": item.version, "written_by": item.written_by,
                        "written_in": item.written_in, "expires": expires,
                    })
                    .to_string()
                }
            },
            Self::MemoryPut { space, key, value, ttl_ms, if_version } => {
                let options = PutOptions { ttl: ttl_ms.map(Duration::from_millis), if_version };
                format!("version {}", memory::space(space).put_with(&key, &value, options)?)
            }
            Self::MemoryPutBytes { space, key, bytes } => {
                let version = memory::space(space).put_bytes(&key, &vec![b'x'; bytes], PutOptions::default())?;
                format!("version {version}")
            }
            Self::MemoryDelete { space, key, if_version } => {
                let space = memory::space(space);
                let deleted = if_version.map_or_else(|| space.delete(&key), |version| space.delete_if(&key, version));
                deleted?.to_string()
            }
            Self::MemoryList { space, prefix } => {
                let space = memory::space(space);
                let keys: Result<Vec<_>, _> =
                    space.list(prefix).map(|listed| Ok::<_, CallError>(listed?.key)).collect();
                keys?.join(" ")
            }
            Self::MemoryListPage { space, prefix, after, limit } => {
                let page = memory::space(space).list_page(&prefix, after.as_deref(), limit)?;
                page.into_iter().map(|listed| listed.key).collect::<Vec<_>>().join(" ")
            }
            Self::Fetch { method, url, headers, body, stream, timeout_ms, limit } => {
                let plain = Request::new(method, url);
                let request = headers.into_iter().fold(plain, |request, (name, value)| request.header(name, value));
                let request = match timeout_ms {
                    Some(timeout) => request.timeout(Duration::from_millis(timeout)),
                    None => request,
                };
                let response = match (body, stream) {
                    (Some(body), _) => request.body(body).send(),
                    (None, None) => request.send(),
                    (None, Some(bytes)) => request.send_streaming(|mut writer| {
                        io::copy(&mut io::repeat(b'x').take(bytes as u64), &mut writer).map(drop)
                    }),
                }?;
                let response = response.error_for_status()?;
                let status = response.status();
                let response = match limit {
                    Some(limit) => response.limit(limit),
                    None => response,
                };
                format!("{status} {}", response.text()?)
            }
            Self::Repeat { count, act } => {
                let mut last = String::new();
                for _ in 0..count {
                    last = act.as_ref().clone().perform()?;
                }
                format!("{count} times, the last: {last}")
            }
        })
    }
}

fn get() -> String {
    "GET".into()
}

fn details(error: &CallError) -> String {
    let (class, details) = match error {
        CallError::Denied(denial) => (
            "denied",
            vec![
                ("rule", denial.rule.clone().unwrap_or_default()),
                ("missing", denial.missing.join(", ")),
                ("alternative", denial.alternative.clone().unwrap_or_default()),
                ("decision", denial.decision.clone()),
            ],
        ),
        CallError::Exhausted(exhaustion) => (
            "exhausted",
            vec![
                ("account", exhaustion.account.clone()),
                ("dimension", exhaustion.dimension.clone()),
                ("limit", exhaustion.limit.to_string()),
                ("left", exhaustion.left.to_string()),
                ("asked", exhaustion.asked.to_string()),
            ],
        ),
        CallError::Invalid(_) => ("invalid", Vec::new()),
        CallError::Failed(_) => ("failed", Vec::new()),
        CallError::Unavailable(_) => ("unavailable", Vec::new()),
    };
    let said = details.into_iter().filter(|(_, value)| !value.is_empty());
    said.fold(class.to_owned(), |line, (name, value)| format!("{line}; {name}: {value}"))
}
