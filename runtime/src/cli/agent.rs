//! `palisade agent`.

use std::{
    fs,
    io::{Write as _, stdout},
    path::Path,
};

use palisade_proto::v1;
use serde_json::{Value, json};
use tonic_types::StatusExt as _;

use super::{
    Client, Common, Failure,
    arguments::{Agent, Output},
    learn::learn,
    print,
};
use crate::manifest::SAMPLE;

/// Agents of one page: so many of the largest fit into a message.
const PAGE: i32 = 24;

/// Runs a subcommand.
pub async fn agent(command: Agent, common: &Common) -> Result<(), Failure> {
    if let Agent::Sample = command {
        return Ok(write!(stdout(), "{SAMPLE}")?);
    }
    let client = Client::connect(common, Vec::new()).await?;
    let done = run(&client, command, common).await;
    client.finish(done).await
}

async fn run(client: &Client, command: Agent, common: &Common) -> Result<(), Failure> {
    match command {
        Agent::Register { file, allow_wider, dry_run } => {
            let agent = register(client, &file, allow_wider, dry_run).await?;
            if !dry_run {
                list(common, &[&agent])?;
            }
            Ok(())
        }
        Agent::List => list(common, &all(client).await?.iter().collect::<Vec<_>>()),
        Agent::Get { agent } => {
            let agent = client.agents().get_agent(v1::GetAgentRequest { name: agent }).await?.into_inner();
            show(common, &agent)
        }
        Agent::Diff { from, to } => {
            let compared = client.agents().diff_agents(v1::DiffAgentsRequest { from, to }).await?.into_inner();
            let difference = compared.difference.unwrap_or_default();
            match common.output {
                Output::Json => {
                    writeln!(stdout(), "{}", json!({ "added": difference.added, "removed": difference.removed }))?
                }
                Output::Table => {
                    for line in lines(&difference) {
                        writeln!(stdout(), "{line}")?;
                    }
                }
            }
            Ok(())
        }
        Agent::Learn { agent, since, job, all_versions, write } => {
            let filter = v1::RecordFilter { since, job: job.unwrap_or_default(), ..Default::default() };
            learn(client, &agent, filter, all_versions, write.as_deref(), common).await
        }
        Agent::Disable { agent } => set_disabled(client, agent, true, common).await,
        Agent::Enable { agent } => set_disabled(client, agent, false, common).await,
        Agent::Sample => Ok(()),
    }
}

/// Shows what would change, and then registers.
async fn register(client: &Client, file: &Path, allow_wider: bool, dry_run: bool) -> Result<v1::Agent, Failure> {
    let manifest = fs::read_to_string(file)
        .map_err(|e| Failure::new(Failure::NOT_FOUND, format!("cannot read `{}`: {e}", file.display())))?;
    let asked = v1::RegisterAgentRequest { manifest, allow_wider, validate_only: true };
    let checked = client.agents().register_agent(asked.clone()).await?.into_inner();
    // Whoever accepts a wider reach has seen it: this is no progress that `--quiet` leaves out.
    for line in lines(&checked.difference.unwrap_or_default()) {
        eprintln!("{line}");
    }
    let agent = checked.agent.unwrap_or_default();
    if dry_run {
        return Ok(agent);
    }
    let registered = client.agents().register_agent(v1::RegisterAgentRequest { validate_only: false, ..asked }).await;
    let registered = registered.map_err(|status| {
        let wider = status.get_details_error_info().is_some_and(|info| info.reason == "REACH_WIDER");
        if !wider {
            return status.into();
        }
        Failure::new(
            Failure::NOT_ALLOWED,
            format!(
                "`{}` reaches further than the newest version, by the lines with + above: accept that with \
                 --allow-wider (REACH_WIDER)",
                agent.name
            ),
        )
    })?;
    Ok(registered.into_inner().agent.unwrap_or_default())
}

async fn set_disabled(client: &Client, name: String, disabled: bool, common: &Common) -> Result<(), Failure> {
    let request = v1::SetAgentDisabledRequest { name, disabled };
    let agent = client.agents().set_agent_disabled(request).await?.into_inner();
    list(common, &[&agent])
}

/// Returns every version of every agent.
pub async fn all(client: &Client) -> Result<Vec<v1::Agent>, Failure> {
    let mut agents = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListAgentsRequest { page_size: PAGE, page_token };
        let page = client.agents().list_agents(request).await?.into_inner();
        agents.extend(page.agents);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(agents);
        }
    }
}

fn list(common: &Common, agents: &[&v1::Agent]) -> Result<(), Failure> {
    print::rows(common, &["agent", "state", "owner", "component", "description"], agents, |agent| {
        let cells = vec![
            agent.name.clone(),
            print::state(agent.disabled).to_owned(),
            print::one_line(&agent.owner),
            print::digest(&agent.component),
            print::one_line(&agent.description),
        ];
        (cells, to_json(agent))
    })?;
    Ok(())
}

fn show(common: &Common, agent: &v1::Agent) -> Result<(), Failure> {
    if common.output == Output::Json {
        let mut json = to_json(agent);
        json["manifest"] = agent.manifest.clone().into();
        return Ok(writeln!(stdout(), "{json}")?);
    }
    let mut stdout = stdout();
    writeln!(stdout, "{}, {}", agent.name, print::state(agent.disabled))?;
    for (name, value) in [
        ("owner", &agent.owner),
        ("description", &agent.description),
        ("labels", &agent.labels.join(" ")),
        ("registered", &print::moment(&agent.create_time)),
        ("manifest", &agent.manifest_digest),
    ] {
        if !value.is_empty() {
            writeln!(stdout, "{name:12} {}", print::one_line(value))?;
        }
    }
    writeln!(stdout, "\nmay reach:")?;
    for line in &agent.reach {
        writeln!(stdout, "  {}", print::one_line(line))?;
    }
    Ok(())
}

/// Returns a difference in reach for people, what comes first.
fn lines(difference: &v1::ReachDifference) -> impl Iterator<Item = String> {
    let added = difference.added.iter().map(|line| format!("+ {}", print::one_line(line)));
    let removed = difference.removed.iter().map(|line| format!("- {}", print::one_line(line)));
    added.chain(removed)
}

fn to_json(agent: &v1::Agent) -> Value {
    json!({
        "name": agent.name,
        "component": agent.component,
        "owner": agent.owner,
        "description": agent.description,
        "labels": agent.labels,
        "manifest_digest": agent.manifest_digest,
        "reach": agent.reach,
        "disabled": agent.disabled,
        "create_time": print::moment(&agent.create_time),
    })
}
