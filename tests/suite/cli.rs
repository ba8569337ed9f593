use std::{
    io::Write as _,
    process::{Output, Stdio},
};

use serde_json::Value;

use crate::harness::{Daemon, SEEDED, guest, palisade, root};

fn said(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into(), String::from_utf8_lossy(&output.stderr).into())
}

/// A data directory of one test's own.
fn with_data(arguments: &[&str]) -> (tempfile::TempDir, Output) {
    let dir = tempfile::tempdir().unwrap();
    let output = palisade().args(arguments).env("PALISADE_DATA_DIR", dir.path()).stdin(Stdio::null()).output().unwrap();
    (dir, output)
}

#[test]
fn run_runs_a_file_without_a_daemon_data_on_stdout_the_rest_on_stderr() {
    let probe = guest("probe");
    let input = r#"{"acts":[{"log":{"message":"working","count":1}},{"output":3}]}"#;
    let (_dir, output) = with_data(&["run", probe.to_str().unwrap(), "--input", input]);
    let (stdout, stderr) = said(&output);
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stdout, "{\"outcomes\":[\"ok: done\",\"ok: xxx\"]}\n");
    assert!(stderr.contains("working") && stderr.contains("fuel"), "{stderr}");
}

#[test]
fn run_mounts_a_directory_read_only_unless_told_otherwise() {
    let tree = tempfile::tempdir().unwrap();
    std::fs::write(tree.path().join("file"), "content").unwrap();
    let probe = guest("probe");
    let input = r#"{"acts":[{"read":"/in/file"},{"write":{"path":"/in/new","bytes":1}}]}"#;
    for (mode, written) in [("", false), (":ro", false), (":rw", true)] {
        let mount = format!("{}:/in{mode}", tree.path().display());
        let (_dir, output) = with_data(&["run", probe.to_str().unwrap(), "-q", "--input", input, "--mount", &mount]);
        let (stdout, stderr) = said(&output);
        assert!(stdout.contains("ok: content"), "{mode} {stdout} {stderr}");
        assert_eq!(tree.path().join("new").exists(), written, "{mode}");
    }
}

#[test]
fn run_says_by_its_exit_code_how_the_step_ended() {
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = palisade();
        command.args(["run", "-q", "--data-dir"]).arg(dir.path()).args(arguments).stdin(Stdio::null());
        let output = command.output().unwrap();
        (output.status.code().unwrap(), said(&output).1)
    };
    let (probe, command) = (guest("probe"), guest("command"));
    let (probe, command) = (probe.to_str().unwrap(), command.to_str().unwrap());
    assert_eq!(run(&[probe, "--input", r#"{"acts":[]}"#]).0, 0);
    assert_eq!(run(&[probe, "--input", r#"{"acts":["panic"]}"#]).0, 5);
    assert_eq!(run(&[probe, "--input", r#"{"acts":["spin"]}"#, "--fuel", "1000000"]).0, 5);
    assert_eq!(run(&[probe, "--input", r#"{"acts":["spin"]}"#, "--timeout", "200ms", "--fuel", "900000000000"]).0, 6);
    assert_eq!(run(&[command, "--", "3"]).0, 5);
    assert_eq!(run(&[command, "--exit-code", "--", "3"]).0, 1);
    assert_eq!(run(&["nobody"]).0, 3);
    let (code, error) = run(&[probe, "--fuel", "-5"]);
    assert!(code == 2 && error.contains("limits.fuel") && error.contains("LIMIT_INVALID"), "{error}");
    let (code, error) = run(&[probe, "--memory", "many"]);
    assert!(code == 2 && error.contains("KiB"), "{error}");
    let (code, error) = run(&[probe, "--mount", "src:/in"]);
    assert!(code == 2 && error.contains("begins with"), "{error}");
    let (code, error) = run(&[probe, "--endpoint", "unix:/nowhere"]);
    assert!(code == 7 && error.contains("palisade serve"), "{error}");
}

#[test]
fn run_passes_standard_input_arguments_and_environment() {
    let dir = tempfile::tempdir().unwrap();
    let command = guest("command");
    let mut child = palisade()
        .args(["run", "-q", "--input", "-", "--env", "A=b", "--data-dir", dir.path().to_str().unwrap()])
        .args([command.to_str().unwrap(), "--", "0", "--flag"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"typed").unwrap();
    let stdout = said(&child.wait_with_output().unwrap()).0;
    assert_eq!(stdout, "args [\"0\", \"--flag\"]\nenv [(\"A\", \"b\")]\nstdin \"typed\"\n");
}

#[tokio::test]
async fn json_output_is_one_message_a_line() {
    let daemon = Daemon::start().await;
    let input = r#"{"acts":[{"log":{"message":"m","count":2}}]}"#;
    let output = palisade()
        .args(["run", "probe", "-o", "json", "--input", input, "--endpoint", &daemon.endpoint()])
        .output()
        .unwrap();
    let lines: Vec<Value> = said(&output).0.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    assert!(lines[0]["accepted"]["step"].as_str().unwrap().starts_with("steps/"));
    assert_eq!(lines[2]["event"]["sequence"], 2);
    assert_eq!(lines[3]["result"]["outcome"], "succeeded");
    assert!(lines[3]["result"]["usage"]["fuel"].as_i64().unwrap() > 0);
}

#[tokio::test]
async fn components_and_workspaces_are_managed_from_the_shell() {
    let daemon = Daemon::start().await;
    let cli = |arguments: &[&str]| {
        let output =
            palisade().args(arguments).args(["--endpoint", &daemon.endpoint()]).stdin(Stdio::null()).output().unwrap();
        let (stdout, stderr) = said(&output);
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        stdout
    };
    assert!(
        cli(&["component", "push", guest("repo_auditor").to_str().unwrap(), "--alias", "auditor"]).contains("auditor")
    );
    assert_eq!(cli(&["component", "list", "-o", "json"]).lines().count(), SEEDED + 1);
    assert!(cli(&["component", "inspect", "auditor"]).contains("palisade:agent/run@0.1.0"));
    cli(&["component", "delete", "auditor"]);
    assert!(cli(&["workspace", "create", "w", "--bytes", "1MiB"]).contains("1048576"));
    let this = root().join("tests/suite/cli.rs");
    cli(&["workspace", "put", "w", this.to_str().unwrap(), "in/cli.rs"]);
    assert!(cli(&["workspace", "files", "w"]).contains("in/cli.rs"));
    assert!(
        cli(&["workspace", "get", "w", "in/cli.rs"]).contains("components_and_workspaces_are_managed_from_the_shell")
    );
    cli(&["workspace", "delete", "workspaces/w"]);
    assert_eq!(cli(&["workspace", "list", "-o", "json"]), "");
    assert!(cli(&["info"]).contains("landlock"));
}

#[test]
fn a_guests_words_do_not_drive_the_terminal() {
    let probe = guest("probe");
    let input =
        r#"{"acts":[{"log":{"message":"\u001b[2Jgone","count":1}},{"fail":{"code":"\u001b[31m","message":"\u0007"}}]}"#;
    let (_dir, output) = with_data(&["run", probe.to_str().unwrap(), "--input", input]);
    assert!(!said(&output).1.contains(['\u{1b}', '\u{7}']), "{:?}", said(&output).1);
}

#[test]
fn a_components_names_do_not_drive_the_terminal_either() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let evil =
        wat::parse_str("(module (import \"\\1b]0;owned\\07\" \"x\" (func)) (func (export \"_start\")))").unwrap();
    std::fs::write(&file, evil).unwrap();
    let (_dir, output) = with_data(&["component", "push", file.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).1.contains("owned") && !said(&output).1.contains(['\u{1b}', '\u{7}']),
        "{:?}",
        said(&output).1
    );
}

#[test]
fn config_check_and_show_and_completions_work() {
    let sample = palisade().args(["config", "show", "--sample"]).output().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, &sample.stdout).unwrap();
    assert!(palisade().args(["config", "check"]).arg(file.path()).status().unwrap().success());
    std::fs::write(&file, "[limits]\nfule = 1\n").unwrap();
    let refused = palisade().args(["config", "check"]).arg(file.path()).output().unwrap();
    assert!(refused.status.code() == Some(78) && said(&refused).1.contains("fule"));
    let shown = palisade().args(["config", "show"]).output().unwrap();
    assert!(said(&shown).0.contains("concurrent_steps"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(said(&palisade().args(["completions", shell]).output().unwrap()).0.contains("palisade"));
    }
}

#[test]
fn help_has_examples_for_what_people_type_most() {
    for command in [&[][..], &["run"], &["serve"], &["component", "push"], &["workspace", "put"], &["new", "step"]] {
        let output = palisade().args(command).arg("--help").output().unwrap();
        assert!(said(&output).0.contains("Example"), "{command:?}");
    }
    assert!(!said(&palisade().arg("--help").output().unwrap()).0.contains("compile"), "the hidden roles stay hidden");
}

#[test]
fn a_reader_that_has_seen_enough_ends_a_command_quietly() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    for arguments in [&["config", "show", "--sample"][..], &["doctor"]] {
        let output = palisade().args(arguments).stdout(writer.try_clone().unwrap()).output().unwrap();
        assert_eq!((output.status.code(), said(&output).1), (Some(141), String::new()), "{arguments:?}");
    }
}
