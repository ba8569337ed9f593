//! Tells a file's language by its name, and counts by language.

use std::{cmp::Reverse, collections::BTreeMap};

use serde::{Serialize, Serializer};

/// The language of a file that is no text.
pub const BINARY: &str = "binary";
/// The language of a text whose name says nothing.
pub const OTHER: &str = "other";

/// How much of a tree is in one language.
#[derive(Serialize)]
pub struct Language {
    pub language: &'static str,
    pub files: u64,
    pub lines: u64,
    pub bytes: u64,
}

/// Counts by language.
#[derive(Default)]
pub struct Languages(BTreeMap<&'static str, (u64, u64, u64)>);

impl Languages {
    pub fn add(&mut self, language: &'static str, lines: u64, bytes: u64) {
        let (all_files, all_lines, all_bytes) = self.0.entry(language).or_default();
        *all_files += 1;
        *all_lines += lines;
        *all_bytes += bytes;
    }

    /// Returns the languages, the one with the most lines first.
    pub fn ranked(&self) -> Vec<Language> {
        let language = |(&language, &(files, lines, bytes))| Language { language, files, lines, bytes };
        let mut ranked: Vec<Language> = self.0.iter().map(language).collect();
        ranked.sort_by_key(|language| Reverse((language.lines, language.bytes)));
        ranked
    }
}

impl Serialize for Languages {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.ranked().serialize(serializer)
    }
}

/// Returns the language of a file of this name: by the whole name, else by its extension.
pub fn of(name: &str) -> &'static str {
    match name {
        "Makefile" | "makefile" | "GNUmakefile" => "Makefile",
        "Dockerfile" | "Containerfile" => "Dockerfile",
        "CMakeLists.txt" => "CMake",
        "Cargo.lock" | "poetry.lock" | "uv.lock" => "TOML",
        "go.mod" | "go.sum" => "Go modules",
        "Gemfile" | "Rakefile" => "Ruby",
        "Jenkinsfile" => "Groovy",
        ".bashrc" | ".bash_profile" | ".profile" | ".zshrc" => "Shell",
        _ if name.starts_with("Dockerfile.") => "Dockerfile",
        _ => by_extension(name),
    }
}

fn by_extension(name: &str) -> &'static str {
    let Some((_, extension)) = name.rsplit_once('.') else { return OTHER };
    match extension.to_ascii_lowercase().as_str() {
        "rs" => "Rust",
        "py" | "pyi" | "pyw" => "Python",
        "js" | "jsx" | "mjs" | "cjs" => "JavaScript",
        "ts" | "tsx" | "mts" | "cts" => "TypeScript",
        "go" => "Go",
        "c" | "h" => "C",
        "cc" | "cpp" | "cxx" | "hh" | "hpp" | "hxx" => "C++",
        "cs" => "C#",
        "java" => "Java",
        "kt" | "kts" => "Kotlin",
        "scala" => "Scala",
        "swift" => "Swift",
        "rb" => "Ruby",
        "php" => "PHP",
        "lua" => "Lua",
        "zig" => "Zig",
        "hs" => "Haskell",
        "ex" | "exs" => "Elixir",
        "sh" | "bash" | "zsh" => "Shell",
        "ps1" => "PowerShell",
        "sql" => "SQL",
        "tf" => "Terraform",
        "nix" => "Nix",
        "cmake" => "CMake",
        "mk" => "Makefile",
        "dockerfile" => "Dockerfile",
        "toml" => "TOML",
        "yaml" | "yml" => "YAML",
        "json" | "jsonl" => "JSON",
        "xml" => "XML",
        "ini" | "cfg" | "conf" => "INI",
        "proto" => "Protocol Buffers",
        "wit" => "WIT",
        "wat" | "wast" => "WebAssembly text",
        "html" | "htm" => "HTML",
        "css" | "scss" | "sass" | "less" => "CSS",
        "svg" => "SVG",
        "vue" => "Vue",
        "svelte" => "Svelte",
        "md" | "markdown" => "Markdown",
        "txt" | "rst" | "adoc" => "Text",
        _ => OTHER,
    }
}
