//! `palisade compile`: one component in, one compiled artifact out, in the jail. Started by the daemon, never by
//! people. It sees no file at all: everything comes and goes through the socket.

use std::fs::File;

use anyhow::Context as _;

use crate::{
    jail::{self, Jail, Role},
    sandbox,
    wire::{self, CHUNK_BYTES_MAX, FromCompiler, ToCompiler},
    work,
};

/// Reads the component, answers and ends.
pub fn compile() -> anyhow::Result<()> {
    work::die_of_panics();
    let mut socket = File::from(work::socket()?);
    let start: ToCompiler =
        wire::read_blocking(&mut socket).context("palisade compile is started by `palisade serve`")?;
    let ToCompiler::Start {
        component_bytes,
        artifact_bytes_max,
        memory_bytes_max,
        cpu_seconds,
        memory_bytes,
        confinement,
    } = start
    else {
        anyhow::bail!("expected to be told the size first");
    };
    drop(socket);
    let jail = Jail {
        role: Role::Compiler,
        confinement,
        files: Vec::new(),
        file_bytes_max: 0,
        memory_bytes_max: memory_bytes,
        descriptors_max: 64,
        cpu_seconds_max: Some(cpu_seconds),
    };
    let mut socket = None;
    let walls = jail::enter(&jail, &mut || {}, &mut || socket = Some(work::socket()))?;
    let mut socket = File::from(socket.context("the jail was entered unprepared")??);
    wire::write_blocking(&mut socket, &FromCompiler::Ready { walls })?;

    let component = receive(&mut socket, component_bytes)?;
    match sandbox::compile(component, artifact_bytes_max, memory_bytes_max) {
        Err(refusal) => wire::write_blocking(&mut socket, &FromCompiler::Refused(refusal))?,
        Ok((inspection, artifact)) => {
            let engine = sandbox::engine_hash()?;
            wire::write_blocking(&mut socket, &FromCompiler::Inspected { inspection, engine })?;
            for chunk in artifact.chunks(CHUNK_BYTES_MAX) {
                wire::write_blocking(&mut socket, &FromCompiler::Chunk(chunk.to_vec()))?;
            }
            wire::write_blocking(&mut socket, &FromCompiler::Done)?;
        }
    }
    Ok(())
}

fn receive(socket: &mut File, component_bytes: u64) -> anyhow::Result<Vec<u8>> {
    let mut component = Vec::new();
    while (component.len() as u64) < component_bytes {
        match wire::read_blocking(socket)? {
            ToCompiler::Chunk(chunk) => component.extend_from_slice(&chunk),
            ToCompiler::Start { .. } => anyhow::bail!("expected a chunk"),
        }
    }
    Ok(component)
}
