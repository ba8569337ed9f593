//! `palisade agent learn`: reads what an agent did, and drafts the least that would have allowed it.

use std::{
    fs::File,
    io::{self, Write as _, stdout},
    path::Path,
};

use palisade_proto::v1::{self, policy_set::Mode};
use serde_json::json;

use super::{Client, Common, Failure, agent, arguments::Output, audit, print, record};
use crate::{
    learn::{Basis, Draft, Learner, NoDraft},
    manifest,
};

/// Drafts a manifest and policies from the records that `filter` lets through.
pub async fn learn(
    client: &Client,
    agent: &str,
    filter: v1::RecordFilter,
    all_versions: bool,
    dir: Option<&Path>,
    common: &Common,
) -> Result<(), Failure> {
    let found = client.agents().get_agent(v1::GetAgentRequest { name: agent.to_owned() }).await?.into_inner();
    let manifest = manifest::parse(&found.manifest).map_err(Failure::other)?;
    let taken: Vec<String> =
        agent::all(client).await?.iter().filter_map(|other| version_of(other, &manifest)).collect();
    let policies = client.policies().get_policies(v1::GetPoliciesRequest {}).await?.into_inner();

    let only = (!all_versions).then(|| manifest.version.as_str());
    let mut learner = Learner::new(manifest.name.as_str(), only);
    let kinds = ["step", "intent", "outcome", "denial", "result"].map(String::from).into();
    let filter = v1::RecordFilter { kinds, agent: manifest.name.to_string(), ..filter };
    audit::each(client, filter, |found| {
        learner.take(&record::read(&found)?);
        Ok(())
    })
    .await?;

    let steps = learner.steps();
    let component = print::digest(&found.component);
    let observes = policies.mode() == Mode::Observe;
    let basis = Basis { manifest: &manifest, component: &component, taken: &taken, observes };
    let draft = learner.draft(&basis).map_err(|error| match error {
        NoDraft::NoStep => Failure::new(
            Failure::NOT_FOUND,
            format!("no step of `{}` is among the records: let it work, or try --all-versions", found.name),
        ),
        error => Failure::other(error),
    })?;
    match dir {
        Some(dir) => write(dir, manifest.name.as_str(), &draft, common),
        None => put(manifest.name.as_str(), &draft, steps, common),
    }
}

/// Returns the version of `other`, if it is one of this manifest's agent.
fn version_of(other: &v1::Agent, manifest: &manifest::Manifest) -> Option<String> {
    let (name, version) = other.name.strip_prefix("agents/")?.split_once('@')?;
    (name == manifest.name.as_str()).then(|| version.to_owned())
}

fn put(name: &str, draft: &Draft, steps: u64, common: &Common) -> Result<(), Failure> {
    let Draft { manifest, policy, warnings } = draft;
    let mut stdout = stdout();
    match common.output {
        Output::Json => {
            let json = json!({ "steps": steps, "manifest": manifest, "policy": policy, "warnings": warnings });
            writeln!(stdout, "{json}")?;
        }
        Output::Table => {
            let rule = "-".repeat(20);
            writeln!(stdout, "{rule} {name}.toml {rule}\n{}", print::safe(manifest))?;
            write!(stdout, "{rule} {name}.cedar {rule}\n{}", print::safe(policy))?;
        }
    }
    Ok(())
}

/// Writes both files, and says what to do with them.
fn write(dir: &Path, name: &str, draft: &Draft, common: &Common) -> Result<(), Failure> {
    let files = [("toml", &draft.manifest), ("cedar", &draft.policy)];
    let files = files.map(|(extension, text)| (dir.join(format!("{name}.{extension}")), text));
    // A draft never takes the place of what somebody has reviewed.
    if let Some((file, _)) = files.iter().find(|(file, _)| file.exists()) {
        return Err(Failure::usage(format!("`{}` is there already: move it away", file.display())));
    }
    for (file, text) in &files {
        let written = File::create_new(file).and_then(|mut made| made.write_all(text.as_bytes()));
        written.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Failure::new(Failure::NOT_FOUND, format!("there is no `{}`", dir.display())),
            _ => Failure::other(format!("cannot write `{}`: {error}", file.display())),
        })?;
    }
    if !common.quiet {
        for warning in &draft.warnings {
            eprintln!("not in the draft: {}", print::safe(warning));
        }
        eprintln!("review `{0}/{name}.toml` and `{0}/{name}.cedar`", dir.display());
    }
    Ok(())
}
