//! Counts the dependencies that lock files pin, and finds those that are there in more than one version.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use palisade_guest::events;
use serde::{Deserialize, Serialize, Serializer};

use crate::{sample::Sample, walk::File};

const SEVERAL_VERSIONS_MAX: usize = 20;

/// A monorepo has hundreds of lock files: the first few events tell the caller enough.
const ANNOUNCED_MAX: u64 = 20;

/// Different names and versions.
type Packages = BTreeSet<(String, String)>;

#[derive(Default, Serialize)]
pub struct Dependencies {
    pub lock_files: Sample<LockFile>,
    pub several_versions: Versions,
}

#[derive(Serialize)]
pub struct LockFile {
    pub path: String,
    pub ecosystem: &'static str,
    pub dependencies: u64,
}

/// The versions of each package, by ecosystem and name. As JSON, it is those with several.
#[derive(Default)]
pub struct Versions(BTreeMap<(&'static str, String), BTreeSet<String>>);

/// A package that is there in more than one version.
#[derive(Serialize)]
pub struct SeveralVersions<'a> {
    pub ecosystem: &'static str,
    pub name: &'a str,
    pub versions: &'a BTreeSet<String>,
}

impl Dependencies {
    /// Adds a lock file, and does nothing with any other file. Fails if it is not understood.
    pub fn add(&mut self, file: &File, text: &str) -> Result<(), String> {
        let (ecosystem, packages) = match file.name() {
            // Only a package of the repository itself has no source.
            "Cargo.lock" => ("Cargo", toml_packages(text, "source")),
            "poetry.lock" => ("Python", toml_packages(text, "version")),
            "package-lock.json" => ("npm", npm_packages(text)?),
            "go.sum" => ("Go", go_modules(text)),
            name if is_requirements(name) => ("Python", pinned_requirements(text)),
            _ => return Ok(()),
        };
        let dependencies = packages.len() as u64;
        self.lock_files.add(LockFile { path: file.path.clone(), ecosystem, dependencies });
        if self.lock_files.total <= ANNOUNCED_MAX {
            events::info!("found lock file", path = file.path, dependencies = dependencies);
        }
        for (name, version) in packages {
            self.several_versions.0.entry((ecosystem, name)).or_default().insert(version);
        }
        Ok(())
    }

    /// Returns how many different packages there are, over all lock files.
    pub fn different(&self) -> u64 {
        self.several_versions.0.values().map(|versions| versions.len() as u64).sum()
    }
}

impl Versions {
    /// Returns the packages with the most versions, the most first.
    pub fn several(&self) -> Vec<SeveralVersions<'_>> {
        let several = self.0.iter().filter(|(_, versions)| versions.len() > 1);
        let mut several: Vec<_> =
            several.map(|(key, versions)| SeveralVersions { ecosystem: key.0, name: &key.1, versions }).collect();
        several.sort_by_key(|package| Reverse(package.versions.len()));
        several.truncate(SEVERAL_VERSIONS_MAX);
        several
    }
}

impl Serialize for Versions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.several().serialize(serializer)
    }
}

/// Reads the `[[package]]` tables that have the key `required`. Lock files are written by programs, line by line:
/// that is all the TOML they need.
fn toml_packages(text: &str, required: &str) -> Packages {
    let package = |table: &str| {
        // Tables within the package, such as `[package.extras]`, have keys of their own.
        let own = table.split("\n[").next()?;
        let value = |key: &str| own.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
        value(required)?;
        Some((unquoted(value("name")?), unquoted(value("version")?)))
    };
    text.split("[[package]]").skip(1).filter_map(package).collect()
}

fn unquoted(value: &str) -> String {
    value.trim_matches('"').to_owned()
}

#[derive(Deserialize)]
struct NpmLock {
    packages: BTreeMap<String, NpmPackage>,
}

#[derive(Deserialize)]
struct NpmPackage {
    version: Option<String>,
}

fn npm_packages(text: &str) -> Result<Packages, String> {
    // The parser's own message could quote the file, and with it a secret.
    let lock: NpmLock = serde_json::from_str(text)
        .map_err(|error| format!("not a package-lock.json of version 2 or 3 (line {})", error.line()))?;
    let package = |(place, package): (String, NpmPackage)| {
        // The root's place is "", that of a workspace's member is its folder: neither is a dependency.
        let (_, name) = place.rsplit_once("node_modules/")?;
        Some((name.to_owned(), package.version?))
    };
    Ok(lock.packages.into_iter().filter_map(package).collect())
}

fn go_modules(text: &str) -> Packages {
    let module = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, version) = (words.next()?, words.next()?);
        // `/go.mod` marks the checksum of a manifest, which is there for modules that are not used as well.
        (!version.ends_with("/go.mod")).then(|| (name.to_owned(), version.to_owned()))
    };
    text.lines().filter_map(module).collect()
}

fn is_requirements(name: &str) -> bool {
    name.ends_with(".txt") && (name.contains("requirements") || name.contains("constraints"))
}

/// Reads the lines `name==version`; a line that leaves the version open pins nothing.
fn pinned_requirements(text: &str) -> Packages {
    let requirement = |line: &str| {
        let (name, version) = line.split_once("==")?;
        // What follows may be a marker (`; python_version < "3.9"`), a hash or a comment.
        let version = version.trim_start_matches(['=', ' ']).split([' ', '\t', ';', ',', '#', '\\']).next()?;
        let is_name = name.trim().chars().all(|c| c.is_ascii_alphanumeric() || "-_.[],".contains(c));
        let name = name.split('[').next()?.trim();
        let is_pinned = is_name && !name.is_empty() && !version.is_empty();
        // PyPI takes `Foo_Bar` and `foo-bar` for the same package.
        is_pinned.then(|| (name.to_ascii_lowercase().replace('_', "-"), version.to_owned()))
    };
    text.lines().filter_map(requirement).collect()
}
