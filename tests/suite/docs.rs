use std::{fs, path::Path};

use palisade::{
    config::{Budgets, Limits, Row, Workers},
    lifecycle::CODES,
};

use crate::{
    harness::root,
    tidy::{files, runtime},
};

#[test]
fn every_relative_link_leads_somewhere() {
    let mut broken = Vec::new();
    for file in files("md") {
        let text = fs::read_to_string(&file).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap();
            if !target.is_empty() && !target.contains("://") && !file.parent().unwrap().join(target).exists() {
                broken.push(format!("{}: {target}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_path_that_the_documentation_names_is_there() {
    let mut missing = Vec::new();
    for file in files("md") {
        let text = fs::read_to_string(&file).unwrap();
        for named in text.split('`').skip(1).step_by(2) {
            let rooted = [
                "runtime/",
                "proto/",
                "guest-sdk/",
                "tests/",
                "docs/",
                "benches/",
                "examples/",
                "wit/",
                "scripts/",
                "deploy/",
            ];
            let plain = !named.contains(|c: char| c.is_whitespace() || "<>*{}…".contains(c));
            if plain && rooted.iter().any(|folder| named.starts_with(folder)) && !root().join(named).exists() {
                missing.push(format!("{}: {named}", file.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn the_table_of_limits_is_the_code() {
    let text = fs::read_to_string(root().join("docs/limits.md")).unwrap();
    let documented: Vec<Vec<String>> = text
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').skip(1).take(4).map(|cell| cell.trim().trim_matches('`').to_owned()).collect())
        .collect();
    let row = |row: Row| vec![row.name.to_owned(), row.unit.to_owned(), row.default.to_string(), row.max.to_string()];
    let held = Limits::default().rows();
    let held = held.into_iter().chain(Workers::default().rows()).chain(Budgets::default().rows());
    let held = held.chain(Limits::fixed_rows());
    let held: Vec<_> = held.map(row).collect();
    assert_eq!(documented, held);
}

#[test]
fn the_bounds_of_the_conversation_are_the_constants_that_they_name() {
    let text = fs::read_to_string(root().join("docs/limits.md")).unwrap();
    let mut seen = 0;
    for line in text.lines().filter(|line| line.starts_with("| ") && line.contains(" in `runtime/src/")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let (name, file) = cells[3].split_once(" in ").unwrap();
        let source = fs::read_to_string(root().join(file.trim_matches('`'))).unwrap();
        let declared = source.split(&format!("const {name}: ")).nth(1).unwrap_or_else(|| panic!("{name} in {file}"));
        let (_, declared) = declared.split_once(';').unwrap().0.split_once(" = ").unwrap();
        let number = |text: &str| text.trim().replace('_', "").parse::<u64>().unwrap();
        let value = match declared.split_once("<<") {
            Some((number_of, shift)) => number(number_of) << number(shift),
            None => number(declared),
        };
        assert_eq!(cells[2], value.to_string(), "{name} in {file}");
        seen += 1;
    }
    assert!(seen > 30, "{seen}");
}

#[test]
fn the_catalogue_of_denials_is_the_code() {
    let text = fs::read_to_string(root().join("docs/denials.md")).unwrap();
    let cells = |line: &str| -> Vec<String> {
        line.split('|').skip(1).take(2).map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
    };
    let documented: Vec<_> = text.lines().filter(|line| line.starts_with("| `")).map(cells).collect();
    let known: Vec<_> = CODES.iter().map(|(code, class)| vec![(*code).to_owned(), (*class).to_owned()]).collect();
    assert_eq!(documented, known);
    // And every code that the gate gives is in the list.
    for (file, text) in
        runtime().into_iter().filter(|(file, _)| file.starts_with("lifecycle/") || file == "policy/explain.rs")
    {
        for giver in ["refused(\"", "denied(\"", "invalid(\"", "failed(\"", "unavailable(\"", "=> \"POLICY_"] {
            for at in text.split(giver).skip(1) {
                let code = at.split('"').next().unwrap();
                let code = if giver.contains("POLICY_") { format!("POLICY_{code}") } else { code.to_owned() };
                let is_code = code.chars().all(|c| c.is_ascii_uppercase() || c == '_');
                assert!(!is_code || CODES.iter().any(|(known, _)| *known == code), "{file} gives {code}");
            }
        }
    }
}

#[test]
fn every_public_word_of_the_proto_is_documented() {
    for file in files("proto") {
        let text = fs::read_to_string(&file).unwrap();
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        for (index, line) in lines.iter().enumerate() {
            if line.starts_with("rpc ") || line.starts_with("service ") {
                let documented = index > 0 && lines[index - 1].starts_with("//");
                assert!(documented, "{}: {line}", file.display());
            }
        }
    }
}

#[test]
fn the_readme_names_no_command_that_is_not_there() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for target in readme.split("make ").skip(1).filter_map(|rest| rest.split(|c: char| !c.is_ascii_lowercase()).next())
    {
        assert!(target.is_empty() || makefile.contains(&format!("\n{target}:")), "make {target}");
    }
    assert!(Path::new(&root().join("LICENSE")).exists());
}
