//! What is registered: agents and tools.

use std::{collections::BTreeMap, time::SystemTime};

use serde::{Deserialize, Serialize};

use super::versions::Versioned;
use crate::{
    manifest::Manifest,
    step::{Digest, Effect, Name, ToolName, Version},
};

/// A version of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    pub manifest: Manifest,
    /// The manifest as it was given.
    pub text: String,
    /// What `manifest.component` meant.
    pub component: Digest,
    /// The versions to which its tools are pinned.
    pub tools: BTreeMap<ToolName, Version>,
    pub reach: Vec<String>,
    pub disabled: bool,
    pub create_time: SystemTime,
}

/// A version of a tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    pub name: ToolName,
    pub version: Version,
    pub component: Digest,
    pub description: String,
    /// JSON Schemas, as texts.
    pub input_schema: String,
    pub output_schema: Option<String>,
    pub effect: Effect,
    pub labels: Vec<Name>,
    pub disabled: bool,
    pub create_time: SystemTime,
}

impl Agent {
    /// Returns `name@version`.
    pub fn reference(&self) -> String {
        format!("{}@{}", self.manifest.name, self.manifest.version)
    }
}

impl Tool {
    /// Returns `name@version`.
    pub fn reference(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
}

impl Versioned for Agent {
    fn name(&self) -> &str {
        self.manifest.name.as_str()
    }

    fn version(&self) -> &Version {
        &self.manifest.version
    }

    fn create_time(&self) -> SystemTime {
        self.create_time
    }

    fn same(&self, other: &Self) -> bool {
        self.text == other.text && self.component == other.component && self.tools == other.tools
    }

    fn set_disabled(&mut self, disabled: bool) {
        self.disabled = disabled;
    }
}

impl Versioned for Tool {
    fn name(&self) -> &str {
        self.name.as_str()
    }

    fn version(&self) -> &Version {
        &self.version
    }

    fn create_time(&self) -> SystemTime {
        self.create_time
    }

    fn same(&self, other: &Self) -> bool {
        let neutral = Self { disabled: self.disabled, create_time: self.create_time, ..other.clone() };
        *self == neutral
    }

    fn set_disabled(&mut self, disabled: bool) {
        self.disabled = disabled;
    }
}
