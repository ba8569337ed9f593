//! Checks of the code's shape. A list of exceptions may only shrink.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::harness::root;

/// Returns every file of the repository with an extension.
pub fn files(extension: &str) -> Vec<PathBuf> {
    fn visit(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name();
            let hidden = name.to_string_lossy().starts_with('.');
            if entry.file_type().unwrap().is_dir()
                && !hidden
                && !["target", "node_modules"].contains(&name.to_str().unwrap())
            {
                visit(&entry.path(), extension, found);
            } else if entry.path().extension().is_some_and(|e| e == extension) {
                found.push(entry.path());
            }
        }
    }
    let mut found = Vec::new();
    visit(root(), extension, &mut found);
    found.sort();
    found
}

pub fn runtime() -> Vec<(String, String)> {
    let source = root().join("runtime/src");
    let of_runtime = files("rs").into_iter().filter(|file| file.starts_with(&source));
    of_runtime
        .map(|file| {
            (file.strip_prefix(&source).unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&file).unwrap())
        })
        .collect()
}

/// Which framework is named where, and nowhere else.
const FRAMEWORKS: &[(&str, &[&str])] = &[
    ("tonic", &["service", "cli", "serve.rs"]),
    ("wasmtime", &["sandbox", "host"]),
    ("wasmtime_wasi", &["sandbox", "host"]),
    ("wasmtime_wasi_http", &["sandbox", "host"]),
    ("landlock", &["jail"]),
    ("seccompiler", &["jail"]),
    ("clap", &["cli", "main.rs"]),
    ("wasmparser", &["sandbox"]),
    ("chacha20", &["host"]),
    ("postcard", &["wire"]),
    ("cedar_policy", &["policy"]),
    ("rusqlite", &["journal", "memory"]),
    ("jsonschema", &["json"]),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("prometheus", &["telemetry"]),
    ("hyper", &["egress", "telemetry"]),
    ("h2", &["egress"]),
    ("hickory_resolver", &["egress"]),
    ("rustls", &["egress"]),
    ("tokio_rustls", &["egress"]),
    ("idna", &["egress"]),
    ("sd_notify", &["notify"]),
    ("hmac", &["credentials"]),
    ("zeroize", &["credentials"]),
];

/// Which of our modules a module may name. Siblings do not know each other; `lifecycle` introduces them.
const LAYERS: &[(&str, &[&str])] = &[
    ("step", &["step"]),
    ("wire", &["wire", "step"]),
    ("jail", &["jail", "wire"]),
    ("host", &["host", "sandbox", "step", "wire"]),
    ("sandbox", &["sandbox", "host", "step", "wire"]),
    ("work", &["work", "host", "jail", "sandbox", "step", "wire"]),
    ("compile", &["compile", "jail", "sandbox", "wire", "work"]),
    ("json", &["json", "step"]),
    ("budget", &["budget"]),
    ("policy", &["policy", "step"]),
    ("journal", &["journal", "step"]),
    ("memory", &["memory"]),
    ("telemetry", &["telemetry", "step"]),
    ("notify", &["notify", "journal"]),
    ("egress", &["egress", "step"]),
    ("credentials", &["credentials", "step", "spawn"]),
    ("durable", &[]),
    ("control", &["control", "durable", "egress", "step"]),
    ("containment", &["containment", "control", "step"]),
    ("config", &["config", "budget", "containment", "control", "credentials", "egress", "jail", "step"]),
    ("learn", &["learn", "budget", "egress", "journal", "manifest", "policy", "step"]),
    ("manifest", &["manifest", "config", "egress", "step"]),
    ("store", &["store", "durable", "manifest", "step", "wire"]),
    ("cgroups", &["cgroups"]),
    ("spawn", &["spawn"]),
    ("worker", &["worker", "cgroups", "spawn", "step", "wire"]),
    (
        "lifecycle",
        &[
            "lifecycle",
            "budget",
            "config",
            "containment",
            "control",
            "credentials",
            "egress",
            "host",
            "journal",
            "json",
            "manifest",
            "memory",
            "policy",
            "step",
            "store",
            "telemetry",
            "wire",
            "worker",
        ],
    ),
    (
        "service",
        &[
            "service",
            "budget",
            "config",
            "control",
            "credentials",
            "host",
            "journal",
            "lifecycle",
            "manifest",
            "policy",
            "sandbox",
            "step",
            "store",
            "telemetry",
            "wire",
            "worker",
        ],
    ),
];

#[test]
fn each_framework_is_named_in_its_own_folder() {
    for (file, text) in runtime() {
        for (framework, homes) in FRAMEWORKS {
            let named = text.lines().any(|line| !line.trim_start().starts_with("//") && mentions(line, framework));
            let home = homes
                .iter()
                .any(|home| file == *home || file.starts_with(&format!("{home}/")) || file == format!("{home}.rs"));
            assert!(!named || home, "{file} names {framework}; only {homes:?} may");
        }
    }
}

fn mentions(line: &str, framework: &str) -> bool {
    [format!("{framework}::"), format!("use {framework};")].iter().any(|form| {
        line.match_indices(form.as_str())
            .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
    })
}

#[test]
fn each_layer_knows_only_what_is_below_it() {
    for (file, text) in runtime() {
        let module = file.split(['/', '.']).next().unwrap().to_owned();
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else { continue };
        for named in crate_modules(&text) {
            assert!(allowed.contains(&named.as_str()), "{file} names `crate::{named}`; {module} may name {allowed:?}");
        }
    }
}

/// Returns the modules that a file names after `crate::`, also in a braced `use`.
fn crate_modules(text: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut modules = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => modules.push(word(rest)),
            Some(list) => {
                let mut depth = 1;
                let mut item = true;
                for (at, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 1 => item = true,
                        c if item && c.is_alphabetic() => {
                            modules.push(word(&list[at..]));
                            item = false;
                        }
                        _ => {}
                    }
                    if depth == 0 {
                        break;
                    }
                }
            }
        }
    }
    modules
}

#[test]
fn files_stay_small() {
    for file in files("rs") {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= 420, "{} has {lines} lines: split it", file.display());
    }
    let mut sizes: Vec<_> = runtime().iter().map(|(_, text)| text.lines().count()).collect();
    sizes.sort_unstable();
    assert!(sizes[sizes.len() / 2] <= 160, "the median file has {} lines", sizes[sizes.len() / 2]);
}

#[test]
fn there_are_no_junk_drawers() {
    for file in files("rs") {
        for part in file.strip_prefix(root()).unwrap().iter() {
            let name = Path::new(part).file_stem().unwrap().to_str().unwrap();
            assert!(
                !["util", "utils", "common", "core", "manager", "helpers", "misc", "internal"].contains(&name),
                "{}",
                file.display()
            );
        }
    }
}

#[test]
fn each_power_has_one_word_everywhere() {
    for power in palisade::host::POWERS {
        // Our own interfaces are files of that word; WASI's are wasmtime's.
        for interface in power.interfaces.iter().filter_map(|interface| interface.strip_prefix("palisade:agent/")) {
            assert_eq!(interface, power.word);
            assert!(root().join(format!("wit/{interface}.wit")).exists(), "wit/{interface}.wit");
            let types_only = interface == "types";
            for file in [format!("runtime/src/host/{interface}.rs"), format!("guest-sdk/src/{interface}.rs")] {
                assert!(types_only || root().join(&file).exists(), "{file}");
            }
        }
        let test = root().join(format!("tests/suite/{}.rs", power.word));
        let tested = test.exists() || ["clocks", "random", "io", "types"].contains(&power.word);
        assert!(tested, "a power without a test: {}", power.word);
    }
}

#[test]
fn no_test_file_is_forgotten() {
    let main = fs::read_to_string(root().join("tests/suite/main.rs")).unwrap();
    for entry in fs::read_dir(root().join("tests/suite")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(name == "main" || main.contains(&format!("mod {name};")), "{name} is in no `mod`");
    }
}

#[test]
fn every_file_says_what_it_is() {
    for (file, text) in runtime() {
        assert!(
            text.starts_with("//!") || file.ends_with("tests.rs") || file.contains("tests/"),
            "{file} has no first line that says what it is"
        );
    }
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    for file in files("rs").iter().filter(|file| !file.ends_with("suite/tidy.rs")) {
        let text = fs::read_to_string(file).unwrap();
        let lines: Vec<_> = text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            if line.contains("unsafe {") && !line.trim_start().starts_with("//") {
                let above = &lines[index.saturating_sub(4)..index];
                assert!(above.iter().any(|line| line.contains("SAFETY:")), "{}:{}", file.display(), index + 1);
            }
        }
    }
}
