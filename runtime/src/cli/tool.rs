//! `palisade tool`.

use std::{
    io::{Write as _, stdout},
    path::Path,
};

use palisade_proto::v1;
use serde_json::{Value, json};

use super::{
    Client, Common, Failure,
    arguments::{Effect, Output, Tool},
    component, print,
};

/// Tools of one page: so many of the largest fit into a message.
const PAGE: i32 = 24;

/// Runs a subcommand.
pub async fn tool(command: Tool, common: &Common) -> Result<(), Failure> {
    let client = Client::connect(common, Vec::new()).await?;
    let done = run(&client, command, common).await;
    client.finish(done).await
}

async fn run(client: &Client, command: Tool, common: &Common) -> Result<(), Failure> {
    match command {
        Tool::Register { component, name, version, effect, label } => {
            let component = match Path::new(&component) {
                file if file.is_file() => component::push(client, file, None, None).await?.name,
                _ => component,
            };
            let effect = contract(effect).into();
            let request = v1::RegisterToolRequest { name, version, component, effect, labels: label };
            let tool = client.tools().register_tool(request).await?.into_inner();
            list(common, &[&tool])
        }
        Tool::List => list(common, &all(client).await?.iter().collect::<Vec<_>>()),
        Tool::Get { tool } => {
            let tool = client.tools().get_tool(v1::GetToolRequest { name: tool }).await?.into_inner();
            show(common, &tool)
        }
        Tool::Disable { tool } => set_disabled(client, tool, true, common).await,
        Tool::Enable { tool } => set_disabled(client, tool, false, common).await,
    }
}

async fn set_disabled(client: &Client, name: String, disabled: bool, common: &Common) -> Result<(), Failure> {
    let request = v1::SetToolDisabledRequest { name, disabled };
    let tool = client.tools().set_tool_disabled(request).await?.into_inner();
    list(common, &[&tool])
}

async fn all(client: &Client) -> Result<Vec<v1::Tool>, Failure> {
    let mut tools = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListToolsRequest { page_size: PAGE, page_token };
        let page = client.tools().list_tools(request).await?.into_inner();
        tools.extend(page.tools);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(tools);
        }
    }
}

fn list(common: &Common, tools: &[&v1::Tool]) -> Result<(), Failure> {
    print::rows(common, &["tool", "effect", "state", "labels", "component", "description"], tools, |tool| {
        let cells = vec![
            tool.name.clone(),
            effect(tool),
            print::state(tool.disabled).to_owned(),
            tool.labels.join(" "),
            print::digest(&tool.component),
            print::one_line(tool.description.lines().next().unwrap_or_default()),
        ];
        (cells, to_json(tool))
    })?;
    Ok(())
}

fn show(common: &Common, tool: &v1::Tool) -> Result<(), Failure> {
    let mut stdout = stdout();
    if common.output == Output::Json {
        return Ok(writeln!(stdout, "{}", to_json(tool))?);
    }
    writeln!(stdout, "{}, {}, {}", tool.name, effect(tool), print::state(tool.disabled))?;
    for (name, value) in [
        ("component", &tool.component),
        ("labels", &tool.labels.join(" ")),
        ("registered", &print::moment(&tool.create_time)),
    ] {
        if !value.is_empty() {
            writeln!(stdout, "{name:12} {}", print::one_line(value))?;
        }
    }
    if !tool.description.is_empty() {
        writeln!(stdout, "\n{}", print::safe(&tool.description))?;
    }
    for (title, schema) in [("arguments", &tool.input_schema), ("result", &tool.output_schema)] {
        if !schema.is_empty() {
            writeln!(stdout, "\n{title}:\n{}", print::readable(schema.as_bytes()).unwrap_or_default())?;
        }
    }
    Ok(())
}

fn to_json(tool: &v1::Tool) -> Value {
    let schema = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
    json!({
        "name": tool.name,
        "component": tool.component,
        "description": tool.description,
        "input_schema": schema(&tool.input_schema),
        "output_schema": schema(&tool.output_schema),
        "effect": effect(tool),
        "labels": tool.labels,
        "disabled": tool.disabled,
        "create_time": print::moment(&tool.create_time),
    })
}

fn effect(tool: &v1::Tool) -> String {
    tool.effect().as_str_name().to_lowercase().replace('_', "-")
}

fn contract(effect: Effect) -> v1::Effect {
    match effect {
        Effect::Read => v1::Effect::Read,
        Effect::Append => v1::Effect::Append,
        Effect::Mutate => v1::Effect::Mutate,
        Effect::Destroy => v1::Effect::Destroy,
        Effect::ExternalSend => v1::Effect::ExternalSend,
    }
}
