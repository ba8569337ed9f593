//! `palisade new`: a project that compiles and passes its test, with nothing but cargo.

use std::{
    fs,
    path::{Path, PathBuf},
};

use include_dir::{Dir, DirEntry, include_dir};

use super::{Failure, arguments::New};
use crate::step::Name;

/// The guest SDK as it was when this binary was built: a project depends on nothing that it cannot reach.
static SDK: Dir = include_dir!("$CARGO_MANIFEST_DIR/../guest-sdk");

const MANIFEST: &str = include_str!("template/Cargo.toml.txt");

/// Words that name no function.
const KEYWORDS: &str = "abstract as async await become box break const continue crate do dyn else enum extern false \
    final fn for gen if impl in let loop macro match mod move mut override priv pub ref return self static struct \
    super trait true try type typeof unsafe unsized use virtual where while yield";

/// What a new project is filled with. `{{name}}` is the project's, `{{function}}` the same as an identifier.
struct Template {
    source: &'static str,
    readme: &'static str,
    /// What to do once it compiles.
    next: &'static str,
}

const STEP: Template = Template {
    source: include_str!("template/step/lib.rs.txt"),
    readme: include_str!("template/step/README.md.txt"),
    next: "  palisade run target/wasm32-wasip2/release/{{function}}.wasm --input '{\"name\":\"Ada\"}'\n",
};

const TOOL: Template = Template {
    source: include_str!("template/tool/lib.rs.txt"),
    readme: include_str!("template/tool/README.md.txt"),
    next: "  palisade component push target/wasm32-wasip2/release/{{function}}.wasm --alias {{name}}
  palisade tool register {{name}} --name {{name}} --version 1 --effect read
",
};

/// Writes a project.
pub fn new(command: New) -> Result<(), Failure> {
    match command {
        New::Step { name, sdk } => write(&STEP, &name, sdk),
        New::Tool { name, sdk } => write(&TOOL, &name, sdk),
    }
}

fn write(template: &Template, name: &str, sdk: Option<PathBuf>) -> Result<(), Failure> {
    let crate_name: Name = name.parse().map_err(Failure::usage)?;
    if KEYWORDS.split_whitespace().any(|keyword| keyword == name) {
        return Err(Failure::usage(format!("`{name}` is a word of Rust and names no function: choose another name")));
    }
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
    let fill = |text: &str| {
        let function = crate_name.as_str().replace('-', "_");
        text.replace("{{name}}", crate_name.as_str()).replace("{{function}}", &function).replace("{{sdk}}", &sdk_path)
    };
    fs::create_dir_all(root.join("src"))?;
    fs::write(root.join("Cargo.toml"), fill(MANIFEST))?;
    fs::write(root.join("src/lib.rs"), fill(template.source))?;
    fs::write(root.join("README.md"), fill(template.readme))?;
    fs::write(root.join(".gitignore"), "/target\n")?;
    let build = "\
wrote {{name}}/. Next:
  cd {{name}}
  cargo test
  cargo build --release --target wasm32-wasip2
";
    eprint!("{}{}", fill(build), fill(template.next));
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
