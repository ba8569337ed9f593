//! Writes the findings down: `report.md` for people, `report.json` for programs.

use std::{collections::BTreeSet, fs, io, path::Path};

use crate::{
    findings::Findings,
    sample::{LISTED_MAX, Sample},
    walk::SCANNED_MAX_BYTES,
};

/// Writes both reports to the directory `output`, and returns the path of the one for people.
pub fn write(findings: &Findings, root: &str, output: &Path) -> io::Result<String> {
    let path = output.join("report.md");
    fs::write(&path, markdown(findings, root))?;
    fs::write(output.join("report.json"), serde_json::to_string_pretty(findings)?)?;
    Ok(path.to_string_lossy().into_owned())
}

fn markdown(findings: &Findings, root: &str) -> String {
    let sections = [
        format!("# Audit of {}", code(root)),
        summary(findings),
        possible_secrets(findings),
        languages(findings),
        largest(findings),
        licences(findings),
        dependencies(findings),
        markers(findings),
        not_scanned(findings),
    ];
    sections.join("\n\n") + "\n"
}

/// The paragraph for those who read no further.
fn summary(findings: &Findings) -> String {
    let size = format!("{} in {}", counted(findings.lines, "line"), counted(findings.files, "file"));
    let languages = findings.languages.ranked().into_iter().filter(|l| l.lines > 0).take(3);
    let languages: Vec<_> = languages.map(|l| format!("{} ({})", l.language, share(l.lines, findings))).collect();
    let mostly = if languages.is_empty() { String::new() } else { format!(", mostly {}", languages.join(", ")) };

    let licences: BTreeSet<_> = findings.licences.first.iter().map(|l| l.licence).collect();
    let licences = match licences.len() {
        0 => String::from("It has no licence file"),
        _ => format!("Its licence files say {}", Vec::from_iter(licences).join(", ")),
    };
    let pins = match findings.dependencies.lock_files.total {
        0 => String::from("has no lock file"),
        files => {
            format!("pins {} in {}", counted(findings.dependencies.different(), "package"), counted(files, "lock file"))
        }
    };
    let markers = counted(findings.markers.total, "marker");
    let secrets = match findings.possible_secrets.total {
        0 => String::from("Nothing in it looks like a secret."),
        total => format!("**{} should be looked at.**", counted(total, "possible secret")),
    };
    format!(
        "The tree has {size} ({}){mostly}. {licences}; it {pins}, and has {markers} of unfinished work. {secrets}",
        bytes(findings.bytes)
    )
}

fn possible_secrets(findings: &Findings) -> String {
    let secrets = &findings.possible_secrets;
    let rows = secrets.first.iter().map(|secret| {
        format!("| {} | {} | {} |", place(&secret.path, secret.line), secret.kind, code(&secret.redacted))
    });
    table("Possible secrets", "| Where | Kind | Starts with |\n|---|---|---|", rows) + &cut(secrets)
}

fn languages(findings: &Findings) -> String {
    let languages = findings.languages.ranked();
    let rows = languages.iter().map(|l| {
        let (files, lines, share) = (grouped(l.files), grouped(l.lines), share(l.lines, findings));
        format!("| {} | {files} | {lines} | {share} | {} |", l.language, bytes(l.bytes))
    });
    table("Languages", "| Language | Files | Lines | Share | Size |\n|---|--:|--:|--:|--:|", rows)
}

fn largest(findings: &Findings) -> String {
    let rows = findings.largest.iter().map(|file| format!("| {} | {} |", code(&file.path), bytes(file.bytes)));
    table("Largest files", "| File | Size |\n|---|--:|", rows)
}

fn licences(findings: &Findings) -> String {
    let rows = findings.licences.first.iter().map(|l| format!("| {} | {} |", code(&l.path), l.licence));
    table("Licences", "| File | Licence, as guessed |\n|---|---|", rows) + &cut(&findings.licences)
}

fn dependencies(findings: &Findings) -> String {
    let lock_files = &findings.dependencies.lock_files;
    let rows = lock_files
        .first
        .iter()
        .map(|file| format!("| {} | {} | {} |", code(&file.path), file.ecosystem, grouped(file.dependencies)));
    let header = "| Lock file | Ecosystem | Dependencies |\n|---|---|--:|";
    let locked = table("Dependencies", header, rows) + &cut(lock_files);
    let several = findings.dependencies.several_versions.several();
    let rows = several.iter().map(|package| {
        let versions: Vec<_> = package.versions.iter().map(|version| code(version)).collect();
        format!("| {} | {} | {} |", code(package.name), package.ecosystem, versions.join(", "))
    });
    let header = "| Package | Ecosystem | Versions |\n|---|---|---|";
    locked + "\n\n" + &table("Packages in several versions", header, rows)
}

fn markers(findings: &Findings) -> String {
    let markers = &findings.markers;
    let rows = markers.first.iter().map(|m| format!("| {} | {} |", place(&m.path, m.line), code(&m.text)));
    table("Unfinished work", "| Where | What |\n|---|---|", rows) + &cut(markers)
}

fn not_scanned(findings: &Findings) -> String {
    let rows = findings.skipped.iter().map(|(reason, count)| format!("| {reason} | {} |", grouped(*count)));
    let skipped = table("Not scanned", "| What | Count |\n|---|--:|", rows);
    let limit = bytes(SCANNED_MAX_BYTES);
    let note = format!("Files that are binary or larger than {limit} are counted above; the others here are not.");
    let unreadable = &findings.unreadable;
    let rows = unreadable.first.iter().map(|u| format!("| {} | {} |", code(&u.path), code(&u.reason)));
    let unreadable = table("Unreadable", "| Path | Why |\n|---|---|", rows) + &cut(unreadable);
    [skipped, note, unreadable].join("\n\n")
}

fn table(title: &str, header: &str, rows: impl Iterator<Item = String>) -> String {
    let rows: Vec<String> = rows.collect();
    if rows.is_empty() {
        return format!("## {title}\n\nNone.");
    }
    format!("## {title}\n\n{header}\n{}", rows.join("\n"))
}

/// Says so if a table does not show all.
fn cut<T>(sample: &Sample<T>) -> String {
    if sample.is_cut() { format!("\n\nThe first {LISTED_MAX} of {}.", grouped(sample.total)) } else { String::new() }
}

fn place(path: &str, line: u64) -> String {
    code(&format!("{path}:{line}"))
}

/// Quotes text of the repository so that nothing in it acts as Markdown: not as a link, not as a further column.
fn code(text: &str) -> String {
    let text = text.replace(char::is_control, " ").replace('`', "'").replace('|', "\\|");
    format!("`{text}`")
}

fn share(lines: u64, findings: &Findings) -> String {
    format!("{:.0} %", 100.0 * lines as f64 / findings.lines.max(1) as f64)
}

fn counted(count: u64, noun: &str) -> String {
    match count {
        0 => format!("no {noun}s"),
        1 => format!("1 {noun}"),
        _ => format!("{} {noun}s", grouped(count)),
    }
}

/// Writes 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", grouped(number / 1000), number % 1000) }
}

fn bytes(bytes: u64) -> String {
    let kib = bytes as f64 / 1024.0;
    match bytes {
        0..0x400 => format!("{bytes} B"),
        0x400..0x10_0000 => format!("{kib:.1} KiB"),
        _ => format!("{:.1} MiB", kib / 1024.0),
    }
}
