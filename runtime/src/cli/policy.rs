//! `palisade policy`.

use std::{
    fs,
    io::{Write as _, stdout},
    path::{Path, PathBuf},
    process::ExitCode,
};

use palisade_proto::v1;
use serde_json::{Value, json};
use tonic::Status;
use tonic_types::StatusExt as _;

use super::{
    Client, Common, Failure,
    arguments::{Output, Policy},
    print,
};
use crate::policy::{BYTES_MAX, cases};

/// Runs a subcommand. The exit code says whether every case passed.
pub async fn policy(command: Policy, common: &Common) -> Result<ExitCode, Failure> {
    // What is to be checked or tested does not have to be valid, and so decides nothing yet.
    let checking = matches!(command, Policy::Check { .. } | Policy::Test { .. });
    let under_test = common.policies.clone().filter(|_| checking);
    let common = &if checking { Common { policies: None, ..common.clone() } } else { common.clone() };
    let client = Client::connect(common, Vec::new()).await?;
    let done = match command {
        Policy::Test { cases } => test(&client, &cases, under_test.as_deref(), common).await,
        command => run(&client, command, common).await.map(|()| ExitCode::SUCCESS),
    };
    client.finish(done).await
}

async fn run(client: &Client, command: Policy, common: &Common) -> Result<(), Failure> {
    match command {
        Policy::Show { schema } => {
            let set = client.policies().get_policies(v1::GetPoliciesRequest {}).await?.into_inner();
            // The names of arguments are the tools' own words.
            if schema { Ok(write!(stdout(), "{}", print::safe(&set.schema))?) } else { show(common, &set) }
        }
        Policy::Check { paths } => {
            let files = files(&paths)?;
            let set = client.policies().check_policies(v1::CheckPoliciesRequest { files }).await;
            let set = set.map_err(invalid)?.into_inner();
            say_warnings(&set);
            match common.output {
                Output::Json => writeln!(stdout(), "{}", to_json(&set))?,
                Output::Table => eprintln!("valid: {} policies, revision {}", set.policies.len(), set.revision),
            }
            Ok(())
        }
        Policy::Reload => {
            let set = client.policies().reload_policies(v1::ReloadPoliciesRequest {}).await.map_err(invalid)?;
            show(common, &set.into_inner())
        }
        Policy::Explain { decision } => {
            let request = v1::ExplainDecisionRequest { decision };
            explain(common, &client.policies().explain_decision(request).await?.into_inner())
        }
        Policy::Test { .. } => Ok(()),
    }
}

async fn test(client: &Client, cases: &Path, dir: Option<&Path>, common: &Common) -> Result<ExitCode, Failure> {
    let files = dir.map(|dir| files(&[dir.to_owned()])).transpose()?.unwrap_or_default();
    let request = v1::TestPoliciesRequest { files, cases: read(cases, cases::BYTES_MAX)? };
    let tested = client.policies().test_policies(request).await.map_err(invalid)?.into_inner();
    for case in &tested.results {
        match common.output {
            Output::Json => writeln!(stdout(), "{}", case_json(case))?,
            Output::Table => show_case(case)?,
        }
    }
    let passed = tested.results.iter().filter(|case| case.passed).count();
    if !common.quiet && common.output == Output::Table {
        eprintln!("{passed} of {} cases passed", tested.results.len());
    }
    Ok(if passed == tested.results.len() { ExitCode::SUCCESS } else { ExitCode::from(Failure::STEP) })
}

fn show_case(case: &v1::CaseResult) -> Result<(), Failure> {
    let mut stdout = stdout();
    writeln!(stdout, "{} {}", if case.passed { "PASS" } else { "FAIL" }, print::one_line(&case.name))?;
    if !case.passed {
        let by = if case.policies.is_empty() { String::new() } else { format!(" by {}", case.policies.join(", ")) };
        writeln!(stdout, "     {}{}", if case.allowed { "allowed" } else { "denied" }, print::one_line(&by))?;
        for line in print::safe(&case.explanation).lines() {
            writeln!(stdout, "     {line}")?;
        }
    }
    Ok(())
}

fn show(common: &Common, set: &v1::PolicySet) -> Result<(), Failure> {
    if !set.refused.is_empty() {
        eprintln!("the newest files are refused, and these older policies stay: {}", print::safe(&set.refused));
    }
    say_warnings(set);
    let mut stdout = stdout();
    if common.output == Output::Json {
        return Ok(writeln!(stdout, "{}", to_json(set))?);
    }
    writeln!(stdout, "revision {}, mode {}\n", set.revision, mode(set))?;
    let policies: Vec<_> = set.policies.iter().collect();
    print::rows(common, &["policy", "effect", "file", "description"], &policies, |policy| {
        let cells = [&policy.id, &policy.effect, &policy.file, &policy.description];
        (cells.map(|text| print::one_line(text)).into(), Value::Null)
    })?;
    Ok(())
}

fn say_warnings(set: &v1::PolicySet) {
    for warning in &set.warnings {
        eprintln!("warning: {}", print::safe(warning));
    }
}

fn explain(common: &Common, explained: &v1::Explanation) -> Result<(), Failure> {
    let mut stdout = stdout();
    if common.output == Output::Json {
        return Ok(writeln!(stdout, "{}", explanation_json(explained))?);
    }
    let v1::Explanation { verdict, question, policies, revision, code, rule, alternative, .. } = explained;
    let by = match (policies.is_empty(), revision.is_empty()) {
        (false, _) => policies.join(", "),
        (true, false) => "none permitted it".into(),
        (true, true) => "were not asked".into(),
    };
    let rows = [
        ("decision", &format!("{}, record {}", explained.decision, explained.sequence)),
        ("asked", question),
        ("verdict", &[verdict.as_str(), code].join(" ")),
        ("policies", &by),
        ("revision", revision),
        ("rule", rule),
    ];
    // Of a forbid, what holds is told; of a permit, what does not.
    let missing = if code == "POLICY_FORBIDS" { "because" } else { "missing" };
    let missing = explained.missing.iter().map(|text| (missing, text));
    let denied = explained.verdict != "allow";
    // A policy's denial says the same, piece by piece; one of the manifest or the budget has nothing but words.
    let words = (denied && explained.missing.is_empty()).then_some(("why", &explained.message));
    let rest = [("instead", alternative)];
    for (name, value) in rows.into_iter().chain(missing).chain(words).chain(rest) {
        if !value.trim().is_empty() {
            writeln!(stdout, "{name:10} {}", print::one_line(value.trim()))?;
        }
    }
    if !explained.addition.is_empty() {
        // A comment says why there can be none.
        let is_policy = explained.addition.lines().any(|line| !line.trim_start().starts_with("//"));
        let title = if is_policy { "the smallest addition that would allow it, to review:\n" } else { "" };
        writeln!(stdout, "\n{title}{}", print::safe(explained.addition.trim_end()))?;
    }
    Ok(())
}

/// Reads policy files under the names by which a daemon that reads the same directory knows them.
fn files(paths: &[PathBuf]) -> Result<Vec<v1::PolicyFile>, Failure> {
    let mut files = Vec::new();
    let mut bytes = 0;
    for path in paths {
        let found = if path.is_dir() { of_directory(path)? } else { vec![path.clone()] };
        if found.is_empty() {
            return Err(Failure::usage(format!("`{}` has no *.cedar files", path.display())));
        }
        for file in found {
            let text = read(&file, BYTES_MAX)?;
            bytes += text.len();
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push(v1::PolicyFile { name, text });
        }
    }
    match bytes {
        0..=BYTES_MAX => Ok(files),
        _ => Err(Failure::usage(format!("the files have {bytes} bytes together; at most {BYTES_MAX} are possible"))),
    }
}

fn of_directory(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    // What the tenant takes of the egress rules stands beside its policies.
    let ours = |path: &PathBuf| {
        path.extension().is_some_and(|e| e == "cedar") || path.file_name().is_some_and(|name| name == "egress.toml")
    };
    let mut files: Vec<_> = entries.into_iter().filter(ours).collect();
    files.sort();
    Ok(files)
}

/// Reads a text that must fit into a message.
fn read(file: &Path, bytes_max: usize) -> Result<String, Failure> {
    let unreadable = |e| Failure::new(Failure::NOT_FOUND, format!("cannot read `{}`: {e}", file.display()));
    let bytes = fs::metadata(file).map_err(unreadable)?.len();
    if bytes > bytes_max as u64 {
        let file = file.display();
        return Err(Failure::usage(format!("`{file}` has {bytes} bytes; at most {bytes_max} are possible")));
    }
    fs::read_to_string(file).map_err(unreadable)
}

/// Says every problem on a line of its own.
fn invalid(status: Status) -> Failure {
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    if reason != "POLICY_INVALID" {
        return status.into();
    }
    let violations = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    let told: Vec<_> = violations.iter().map(|violation| violation.description.as_str()).collect();
    let told = if told.is_empty() { status.message().to_owned() } else { told.join("\n") };
    for problem in told.lines() {
        eprintln!("{}", print::safe(problem));
    }
    Failure::usage("the policies are not valid (POLICY_INVALID)")
}

fn mode(set: &v1::PolicySet) -> String {
    set.mode().as_str_name().to_lowercase()
}

fn to_json(set: &v1::PolicySet) -> Value {
    let policies = set.policies.iter().map(|policy| {
        json!({
            "id": policy.id, "effect": policy.effect, "file": policy.file, "description": policy.description,
            "text": policy.text,
        })
    });
    json!({
        "revision": set.revision,
        "mode": mode(set),
        "policies": policies.collect::<Vec<_>>(),
        "warnings": set.warnings,
        "refused": set.refused,
    })
}

fn case_json(case: &v1::CaseResult) -> Value {
    json!({
        "name": case.name, "passed": case.passed, "allowed": case.allowed, "policies": case.policies,
        "explanation": case.explanation,
    })
}

fn explanation_json(explained: &v1::Explanation) -> Value {
    json!({
        "decision": explained.decision,
        "sequence": explained.sequence,
        "verdict": explained.verdict,
        "question": explained.question,
        "policies": explained.policies,
        "revision": explained.revision,
        "code": explained.code,
        "message": explained.message,
        "rule": explained.rule,
        "missing": explained.missing,
        "alternative": explained.alternative,
        "addition": explained.addition,
    })
}
