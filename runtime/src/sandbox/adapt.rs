//! Makes a component of a WASI 0.1 command, so that programs built before components run unchanged.

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as WASI, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER as ADAPTER,
};
use wasmparser::{BinaryReaderError, ExternalKind, Parser, Payload};
use wit_component::ComponentEncoder;

use crate::wire::Refusal;

/// Returns the component of a core module that imports WASI 0.1 and exports `_start`.
pub fn adapt(module: &[u8]) -> Result<Vec<u8>, Refusal> {
    let (mut unknown, mut starts) = (Vec::new(), false);
    for payload in Parser::new(0).parse_all(module) {
        match payload.map_err(invalid)? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.map_err(invalid)?;
                    if import.module != WASI {
                        unknown.push(format!("{}.{}", import.module, import.name));
                    }
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export.map_err(invalid)?;
                    starts |= export.name == "_start" && export.kind == ExternalKind::Func;
                }
            }
            Payload::CustomSection(section) if section.name() == "go:buildid" => return Err(go()),
            _ => {}
        }
    }
    if !unknown.is_empty() {
        return Err(Refusal::UnknownImports(unknown));
    }
    if !starts {
        return Err(Refusal::NothingToRun(vec!["a core module without `_start`".into()]));
    }
    ComponentEncoder::default()
        .module(module)
        .and_then(|encoder| encoder.validate(true).adapter(WASI, ADAPTER))
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| Refusal::Invalid(format!("cannot be adapted from WASI 0.1: {error:#}")))
}

/// The adapter takes two pages of the program's own memory. Go's runtime believes that nobody else grows it, gives the
/// pages away as its heap, and traps in ways that explain nothing.
fn go() -> Refusal {
    let why =
        "Go's own compiler (GOOS=wasip1) makes modules that cannot be adapted: their memory has no room for others";
    Refusal::Invalid(format!("{why}; build a WASI 0.2 component, for example with TinyGo"))
}

fn invalid(error: BinaryReaderError) -> Refusal {
    Refusal::Invalid(error.to_string())
}
