//! `palisade credential`.

use std::io::{Write as _, stdout};

use palisade_proto::v1;
use serde_json::{Value, json};

use super::{
    Client, Common, Failure,
    arguments::{Credential, Output},
    print,
};

/// Runs a subcommand.
pub async fn credential(command: Credential, common: &Common) -> Result<(), Failure> {
    let client = Client::connect(common, Vec::new()).await?;
    let done = run(&client, command, common).await;
    client.finish(done).await
}

async fn run(client: &Client, command: Credential, common: &Common) -> Result<(), Failure> {
    let mut credentials = client.credentials();
    match command {
        Credential::List => list(common, &all(client).await?.iter().collect::<Vec<_>>()),
        Credential::Show { credential } => {
            let request = v1::GetCredentialRequest { name: credential };
            show(common, &credentials.get_credential(request).await?.into_inner())
        }
        Credential::Revoke { credential } => {
            let request = v1::RevokeCredentialRequest { name: credential };
            list(common, &[&credentials.revoke_credential(request).await?.into_inner()])
        }
        Credential::Restore { credential } => {
            let request = v1::RestoreCredentialRequest { name: credential };
            list(common, &[&credentials.restore_credential(request).await?.into_inner()])
        }
    }
}

async fn all(client: &Client) -> Result<Vec<v1::Credential>, Failure> {
    let mut credentials = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListCredentialsRequest { page_token, ..Default::default() };
        let page = client.credentials().list_credentials(request).await?.into_inner();
        credentials.extend(page.credentials);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(credentials);
        }
    }
}

fn list(common: &Common, credentials: &[&v1::Credential]) -> Result<(), Failure> {
    print::rows(common, &["credential", "type", "state", "last used", "rules", "source"], credentials, |credential| {
        let cells = vec![
            credential.name.clone(),
            credential.r#type.clone(),
            state(credential).to_owned(),
            print::moment(&credential.last_attach_time),
            credential.rules.join(" "),
            print::one_line(&credential.source),
        ];
        (cells, to_json(credential))
    })?;
    Ok(())
}

fn show(common: &Common, credential: &v1::Credential) -> Result<(), Failure> {
    let mut stdout = stdout();
    if common.output == Output::Json {
        return Ok(writeln!(stdout, "{}", to_json(credential))?);
    }
    writeln!(stdout, "{}, {}, {}", credential.name, credential.r#type, state(credential))?;
    let read = match credential.version {
        0 => "not yet".to_owned(),
        1 => "once".to_owned(),
        version => format!("{version} values"),
    };
    for (name, value) in [
        ("source", &credential.source),
        ("labels", &credential.labels.join(" ")),
        ("rules", &credential.rules.join(" ")),
        ("read", &read),
        ("last used", &print::moment(&credential.last_attach_time)),
        ("failure", &credential.failure),
    ] {
        if !value.is_empty() {
            writeln!(stdout, "{name:12} {}", print::one_line(value))?;
        }
    }
    Ok(())
}

fn state(credential: &v1::Credential) -> &'static str {
    match (credential.revoked, credential.failure.is_empty()) {
        (true, _) => "revoked",
        (false, true) => "good",
        (false, false) => "failing",
    }
}

fn to_json(credential: &v1::Credential) -> Value {
    json!({
        "name": credential.name,
        "type": credential.r#type,
        "source": credential.source,
        "labels": credential.labels,
        "revoked": credential.revoked,
        "version": credential.version,
        "last_attach_time": print::moment(&credential.last_attach_time),
        "failure": credential.failure,
        "rules": credential.rules,
    })
}
