//! Secret-looking text is put together at run time: an audit of this repository must find none.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::{
    Input, audit,
    dependencies::Dependencies,
    languages, licences, markers,
    sample::{LISTED_MAX, Sample},
    secrets,
    walk::{self, File},
};

/// A directory of a test's own, removed when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("repo-auditor-{}-{test}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn github_token() -> String {
    format!("gh{}_{}", "p", "a1B2".repeat(9))
}

fn kind(line: &str) -> Option<&'static str> {
    secrets::find(line).map(|(kind, _)| kind)
}

#[test]
fn languages_are_told_by_name_then_by_extension() {
    let cases = [
        ("main.rs", "Rust"),
        ("a.b.PY", "Python"),
        ("step.wit", "WIT"),
        ("x.proto", "Protocol Buffers"),
        ("Makefile", "Makefile"),
        ("Dockerfile.dev", "Dockerfile"),
        ("CMakeLists.txt", "CMake"),
        ("README.md", "Markdown"),
        (".gitignore", "other"),
        ("README", "other"),
    ];
    for (name, language) in cases {
        assert_eq!(languages::of(name), language, "{name}");
    }
}

#[test]
fn markers_are_whole_words() {
    assert_eq!(markers::find("// TODO: later  "), Some(("TODO", "TODO: later".into())));
    assert_eq!(markers::find("# a HACK, and a FIXME"), Some(("HACK", "HACK, and a FIXME".into())));
    assert_eq!(markers::find("XXXX, XXX!"), Some(("XXX", "XXX!".into())));
    for line in ["TODOS", "MY_TODO", "todo", "XXXX", "HACKER", ""] {
        assert_eq!(markers::find(line), None, "{line}");
    }
}

#[test]
fn a_markers_text_is_bounded() {
    let (_, text) = markers::find(&format!("é TODO {}", "ö".repeat(500))).unwrap();
    assert_eq!(text.chars().count(), 120);
}

#[test]
fn secrets_are_told_by_their_form() {
    let upper = "0123456789ABCDEF";
    assert_eq!(kind(&format!("id = AKIA{upper}")), Some("AWS access key id"));
    assert_eq!(kind(&format!("id = AKIA{upper}0")), None);
    assert_eq!(kind(&format!("id = XAKIA{upper}")), None);

    let dashes = "-----";
    assert_eq!(kind(&format!("{dashes}BEGIN RSA PRIVATE KEY{dashes}")), Some("private key"));
    assert_eq!(kind(&format!("{dashes}BEGIN PRIVATE KEY{dashes}")), Some("private key"));
    assert_eq!(kind(&format!("{dashes}BEGIN CERTIFICATE{dashes}")), None);

    assert_eq!(kind(&format!("https://{}@github.com", github_token())), Some("GitHub token"));
    assert_eq!(kind(&format!("github{}{}", "_pat_", "a1B2_".repeat(16))), Some("GitHub token"));
    assert_eq!(kind("ghp_short"), None);

    assert_eq!(kind(&format!("xox{}-{}", "b", "123456789012-abc")), Some("Slack token"));
    assert_eq!(kind("xoxb-your-token-here"), None);
}

#[test]
fn secrets_are_told_by_what_they_are_assigned_to() {
    let value = format!("{}{}", "hunter2", "hunter2");
    let secret = [
        format!("password = \"{value}\""),
        format!("DB_PASSWORD='{value}'"),
        format!("{{\"name\": \"x\", \"api_key\": \"{value}\"}}"),
        format!("config[\"token\"] = \"{value}\""),
        format!("let secret: &'static str = \"{value}\";"),
        format!("Config::token = '{value}'"),
        format!("'client-secret' => '{value}'"),
    ];
    for line in secret {
        assert_eq!(kind(&line), Some("assigned secret"), "{line}");
    }
    let harmless = [
        format!("name = \"{value}\""),
        format!("password(\"{value}\")"),
        String::from("password = \"hunter2\""),
        String::from("token = \"authorization\""),
        String::from("token = \"${CI_TOKEN_2024}\""),
        String::from("token = \"see section 4 of the manual\""),
        format!("password = \"{value}"),
    ];
    for line in harmless {
        assert_eq!(kind(&line), None, "{line}");
    }
}

#[test]
fn a_secret_is_never_shown() {
    let token = github_token();
    assert_eq!(secrets::find(&format!("token = \"{token}\"")), Some(("GitHub token", format!("{}…", &token[..4]))));
}

#[test]
fn licences_are_told_by_name() {
    for name in ["LICENSE", "LICENSE-MIT", "licence.md", "COPYING", "COPYING.LESSER", "NOTICE.txt", "LICENSE-2.0"] {
        assert!(licences::is_licence(name), "{name}");
    }
    for name in ["license.rs", "licences.json", "README.md", "MY-LICENSE"] {
        assert!(!licences::is_licence(name), "{name}");
    }
}

#[test]
fn licences_are_told_apart_by_their_text() {
    let cases = [
        ("  Apache License\n  Version 2.0, January 2004", "Apache-2.0"),
        ("Permission is hereby granted, free of charge,\nto any person obtaining a copy", "MIT"),
        ("GNU GENERAL PUBLIC LICENSE\nVersion 3", "GPL"),
        ("GNU Lesser General Public License", "GPL"),
        ("Redistribution and use in source and binary\nforms, with or without", "BSD"),
        ("Mozilla Public License Version 2.0 … GNU General Public License", "MPL"),
        ("All rights reserved.", "unknown"),
    ];
    for (text, licence) in cases {
        assert_eq!(licences::guess(text), licence, "{text}");
    }
}

/// Reads one lock file; returns how many dependencies it has, and those with several versions.
fn locked(name: &str, text: &str) -> (u64, Vec<String>) {
    let mut dependencies = Dependencies::default();
    dependencies.add(&File { path: format!("below/{name}"), bytes: 0 }, text).unwrap();
    let several = dependencies.several_versions.several().iter().map(|package| package.name.to_owned()).collect();
    (dependencies.different(), several)
}

#[test]
fn cargo_lock_is_read() {
    let package = |name: &str, version: &str, source: &str| {
        format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n{source}dependencies = [\n \"x\",\n]\n\n")
    };
    let source = "source = \"registry+https://github.com/rust-lang/crates.io-index\"\n";
    let text = String::from("version = 4\n\n")
        + &package("syn", "1.0.0", source)
        + &package("syn", "2.0.0", source)
        + &package("serde", "1.0.0", source)
        + &package("our-own", "0.1.0", "");
    assert_eq!(locked("Cargo.lock", &text), (3, vec!["syn".into()]));
}

#[test]
fn poetry_lock_is_read() {
    let text = "[[package]]\nname = \"idna\"\nversion = \"3.4\"\n\n[package.extras]\nname = \"no\"\n\n[metadata]\n";
    assert_eq!(locked("poetry.lock", text), (1, vec![]));
}

#[test]
fn package_lock_json_is_read() {
    let text = r#"{"lockfileVersion": 3, "packages": {
        "": {"name": "root", "version": "1.0.0"},
        "packages/member": {"version": "1.0.0"},
        "node_modules/member": {"resolved": "packages/member", "link": true},
        "node_modules/@scope/a": {"version": "1.0.0"},
        "node_modules/b": {"version": "1.0.0"},
        "node_modules/b/node_modules/@scope/a": {"version": "2.0.0", "dev": true}
    }}"#;
    assert_eq!(locked("package-lock.json", text), (3, vec!["@scope/a".into()]));
}

#[test]
fn go_sum_is_read() {
    let text = "example.com/a v1.0.0 h1:x=\nexample.com/a v1.0.0/go.mod h1:x=\nexample.com/b v0.9.0/go.mod h1:x=\n";
    assert_eq!(locked("go.sum", text), (1, vec![]));
}

#[test]
fn requirements_are_read() {
    let text = "# pinned==0\nFoo_Bar[extra]==1.0 ; python_version < \"3.9\"\nfoo-bar==2.0 \\\n  --hash=sha256:00\n\
                open>=1; python_version==\"3.8\"\n-r other.txt\nurllib3==2.1  # why\n";
    assert_eq!(locked("requirements-dev.txt", text), (3, vec!["foo-bar".into()]));
}

#[test]
fn a_lock_file_that_is_not_understood_is_not_quoted() {
    let file = File { path: "package-lock.json".into(), bytes: 0 };
    let reason = Dependencies::default().add(&file, "{\n\"packages\": \"hidden\"}").unwrap_err();
    assert_eq!(reason, "not a package-lock.json of version 2 or 3 (line 2)");
}

#[test]
fn a_sample_counts_all_and_keeps_the_first() {
    let mut sample = Sample::default();
    (0..=LISTED_MAX).for_each(|n| sample.add(n));
    assert_eq!((sample.total, sample.first.len(), sample.is_cut()), (LISTED_MAX as u64 + 1, LISTED_MAX, true));
}

#[test]
fn the_largest_files_come_first() {
    let file = |path: &str, bytes| File { path: path.into(), bytes };
    let largest = walk::largest(&[file("a", 1), file("b", 3), file("c", 3), file("d", 2)], 3);
    assert_eq!(largest.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["b", "c", "d"]);
}

#[test]
fn the_input_may_be_left_out_in_part_or_whole() {
    let input: Option<Input> = serde_json::from_str("null").unwrap();
    assert_eq!(input.unwrap_or_default().root, "/repo");
    let input: Input = serde_json::from_str(r#"{"largest": 3}"#).unwrap();
    assert_eq!((input.output.as_str(), input.largest), ("/workspace", 3));
    assert!(serde_json::from_str::<Input>(r#"{"rooot": "/"}"#).is_err());
}

fn audited(root: &Path, output: &Path) -> Result<crate::findings::Summary, palisade_guest::Error> {
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    audit(Some(Input { root: path(root), output: path(output), largest: 2 }))
}

#[test]
fn a_tree_is_audited() {
    let (repo, workspace) = (Folder::new("tree"), Folder::new("tree-output"));
    let token = github_token();
    repo.write("src/main.rs", "// TODO: write it\nfn main() {}\n");
    repo.write("src/config.py", format!("x = 1\ntoken = \"{token}\"  # TODO: hide {token}\n"));
    repo.write("LICENSE", "Apache License\nVersion 2.0");
    repo.write("requirements.txt", "a==1\n");
    repo.write("service/requirements.txt", "a==2\n");
    repo.write("logo.png", [0x89, b'P', 0, 1]);
    repo.write("data.json", vec![b' '; 5 << 20]);
    repo.write("target/debug/main.d", "TODO");
    repo.write("package-lock.json", "{}");
    std::os::unix::fs::symlink("/", repo.0.join("everything")).unwrap();

    let summary = audited(&repo.0, &workspace.0).unwrap();

    assert_eq!((summary.files, summary.lines, summary.markers, summary.possible_secrets), (8, 9, 2, 1));
    assert_eq!((summary.dependencies, summary.unreadable), (2, 1));
    assert_eq!(summary.largest[0].path, "data.json");
    assert_eq!((summary.licences[0].path.as_str(), summary.licences[0].licence), ("LICENSE", "Apache-2.0"));
    let skipped = BTreeMap::from([("symbolic link", 1), ("target", 1), ("too large to scan", 1)]);
    assert_eq!(summary.skipped, skipped);
    let binary = summary.languages.iter().find(|l| l.language == "binary").unwrap();
    assert_eq!((binary.files, binary.lines, binary.bytes), (1, 0, 4));

    assert_eq!(summary.report, workspace.0.join("report.md").to_str().unwrap());
    let report = fs::read_to_string(&summary.report).unwrap();
    assert!(report.starts_with("# Audit of `"), "{report}");
    assert!(report.contains("**1 possible secret should be looked at.**"), "{report}");
    assert!(report.contains("| `src/main.rs:1` | `TODO: write it` |"), "{report}");
    assert!(report.contains("| `a` | Python | `1`, `2` |"), "{report}");
    let json = fs::read_to_string(workspace.0.join("report.json")).unwrap();
    let findings: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(findings["possible_secrets"]["first"][0]["path"], "src/config.py");
    assert_eq!(findings["dependencies"]["several_versions"][0]["name"], "a");
    assert!(!report.contains(&token[4..]) && !json.contains(&token[4..]));
}

#[test]
fn an_empty_tree_is_audited() {
    let (repo, workspace) = (Folder::new("empty"), Folder::new("empty-output"));
    assert_eq!(audited(&repo.0, &workspace.0).unwrap().files, 0);
}

#[test]
fn a_root_that_is_no_directory_is_refused() {
    let folder = Folder::new("no-root");
    folder.write("file", "");
    for root in ["absent", "file"] {
        let error = audited(&folder.0.join(root), &folder.0).err().unwrap();
        assert_eq!(error.code, "ROOT_UNREADABLE");
        assert!(error.message.contains("mount a directory at"), "{}", error.message);
    }
}

#[test]
fn an_output_that_cannot_be_written_is_refused() {
    let folder = Folder::new("no-output");
    let error = audited(&folder.0, &folder.0.join("absent")).err().unwrap();
    assert_eq!(error.code, "OUTPUT_UNWRITABLE");
}
