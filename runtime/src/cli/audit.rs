//! `palisade audit`: the journal, read over the wire. `verify` needs no daemon and is in [`super::verify`].

use std::{
    io::{self, Write as _, stdout},
    path::Path,
    process::ExitCode,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use palisade_proto::v1;
use serde_json::{Value, json};
use tokio::signal::ctrl_c;

use super::{
    Client, Common, Failure,
    arguments::{Audit, Filter, Output},
    print, record,
    timeline::timeline,
    verify,
};
use crate::journal::{Checkpoint, Record};

/// Records of one page.
const PAGE: u32 = 1_000;

/// Records that `tail` begins with.
const TAIL: u32 = 10;

/// Steps that are searched for one of which only the beginning is given.
const STEPS_SEARCHED: usize = 10_000;

/// Digits of a step's whole id.
const STEP_DIGITS: usize = 32;

/// Runs a subcommand. The exit code says whether an export was found good.
pub async fn audit(command: Audit, common: &Common) -> Result<ExitCode, Failure> {
    if let Audit::Verify { file, key, checkpoint } = command {
        return verify::verify(&file, &key, checkpoint.as_deref(), common);
    }
    let client = Client::connect(common, Vec::new()).await?;
    let done = run(&client, command, common).await;
    client.finish(done).await
}

async fn run(client: &Client, command: Audit, common: &Common) -> Result<ExitCode, Failure> {
    match command {
        Audit::List { filter, last, all } => {
            let filter = contract(client, filter).await?;
            heading(common)?;
            match all {
                true => each(client, filter, |record| put(&record, common)).await?,
                false => put_all(&newest(client, filter, last).await?, common)?,
            }
        }
        Audit::Tail { filter, follow, after } => {
            if follow && common.endpoint.is_none() {
                return Err(Failure::usage("`-f` follows a daemon: say which one with --endpoint"));
            }
            let filter = contract(client, filter).await?;
            return tail(client, filter, follow, after, common).await;
        }
        Audit::Show { sequence } => show(client, sequence, common).await?,
        Audit::Timeline { step, without_payloads } => {
            let step = find_step(client, step.as_deref().unwrap_or_default()).await?;
            let mut records = Vec::new();
            let filter = v1::RecordFilter { step, ..Default::default() };
            each(client, filter, |record| {
                records.push(record);
                Ok(())
            })
            .await?;
            match common.output {
                Output::Json => put_all(&records, common)?,
                Output::Table => timeline(client, &records, !without_payloads).await?,
            }
        }
        Audit::Payload { digest } => {
            let payload = client.audit().get_payload(v1::GetPayloadRequest { digest }).await?.into_inner();
            if payload.redacted && !common.quiet {
                eprintln!("values were replaced by `[redacted]`: the digest is that of what was there before");
            }
            stdout().write_all(&payload.content)?;
            stdout().flush()?;
        }
        Audit::Forget { digest, reason } => {
            let request = v1::DeletePayloadRequest { digest, reason };
            let deleted = client.audit().delete_payload(request).await?.into_inner();
            match common.output {
                Output::Json => writeln!(stdout(), "{}", json!({ "sequence": deleted.sequence }))?,
                Output::Table => eprintln!("deleted: record {} says so", deleted.sequence),
            }
        }
        Audit::Checkpoint { key } => checkpoint(client, key.as_deref(), common).await?,
        Audit::Key => {
            let signed = client.audit().get_checkpoint(v1::GetCheckpointRequest {}).await?.into_inner();
            match common.output {
                Output::Json => writeln!(stdout(), "{}", json!({ "public_key": signed.public_key }))?,
                Output::Table => writeln!(stdout(), "{}", signed.public_key)?,
            }
        }
        Audit::Export { from, without_payloads, output_file } => {
            let from = i64::try_from(from).map_err(|_| Failure::usage("`--from` is too large"))?;
            let request = v1::ExportRecordsRequest { from, without_payloads };
            export(client, request, output_file.as_deref()).await?;
        }
        Audit::Verify { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

async fn tail(
    client: &Client,
    filter: v1::RecordFilter,
    follow: bool,
    after: Option<u64>,
    common: &Common,
) -> Result<ExitCode, Failure> {
    let after = match after {
        Some(after) => i64::try_from(after).map_err(|_| Failure::usage("`--after` is too large"))?,
        None => {
            let newest = newest(client, filter.clone(), TAIL).await?;
            heading(common)?;
            put_all(&newest, common)?;
            newest.last().map_or(0, |record| record.sequence)
        }
    };
    if !follow {
        return Ok(ExitCode::SUCCESS);
    }
    let request = v1::StreamRecordsRequest { filter: Some(filter), after };
    let mut records = client.audit().stream_records(request).await?.into_inner();
    let following = async {
        while let Some(record) = records.message().await? {
            put(&record, common)?;
        }
        Err(Failure::new(Failure::UNAVAILABLE, "the daemon stopped"))
    };
    tokio::select! {
        ended = following => ended,
        _ = ctrl_c() => Ok(ExitCode::from(130)),
    }
}

async fn show(client: &Client, sequence: u64, common: &Common) -> Result<(), Failure> {
    let found = one(client, sequence).await?;
    let shown = record::read(&found)?;
    let mut payloads = Vec::new();
    for note in notes(&shown) {
        payloads.push((note, kept(client, note).await?));
    }
    let value: Value = serde_json::from_str(&found.canonical).map_err(Failure::other)?;
    let mut stdout = stdout();
    if common.output == Output::Json {
        let payloads: Vec<_> =
            payloads.iter().map(|(note, payload)| payload_json(note, payload.as_ref().map(|p| &*p.content))).collect();
        let json = json!({ "hash": found.hash, "record": value, "payloads": payloads });
        return Ok(writeln!(stdout, "{json}")?);
    }
    writeln!(stdout, "record {}, {}, hash {}", found.sequence, record::time(shown.time_ms), found.hash)?;
    writeln!(stdout, "{}", print::safe(&serde_json::to_string_pretty(&value).map_err(Failure::other)?))?;
    for (note, payload) in payloads {
        let digest = note["digest"].as_str().unwrap_or_default();
        let media_type = print::one_line(note["media_type"].as_str().unwrap_or_default());
        writeln!(stdout, "\npayload {}, {} bytes, {media_type}", print::one_line(digest), note["size"])?;
        match &payload {
            None if note["kept"] == "none" => writeln!(stdout, "was not kept")?,
            None => writeln!(stdout, "was deleted since")?,
            Some(payload) => match print::readable(&payload.content) {
                Some(text) => writeln!(stdout, "{text}")?,
                None => writeln!(stdout, "is no text: `palisade audit payload {digest}` writes it")?,
            },
        }
    }
    Ok(())
}

async fn checkpoint(client: &Client, key: Option<&str>, common: &Common) -> Result<(), Failure> {
    let signed = client.audit().get_checkpoint(v1::GetCheckpointRequest {}).await?.into_inner();
    if let Some(key) = key {
        Checkpoint::open(&signed.text, &verify::key(key)?)
            .map_err(|e| Failure::new(Failure::STEP, format!("the checkpoint does not verify: {e}")))?;
    }
    match common.output {
        Output::Json => {
            writeln!(stdout(), "{}", json!({ "text": signed.text, "public_key": signed.public_key }))?;
        }
        Output::Table => write!(stdout(), "{}", signed.text)?,
    }
    Ok(())
}

async fn export(client: &Client, request: v1::ExportRecordsRequest, file: Option<&Path>) -> Result<(), Failure> {
    let mut chunks = client.audit().export_records(request).await?.into_inner();
    let Some(file) = file else {
        while let Some(chunk) = chunks.message().await? {
            stdout().write_all(&chunk.data)?;
        }
        return Ok(stdout().flush()?);
    };
    let unwritable = |e: io::Error| Failure::other(format!("cannot write `{}`: {e}", file.display()));
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut written = tempfile::NamedTempFile::new_in(dir).map_err(unwritable)?;
    while let Some(chunk) = chunks.message().await? {
        written.write_all(&chunk.data).map_err(unwritable)?;
    }
    written.as_file().sync_all().map_err(unwritable)?;
    written.persist(file).map_err(|e| unwritable(e.error))?;
    Ok(())
}

/// Returns what a record says about its payloads.
pub fn notes(record: &Record) -> impl Iterator<Item = &Value> {
    record.body.get("payloads").and_then(Value::as_array).into_iter().flatten()
}

/// Returns a payload, if its bytes are still there.
pub async fn kept(client: &Client, note: &Value) -> Result<Option<v1::Payload>, Failure> {
    if note["kept"] == "none" {
        return Ok(None);
    }
    let digest = note["digest"].as_str().unwrap_or_default().to_owned();
    match client.audit().get_payload(v1::GetPayloadRequest { digest }).await {
        Ok(payload) => Ok(Some(payload.into_inner())),
        Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
        Err(status) => Err(status.into()),
    }
}

/// Returns the filter as the contract has it.
async fn contract(client: &Client, filter: Filter) -> Result<v1::RecordFilter, Failure> {
    let step = match filter.step {
        Some(step) => find_step(client, &step).await?,
        None => String::new(),
    };
    Ok(v1::RecordFilter {
        kinds: filter.kind.iter().map(ToString::to_string).collect(),
        step,
        job: filter.job.unwrap_or_default(),
        agent: filter.agent.unwrap_or_default(),
        since: filter.since,
        until: filter.until,
    })
}

/// Returns the whole name of a step whose id begins so. Nothing means the newest step.
async fn find_step(client: &Client, beginning: &str) -> Result<String, Failure> {
    let beginning = beginning.strip_prefix("steps/").unwrap_or(beginning);
    if beginning.len() == STEP_DIGITS {
        return Ok(format!("steps/{beginning}"));
    }
    // A step that was not allowed to run has nothing but a denial.
    let kinds = vec!["step".into(), "denial".into()];
    let filter = v1::RecordFilter { kinds, ..Default::default() };
    let (mut page_token, mut searched, mut found) = (String::new(), 0, None::<String>);
    while searched < STEPS_SEARCHED {
        let page = page(client, filter.clone(), true, PAGE, page_token).await?;
        searched += page.records.len();
        for record in &page.records {
            let Some(step) = record::read(record)?.step else { continue };
            if !step.strip_prefix("steps/").is_some_and(|id| id.starts_with(beginning)) {
                continue;
            }
            if beginning.is_empty() {
                return Ok(step);
            }
            if found.as_ref().is_some_and(|found| *found != step) {
                return Err(Failure::usage(format!(
                    "more than one step begins with `{beginning}`: write more of its id"
                )));
            }
            found = Some(step);
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let missing = match beginning {
        "" => "the journal has no step yet".to_owned(),
        _ => format!("the newest steps have none that begins with `{beginning}`: write its whole id"),
    };
    found.ok_or_else(|| Failure::new(Failure::NOT_FOUND, missing))
}

/// Returns the newest records, the newest last.
async fn newest(client: &Client, filter: v1::RecordFilter, count: u32) -> Result<Vec<v1::Record>, Failure> {
    let (mut records, mut page_token) = (Vec::new(), String::new());
    while records.len() < count as usize {
        let left = count - records.len() as u32;
        let page = page(client, filter.clone(), true, left.min(PAGE), page_token).await?;
        records.extend(page.records);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    records.reverse();
    Ok(records)
}

/// Takes every record, the oldest first.
pub async fn each(
    client: &Client,
    filter: v1::RecordFilter,
    mut take: impl FnMut(v1::Record) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut page_token = String::new();
    loop {
        let page = page(client, filter.clone(), false, PAGE, page_token).await?;
        page.records.into_iter().try_for_each(&mut take)?;
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(());
        }
    }
}

/// Returns the record with this number.
async fn one(client: &Client, sequence: u64) -> Result<v1::Record, Failure> {
    let missing = || Failure::new(Failure::NOT_FOUND, format!("there is no record {sequence}"));
    let newest = newest(client, v1::RecordFilter::default(), 1).await?;
    let after = i64::try_from(sequence).ok().and_then(|sequence| sequence.checked_sub(1)).filter(|after| *after >= 0);
    // A stream would wait for a record that is still to come.
    let after = after.filter(|after| newest.first().is_some_and(|newest| newest.sequence > *after));
    let request = v1::StreamRecordsRequest { filter: None, after: after.ok_or_else(missing)? };
    client.audit().stream_records(request).await?.into_inner().message().await?.ok_or_else(missing)
}

async fn page(
    client: &Client,
    filter: v1::RecordFilter,
    descending: bool,
    size: u32,
    page_token: String,
) -> Result<v1::ListRecordsResponse, Failure> {
    let page_size = size.min(PAGE) as i32;
    let request = v1::ListRecordsRequest { filter: Some(filter), descending, page_size, page_token };
    Ok(client.audit().list_records(request).await?.into_inner())
}

fn heading(common: &Common) -> Result<(), Failure> {
    match common.output {
        Output::Json => Ok(()),
        Output::Table => Ok(writeln!(stdout(), "{}", record::HEADER)?),
    }
}

fn put_all(records: &[v1::Record], common: &Common) -> Result<(), Failure> {
    records.iter().try_for_each(|record| put(record, common))
}

fn put(found: &v1::Record, common: &Common) -> Result<(), Failure> {
    match common.output {
        // Byte for byte what is hashed.
        Output::Json => writeln!(stdout(), "{}", found.canonical)?,
        Output::Table => writeln!(stdout(), "{}", record::line(&record::read(found)?))?,
    }
    Ok(())
}

/// Returns what a record says about a payload, and its bytes as JSON can hold them.
fn payload_json(note: &Value, bytes: Option<&[u8]>) -> Value {
    let mut json = note.clone();
    let Some(bytes) = bytes else { return json };
    match (serde_json::from_slice::<Value>(bytes), std::str::from_utf8(bytes)) {
        (Ok(value), _) => json["content"] = value,
        (_, Ok(text)) => json["text"] = text.into(),
        _ => json["base64"] = STANDARD.encode(bytes).into(),
    }
    json
}
