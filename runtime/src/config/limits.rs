//! The `[limits]` table.

use serde::{Deserialize, Serialize};

use crate::{
    control::HOLDS_MAX,
    step::{BODY_WINDOW_BYTES, BadLimit, FIXED, PIECE_BYTES_MAX, Range, StepLimits},
};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Bounds on what callers and guests can use. A [`Range`] has what a request gets that does not say, and the most
/// that it may ask; a number is the same for everybody.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    pub fuel: Range,
    pub memory_bytes: Range,
    pub timeout_ms: Range,
    pub output_bytes: Range,
    pub stdio_bytes: Range,
    pub events: Range,
    pub workspace_bytes: Range,
    pub workspace_entries: Range,
    pub input_bytes: u64,
    pub component_bytes: u64,
    pub components: u64,
    pub workspaces: u64,
    pub artifact_bytes: u64,
    pub compile_timeout_ms: u64,
    pub compile_memory_bytes: u64,
    pub concurrent_steps: u64,
    pub tenant_concurrent_steps: u64,
    pub job_concurrent_steps: u64,
    pub node_memory_bytes: u64,
    pub tenant_memory_bytes: u64,
    pub queued_steps: u64,
    pub tenant_queued_steps: u64,
    pub queue_timeout_ms: u64,
    pub drain_seconds: u64,
    pub connections: u64,
    pub connection_requests: u64,
    pub agents: u64,
    pub tools: u64,
    pub memory_value_bytes: u64,
    pub memory_space_bytes: u64,
    pub memory_space_keys: u64,
    pub memory_spaces: u64,
    pub http_requests: u64,
    pub egress_connections: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fuel: Range { default: 10_000_000_000, max: 1_000_000_000_000 },
            memory_bytes: Range { default: 256 * MIB, max: GIB },
            timeout_ms: Range { default: 60_000, max: 3_600_000 },
            output_bytes: Range { default: MIB, max: 3 * MIB },
            stdio_bytes: Range { default: MIB, max: 64 * MIB },
            events: Range { default: 10_000, max: 100_000 },
            workspace_bytes: Range { default: 256 * MIB, max: 16 * GIB },
            workspace_entries: Range { default: 10_000, max: 1_000_000 },
            input_bytes: 3 * MIB,
            component_bytes: 128 * MIB,
            components: 10_000,
            workspaces: 10_000,
            artifact_bytes: GIB,
            compile_timeout_ms: 120_000,
            compile_memory_bytes: 4 * GIB,
            concurrent_steps: 64,
            tenant_concurrent_steps: 64,
            job_concurrent_steps: 32,
            node_memory_bytes: 16 * GIB,
            tenant_memory_bytes: 16 * GIB,
            queued_steps: 256,
            tenant_queued_steps: 128,
            queue_timeout_ms: 30_000,
            drain_seconds: 10,
            connections: 256,
            connection_requests: 100,
            agents: 1_000,
            tools: 1_000,
            memory_value_bytes: 256 * KIB,
            memory_space_bytes: 64 * MIB,
            memory_space_keys: 100_000,
            memory_spaces: 1_000,
            http_requests: 1_024,
            egress_connections: 1_024,
        }
    }
}

/// One limit, for people and for `GetServerInfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub name: &'static str,
    pub unit: &'static str,
    pub default: u64,
    pub max: u64,
    /// The least value that the configuration may name, and the greatest.
    pub floor: u64,
    pub ceiling: u64,
}

impl Limits {
    /// Returns every configurable limit, in the order of `docs/limits.md`.
    pub fn rows(&self) -> Vec<Row> {
        let range = |name, unit, range: Range, ceiling| Row {
            name,
            unit,
            default: range.default,
            max: range.max,
            floor: 1,
            ceiling,
        };
        let fixed = |name, unit, value, ceiling| Row { name, unit, default: value, max: value, floor: 1, ceiling };
        vec![
            range("fuel", "fuel", self.fuel, 1_000_000_000_000_000),
            // A pooled slot reserves 4 GiB of address space.
            range("memory_bytes", "bytes", self.memory_bytes, 4 * GIB),
            range("timeout_ms", "milliseconds", self.timeout_ms, 24 * 3_600_000),
            // With its envelope it must fit into a gRPC message of 4 MiB and a frame of the worker's socket.
            range("output_bytes", "bytes", self.output_bytes, 3 * MIB),
            range("stdio_bytes", "bytes", self.stdio_bytes, GIB),
            range("events", "count", self.events, 10_000_000),
            range("workspace_bytes", "bytes", self.workspace_bytes, 1024 * GIB),
            range("workspace_entries", "count", self.workspace_entries, 10_000_000),
            fixed("input_bytes", "bytes", self.input_bytes, 3 * MIB),
            fixed("component_bytes", "bytes", self.component_bytes, GIB),
            fixed("components", "count", self.components, 1_000_000),
            fixed("workspaces", "count", self.workspaces, 1_000_000),
            fixed("artifact_bytes", "bytes", self.artifact_bytes, 4 * GIB),
            fixed("compile_timeout_ms", "milliseconds", self.compile_timeout_ms, 3_600_000),
            fixed("compile_memory_bytes", "bytes", self.compile_memory_bytes, 64 * GIB),
            fixed("concurrent_steps", "count", self.concurrent_steps, 1_000),
            fixed("tenant_concurrent_steps", "count", self.tenant_concurrent_steps, 1_000),
            fixed("job_concurrent_steps", "count", self.job_concurrent_steps, 1_000),
            fixed("node_memory_bytes", "bytes", self.node_memory_bytes, 4_096 * GIB),
            fixed("tenant_memory_bytes", "bytes", self.tenant_memory_bytes, 4_096 * GIB),
            fixed("queued_steps", "count", self.queued_steps, 100_000),
            fixed("tenant_queued_steps", "count", self.tenant_queued_steps, 100_000),
            fixed("queue_timeout_ms", "milliseconds", self.queue_timeout_ms, 3_600_000),
            fixed("drain_seconds", "seconds", self.drain_seconds, 3_600),
            fixed("connections", "count", self.connections, 100_000),
            fixed("connection_requests", "count", self.connection_requests, 10_000),
            fixed("agents", "count", self.agents, 100_000),
            fixed("tools", "count", self.tools, 100_000),
            fixed("memory_value_bytes", "bytes", self.memory_value_bytes, 3 * MIB),
            fixed("memory_space_bytes", "bytes", self.memory_space_bytes, 64 * GIB),
            fixed("memory_space_keys", "count", self.memory_space_keys, 10_000_000),
            fixed("memory_spaces", "count", self.memory_spaces, 100_000),
            fixed("http_requests", "count", self.http_requests, 65_536),
            fixed("egress_connections", "count", self.egress_connections, 65_536),
        ]
    }

    /// Returns the limits that nobody can configure, as rows.
    pub fn fixed_rows() -> Vec<Row> {
        let row = |name, unit, value| Row { name, unit, default: value, max: value, floor: 1, ceiling: value };
        vec![
            row("core_instances", "count", FIXED.core_instances.into()),
            row("memories", "count", FIXED.memories.into()),
            row("tables", "count", FIXED.tables.into()),
            row("table_elements", "count", FIXED.table_elements),
            row("stack_bytes", "bytes", FIXED.stack_bytes),
            row("hostcall_bytes", "bytes", FIXED.hostcall_bytes),
            row("resources", "count", FIXED.resources),
            row("directory_streams", "count", FIXED.directory_streams),
            row("listed_entries", "count", FIXED.listed_entries),
            row("objects", "count", FIXED.objects),
            row("handles", "count", FIXED.handles),
            row("random_bytes", "bytes", FIXED.random_bytes),
            row("event_bytes", "bytes", FIXED.event_bytes),
            row("args", "count", FIXED.args),
            row("args_bytes", "bytes", FIXED.args_bytes),
            row("mounts", "count", FIXED.mounts),
            row("tool_depth", "count", FIXED.tool_depth.into()),
            row("arguments_bytes", "bytes", FIXED.arguments_bytes),
            row("calls_under_way", "count", FIXED.calls_under_way),
            row("requests_under_way", "count", FIXED.requests_under_way),
            row("header_fields_bytes", "bytes", FIXED.header_fields_bytes),
            row("request_head_bytes", "bytes", FIXED.request_head_bytes),
            row("body_piece_bytes", "bytes", PIECE_BYTES_MAX as u64),
            row("body_window_bytes", "bytes", BODY_WINDOW_BYTES.into()),
            row("signed_body_bytes", "bytes", FIXED.signed_body_bytes),
            row("kept_body_bytes", "bytes", FIXED.kept_body_bytes),
            row("holds", "count", HOLDS_MAX as u64),
            row("yield_fuel", "fuel", FIXED.yield_fuel),
            row("chunk_bytes", "bytes", MIB),
            row("file_chunk_bytes", "bytes", 64 * KIB),
        ]
    }

    /// Returns a limit's name as this program has it, if it is one: what a worker or a guest says becomes no label.
    pub fn named(name: &str) -> Option<&'static str> {
        let all = Self::default().rows().into_iter().chain(Self::fixed_rows());
        all.map(|row| row.name).find(|known| *known == name)
    }

    /// Returns the limits of a step that asks for `asked`; what is `None` there gets its default.
    pub fn grant(&self, asked: AskedLimits) -> Result<StepLimits, BadLimit> {
        Ok(StepLimits {
            fuel: self.fuel.grant("limits.fuel", asked.fuel)?,
            memory_bytes: self.memory_bytes.grant("limits.memory_bytes", asked.memory_bytes)?,
            timeout_ms: self.timeout_ms.grant("limits.timeout", asked.timeout_ms)?,
            output_bytes: self.output_bytes.grant("limits.output_bytes", asked.output_bytes)?,
            stdio_bytes: self.stdio_bytes.grant("limits.stdio_bytes", asked.stdio_bytes)?,
            events: self.events.grant("limits.events", asked.events)?,
        })
    }
}

/// What a request or a manifest asks of the limits, not yet judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AskedLimits {
    pub fuel: Option<i64>,
    pub memory_bytes: Option<i64>,
    pub timeout_ms: Option<i64>,
    pub output_bytes: Option<i64>,
    pub stdio_bytes: Option<i64>,
    pub events: Option<i64>,
}
