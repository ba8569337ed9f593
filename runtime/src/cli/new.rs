//! `palisade new`: a project that compiles and passes its test, with nothing but cargo.

use std::{fs, path::Path};

use include_dir::{Dir, DirEntry, include_dir};

use super::{Failure, arguments::New};
use crate::step::Name;

/// The guest SDK as it was when this binary was built: a project depends on nothing that it cannot reach.
static SDK: Dir = include_dir!("$CARGO_MANIFEST_DIR/../guest-sdk");

const MANIFEST: &str = include_str!("template/Cargo.toml.txt");
const SOURCE: &str = include_str!("template/lib.rs.txt");
const README: &str = include_str!("template/README.md.txt");

/// Writes a project.
pub fn new(command: New) -> Result<(), Failure> {
    let New::Step { name, sdk } = command;
    let crate_name: Name = name.parse().map_err(Failure::usage)?;
    let root = Path::new(crate_name.as_str());
    if root.exists() {
        return Err(Failure::usage(format!("`{}` exists already: choose another name", root.display())));
    }
    let sdk_path = match sdk {
        Some(sdk) => {
            let found = fs::canonicalize(&sdk).ok().filter(|path| path.join("Cargo.toml").is_file());
            let found = found.ok_or_else(|| Failure::usage(format!("`{}` is not the SDK's folder", sdk.display())))?;
            found.to_string_lossy().into_owned()
        }
        None => {
            copy(&SDK, &root.join("sdk"))?;
            "sdk".into()
        }
    };
    let fill = |template: &str| {
        let function = crate_name.as_str().replace('-', "_");
        template
            .replace("{{name}}", crate_name.as_str())
            .replace("{{function}}", &function)
            .replace("{{sdk}}", &sdk_path)
    };
    fs::create_dir_all(root.join("src"))?;
    fs::write(root.join("Cargo.toml"), fill(MANIFEST))?;
    fs::write(root.join("src/lib.rs"), fill(SOURCE))?;
    fs::write(root.join("README.md"), fill(README))?;
    fs::write(root.join(".gitignore"), "/target\n")?;
    eprint!(
        "{}",
        fill(
            "\
wrote {{name}}/. Next:
  cd {{name}}
  cargo test
  cargo build --release --target wasm32-wasip2
  palisade run target/wasm32-wasip2/release/{{function}}.wasm --input '{\"name\":\"Ada\"}'
"
        )
    );
    Ok(())
}

fn copy(dir: &Dir<'_>, to: &Path) -> Result<(), Failure> {
    for entry in dir.entries() {
        match entry {
            DirEntry::Dir(dir) => copy(dir, to)?,
            DirEntry::File(file) => {
                let path = to.join(file.path());
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent)?;
                }
                fs::write(path, file.contents())?;
            }
        }
    }
    Ok(())
}
