//! Compiles the .proto files with protox: no protoc on the machine.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=palisade");
    let files = [
        "steps",
        "components",
        "workspaces",
        "system",
        "tools",
        "agents",
        "policies",
        "credentials",
        "control",
        "audit",
    ]
    .map(|f| format!("palisade/v1/{f}.proto"));
    let descriptors = protox::compile(files, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
