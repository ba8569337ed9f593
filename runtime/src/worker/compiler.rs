//! Compiles components, each in a jailed process of its own that ends with it.

#[cfg(test)]
mod tests;

use std::{path::Path, time::Duration};

use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};

use super::{checks::lacking, line::Line, process::Spawner};
use crate::step::Name;
use crate::wire::{self, CHUNK_BYTES_MAX, Confinement, FromCompiler, Inspection, Refusal, ToCompiler, WireError};

/// Compilations at once: each takes as many processors as there are.
const AT_ONCE: usize = 2;

/// Bounds of one compilation.
#[derive(Debug, Clone, Copy)]
pub struct CompileLimits {
    pub timeout: Duration,
    pub memory_bytes: u64,
    pub artifact_bytes: u64,
    /// Memory of the largest step.
    pub step_memory_bytes: u64,
    /// How long a compilation may wait for others.
    pub patience: Duration,
}

/// Starts compilers.
pub struct Compiler {
    spawner: Spawner,
    terms: Terms,
    line: Line,
}

/// What every compiler is held to.
struct Terms {
    limits: CompileLimits,
    /// Walls without which nothing is compiled.
    required: Vec<&'static str>,
}

/// What a compiler made of a component.
pub struct Compiled {
    pub inspection: Inspection,
    pub engine: String,
}

/// A component that was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("as many compilations of the tenant are under way or wait as may, which is {0}: retry later")]
    LineFull(usize),
    #[error("others were compiled for longer than the limit `queue_timeout_ms` of {0}: retry later")]
    LineTimeout(u64),
    #[error("compiling took more than `compile_timeout_ms` of {0}")]
    Timeout(u64),
    #[error("the compiler was stopped, as a rule by `compile_memory_bytes` or `compile_timeout_ms`: {0}")]
    Died(String),
    #[error("the compiler broke the rules: {0}")]
    Violation(String),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Compiler {
    /// Returns a compiler.
    pub fn new(spawner: Spawner, limits: CompileLimits, required: Vec<&'static str>) -> Self {
        Self { spawner, terms: Terms { limits, required }, line: Line::new(AT_ONCE, limits.patience) }
    }

    /// Compiles the component in `component` for `tenant` and writes its artifact to `artifact`, which is durable on return.
    pub async fn compile(&self, tenant: &Name, component: &Path, artifact: &Path) -> Result<Compiled, CompileError> {
        let limits = &self.terms.limits;
        let _place = self.line.place(tenant).await?;
        let (process, mut socket) = self.spawner.spawn("compile").await?;
        let talk = self.terms.talk(&mut socket, process.confinement(), component, artifact);
        let talked = timeout(limits.timeout, talk).await;
        let end = process.end().await;
        match talked {
            Ok(Err(Talk::Compile(error))) => Err(error),
            Ok(Err(Talk::Wire(WireError::Closed | WireError::Io(_)))) => Err(CompileError::Died(end.to_string())),
            Ok(Err(Talk::Wire(error))) => Err(CompileError::Violation(error.to_string())),
            Ok(Ok(compiled)) => Ok(compiled),
            Err(_) => Err(CompileError::Timeout(limits.timeout.as_millis() as u64)),
        }
    }
}

impl Terms {
    /// Gives a compiler the component in `component`, once its jail is judged, and takes the artifact.
    async fn talk(
        &self,
        socket: &mut UnixStream,
        confinement: Confinement,
        component: &Path,
        artifact: &Path,
    ) -> Result<Compiled, Talk> {
        let mut component = File::open(component).await?;
        let component_bytes = component.metadata().await?.len();
        let start = ToCompiler::Start {
            component_bytes,
            artifact_bytes_max: self.limits.artifact_bytes,
            memory_bytes_max: self.limits.step_memory_bytes,
            // Of processor time there is more than of time: functions compile on all processors.
            cpu_seconds: self.limits.timeout.as_secs().max(1) * 4,
            memory_bytes: self.limits.memory_bytes,
            confinement,
        };
        socket.write_all(&wire::encode(&start)?).await.map_err(WireError::Io)?;
        // It proves its jail while nothing hostile has come near it: afterwards its word would be worth nothing.
        let FromCompiler::Ready { walls } = wire::read(socket).await? else { return Err(out_of_turn()) };
        if let Some(wall) = lacking(&self.required, &walls).first() {
            return Err(CompileError::Violation(format!("its jail lacks `{}`: {}", wall.name, wall.detail)).into());
        }
        let mut chunk = vec![0; CHUNK_BYTES_MAX];
        loop {
            let read = component.read(&mut chunk).await?;
            if read == 0 {
                break;
            }
            let frame = wire::encode(&ToCompiler::Chunk(chunk[..read].to_vec()))?;
            socket.write_all(&frame).await.map_err(WireError::Io)?;
        }
        let (inspection, engine) = match wire::read(socket).await? {
            FromCompiler::Inspected { inspection, engine } => (inspection, engine),
            FromCompiler::Refused(refusal) => return Err(CompileError::Refused(refusal).into()),
            _ => return Err(out_of_turn()),
        };
        let mut artifact = File::create(artifact).await?;
        let mut written = 0;
        loop {
            match wire::read(socket).await? {
                FromCompiler::Chunk(chunk) => {
                    if chunk.len() > CHUNK_BYTES_MAX {
                        let said = format!("a chunk of {} bytes; at most {CHUNK_BYTES_MAX} are taken", chunk.len());
                        return Err(CompileError::Violation(said).into());
                    }
                    written += chunk.len() as u64;
                    if written > self.limits.artifact_bytes {
                        return Err(CompileError::Violation("more than `artifact_bytes`".into()).into());
                    }
                    artifact.write_all(&chunk).await?;
                }
                FromCompiler::Done => break,
                _ => return Err(out_of_turn()),
            }
        }
        artifact.flush().await?;
        artifact.sync_all().await?;
        Ok(Compiled { inspection, engine })
    }
}

fn out_of_turn() -> Talk {
    CompileError::Violation("it spoke out of turn".into()).into()
}

/// Tells a failure of the conversation from a failure of ours.
#[derive(Debug)]
enum Talk {
    Wire(WireError),
    Compile(CompileError),
}

impl From<WireError> for Talk {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl From<CompileError> for Talk {
    fn from(error: CompileError) -> Self {
        Self::Compile(error)
    }
}

impl From<std::io::Error> for Talk {
    fn from(error: std::io::Error) -> Self {
        Self::Compile(error.into())
    }
}
