//! `memory`: values that outlive the step, through the gate.

use super::{
    bindings::palisade::agent::{
        memory::{Host, Item, Listed, PutOptions},
        types,
    },
    gate::{Gate, mismatch},
};
use crate::step::{self, Answer, Call};

impl Host for Gate {
    async fn get(&mut self, space: String, key: String) -> wasmtime::Result<Result<Option<Item>, types::CallError>> {
        match self.ask(Call::GetMemory { space, key }).await? {
            Ok(Answer::Item(found)) => Ok(Ok(found.map(item))),
            Ok(_) => Err(mismatch()),
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn list(
        &mut self,
        space: String,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> wasmtime::Result<Result<Vec<Listed>, types::CallError>> {
        match self.ask(Call::ListMemory { space, prefix, after, limit }).await? {
            Ok(Answer::Listed(found)) => Ok(Ok(found.into_iter().map(listed).collect())),
            Ok(_) => Err(mismatch()),
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn put(
        &mut self,
        space: String,
        key: String,
        value: Vec<u8>,
        options: PutOptions,
    ) -> wasmtime::Result<Result<u64, types::CallError>> {
        let PutOptions { ttl_ms, if_version } = options;
        match self.ask(Call::PutMemory { space, key, value, ttl_ms, if_version }).await? {
            Ok(Answer::Version(version)) => Ok(Ok(version)),
            Ok(_) => Err(mismatch()),
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn delete(
        &mut self,
        space: String,
        key: String,
        if_version: Option<u64>,
    ) -> wasmtime::Result<Result<bool, types::CallError>> {
        match self.ask(Call::DeleteMemory { space, key, if_version }).await? {
            Ok(Answer::Deleted(deleted)) => Ok(Ok(deleted)),
            Ok(_) => Err(mismatch()),
            Err(error) => Ok(Err(error.into())),
        }
    }
}

fn item(item: step::Item) -> Item {
    let mark = item.mark;
    Item {
        value: item.value,
        version: mark.version,
        written_by: mark.agent,
        written_in: mark.step,
        written_at: mark.written_ms,
        expires_at: mark.expires_ms,
    }
}

fn listed(listed: step::Listed) -> Listed {
    let mark = listed.mark;
    Listed {
        key: listed.key,
        size: listed.size,
        version: mark.version,
        written_by: mark.agent,
        written_in: mark.step,
        written_at: mark.written_ms,
        expires_at: mark.expires_ms,
    }
}
