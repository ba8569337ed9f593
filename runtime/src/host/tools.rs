//! `tools`: lists and calls tools, through the gate.

use super::{
    bindings::palisade::agent::{
        tools::{Effect, Host, Tool},
        types,
    },
    gate::{Gate, mismatch},
};
use crate::step::{self, Answer, Call};

impl Host for Gate {
    async fn list(&mut self) -> wasmtime::Result<Result<Vec<Tool>, types::CallError>> {
        match self.ask(Call::ListTools).await? {
            Ok(Answer::Tools(tools)) => Ok(Ok(tools.into_iter().map(tool).collect())),
            Ok(_) => Err(mismatch()),
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn call(&mut self, name: String, arguments: String) -> wasmtime::Result<Result<String, types::CallError>> {
        match self.ask(Call::CallTool { name, arguments }).await? {
            Ok(Answer::Json(result)) => Ok(Ok(result)),
            Ok(_) => Err(mismatch()),
            Err(error) => Ok(Err(error.into())),
        }
    }
}

fn tool(tool: step::ToolInfo) -> Tool {
    let effect = match tool.effect {
        step::Effect::Read => Effect::Read,
        step::Effect::Append => Effect::Append,
        step::Effect::Mutate => Effect::Mutate,
        step::Effect::Destroy => Effect::Destroy,
        step::Effect::ExternalSend => Effect::ExternalSend,
    };
    Tool {
        name: tool.name,
        version: tool.version,
        description: tool.description,
        effect,
        input_schema: tool.input_schema,
        output_schema: tool.output_schema,
    }
}
