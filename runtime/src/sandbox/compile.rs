//! Compiles what was pushed, once it is known what it is, what it imports and exports, and whether all of that
//! can be had here. Runs in the jail: the bytes are hostile until proven otherwise.

use wasmparser::{Encoding, Parser, Payload};
use wasmtime::{Engine, component::Component};
use wasmtime_wasi::p2::bindings::CommandPre;

use super::{adapt::adapt, engine::worker_engine};
use crate::{
    host::{
        self,
        bindings::{StepPre, tool::ToolPre},
    },
    step::Kind,
    wire::{Inspection, Refusal},
};

/// Returns what is in `bytes` and its compiled artifact.
pub fn compile(
    bytes: Vec<u8>,
    artifact_bytes_max: u64,
    memory_bytes_max: u64,
) -> Result<(Inspection, Vec<u8>), Refusal> {
    let invalid = |error: wasmtime::Error| Refusal::Invalid(format!("{error:#}"));
    let (component, inspection) = inspect(bytes)?;
    // The worker's own pool, so that what does not fit into it is refused here and not at the first step.
    let engine = worker_engine(1, memory_bytes_max).map_err(invalid)?;
    let component = Component::from_binary(&engine, &component).map_err(invalid)?;
    accept(&engine, &component, inspection.kind)?;
    let artifact = component.serialize().map_err(invalid)?;
    if artifact.len() as u64 > artifact_bytes_max {
        let (asked, max) = (artifact.len() as u64, artifact_bytes_max);
        return Err(Refusal::TooMuch { name: "`artifact_bytes`".into(), asked, max });
    }
    Ok((inspection, artifact))
}

/// Returns the component in `bytes`, adapted if it is a WASI 0.1 core module, and what it is. Compiles nothing.
pub fn inspect(bytes: Vec<u8>) -> Result<(Vec<u8>, Inspection), Refusal> {
    if !bytes.starts_with(b"\0asm") {
        return Err(Refusal::NotWasm);
    }
    let (component, adapted) = match encoding(&bytes)? {
        Encoding::Component => (bytes, false),
        Encoding::Module => (adapt(&bytes)?, true),
    };
    let (imports, exports) = names(&component)?;
    let unknown: Vec<_> = imports.iter().filter(|name| host::power_of(name).is_none()).cloned().collect();
    if !unknown.is_empty() {
        return Err(Refusal::UnknownImports(unknown));
    }
    let exports_one = |prefix: &str| exports.iter().any(|name| name.starts_with(prefix));
    let kind = if exports_one("palisade:agent/run@0.1.") {
        Kind::Step
    } else if exports_one("palisade:agent/invoke@0.1.") {
        Kind::Tool
    } else if exports_one("wasi:cli/run@0.2.") {
        Kind::Command
    } else {
        return Err(Refusal::NothingToRun(exports));
    };
    Ok((component, Inspection { kind, imports, exports, adapted }))
}

/// Checks a compiled component as a worker would see it: every import has the type that is provided, and the export
/// that is run has the type that is called.
fn accept(engine: &Engine, component: &Component, kind: Kind) -> Result<(), Refusal> {
    host::linker(engine)
        .and_then(|linker| host::linker_for(&linker, component))
        .and_then(|linker| linker.instantiate_pre(component))
        .and_then(|linked| match kind {
            Kind::Step => StepPre::new(linked).map(drop),
            Kind::Tool => ToolPre::new(linked).map(drop),
            Kind::Command => CommandPre::new(linked).map(drop),
        })
        .map_err(|error| Refusal::Invalid(format!("{error:#}")))
}

fn encoding(bytes: &[u8]) -> Result<Encoding, Refusal> {
    match Parser::new(0).parse_all(bytes).next() {
        Some(Ok(Payload::Version { encoding, .. })) => Ok(encoding),
        Some(Err(error)) => Err(Refusal::Invalid(error.to_string())),
        _ => Err(Refusal::Invalid("there is no header".into())),
    }
}

/// Returns the names that the component itself imports and exports; those of what is nested in it do not count.
fn names(component: &[u8]) -> Result<(Vec<String>, Vec<String>), Refusal> {
    let invalid = |e: wasmparser::BinaryReaderError| Refusal::Invalid(e.to_string());
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut depth = 0usize;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(invalid)? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.push(import.map_err(invalid)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(export.map_err(invalid)?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok((imports, exports))
}
