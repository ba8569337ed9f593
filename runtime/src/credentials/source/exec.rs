//! A value that a program prints.

use std::{borrow::Cow, process::Stdio, sync::Arc, time::Duration};

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::{
    io::AsyncReadExt,
    process::{Child, Command},
};

use super::{Read, Unreadable, VALUE_BYTES_MAX, keep, value_of};
use crate::{
    credentials::{
        cache::{Cache, Clock, Fresh},
        config::Exec,
        secret::Secret,
    },
    spawn,
};

/// Where the programs that the program calls are.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Bytes that a program may print: a value, escaped as JSON.
const OUTPUT_BYTES_MAX: usize = VALUE_BYTES_MAX + (4 << 10);

/// A program, and what it printed last.
pub struct Program {
    exec: Exec,
    cache: Cache<Secret>,
}

/// What a program may print instead of the value alone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Printed<'a> {
    #[serde(borrow)]
    value: Cow<'a, str>,
    /// Seconds.
    expires_in: Option<u64>,
}

impl Program {
    /// Returns the source. The command is not empty.
    pub fn new(exec: Exec, clock: Clock) -> Self {
        Self { exec, cache: Cache::new(clock) }
    }

    async fn run(&self) -> Result<Fresh<Secret>, Unreadable> {
        let timeout = Duration::from_millis(self.exec.timeout_ms);
        let printed = match tokio::time::timeout(timeout, self.output()).await {
            Ok(Ok(printed)) => printed,
            Ok(Err(why)) => return Err(self.because(&why)),
            Err(_) => {
                return Err(self.because(&format!("took longer than its `timeout_ms` of {}", timeout.as_millis())));
            }
        };
        let (value, life) =
            self.understand(&printed).map_err(|why| self.because(&format!("printed a value that {why}")))?;
        Ok(Fresh { value: keep(self.cache.last(), value), life, renew: life })
    }

    async fn output(&self) -> Result<Secret, String> {
        let mut command = Command::new(&self.exec.command[0]);
        command.args(&self.exec.command[1..]).env_clear().env("PATH", PATH).current_dir("/").process_group(0);
        // What it says in case of trouble may hold the value.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let child = spawn::spawn(command).await.map_err(|e| format!("cannot be started: {e}"))?;
        let mut running = Running(child);
        let mut output = Secret::blank(OUTPUT_BYTES_MAX + 1).map_err(|e| format!("has no memory: {e}"))?;
        let mut len = 0;
        if let Some(mut stdout) = running.0.stdout.take() {
            loop {
                match stdout.read(&mut output.expose_mut()[len..]).await {
                    Ok(0) => break,
                    Ok(more) => len += more,
                    Err(e) => return Err(format!("cannot be read: {e}")),
                }
            }
        }
        if len > OUTPUT_BYTES_MAX {
            return Err(format!("printed more than {OUTPUT_BYTES_MAX} bytes"));
        }
        output.truncate(len);
        match running.0.wait().await {
            Ok(status) if status.success() => Ok(output),
            Ok(status) => Err(format!("failed: {status}")),
            Err(e) => Err(format!("cannot be waited for: {e}")),
        }
    }

    fn understand(&self, printed: &Secret) -> Result<(Secret, Duration), String> {
        let cache = Duration::from_millis(self.exec.cache_ms);
        match serde_json::from_slice::<Printed>(printed.expose()) {
            Ok(printed) => {
                let life = printed.expires_in.map_or(cache, Duration::from_secs);
                Ok((value_of(printed.value.as_bytes())?, life))
            }
            Err(_) => Ok((value_of(printed.expose())?, cache)),
        }
    }

    fn because(&self, why: &str) -> Unreadable {
        Unreadable(format!("the program `{}` {why}", self.exec.command[0]))
    }
}

#[async_trait]
impl Read for Program {
    async fn read(&self) -> Result<Arc<Secret>, Unreadable> {
        self.cache.get(self.run()).await
    }

    fn forget(&self) -> bool {
        self.cache.forget()
    }
}

/// A program with all that it started. They die with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // `id` is known until the program was waited for: so it is not another's by now.
        if let Some(group) = self.0.id().and_then(|id| Pid::from_raw(id as i32)) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
