//! JSON Schemas (draft 2020-12) that tools bring, and checks of values against them.

use std::fmt::{self, Write as _};

use jsonschema::{Draft, PatternOptions, ValidationError, Validator};
use serde_json::Value;

use super::{
    admit::{PATTERN_BYTES_MAX, PATTERNS_MAX, SAME_VALUE_CHAIN_MAX, SAME_VALUE_MAX, admit},
    cost,
    place::{self, Place},
};

/// Bytes of a schema, written compactly.
pub const SCHEMA_BYTES_MAX: usize = 64 << 10;

/// How deep arrays and objects may be nested in a schema.
pub const SCHEMA_DEPTH_MAX: usize = 32;

/// Problems that one check reports.
const PROBLEMS_MAX: usize = 5;

/// Bytes of a problem's message.
const MESSAGE_BYTES_MAX: usize = 300;

/// Bytes that one pattern may take when it is compiled.
const PATTERN_COMPILED_BYTES_MAX: usize = 128 << 10;

/// A schema that is safe to check untrusted values with: its size, its patterns and the work of a check are limited.
pub struct Schema {
    document: Value,
    validator: Validator,
}

/// Why a schema is refused. Places are JSON pointers into the schema.
#[derive(Debug, thiserror::Error)]
pub enum BadSchema {
    #[error("the schema has more than {SCHEMA_BYTES_MAX} bytes, which is the limit")]
    TooLong,
    #[error("the schema at {at} is nested deeper than {SCHEMA_DEPTH_MAX} levels, which is the limit")]
    TooDeep { at: Place },
    #[error("the schema says `$schema`: `{found}`: only draft 2020-12 is read, leave it out")]
    Draft { found: String },
    #[error("the schema uses `{keyword}` at {at}: {why}")]
    Keyword { keyword: String, at: Place, why: &'static str },
    #[error("the schema refers to `{reference}` at {at}: only `#` and `#/$defs/NAME` are followed")]
    Reference { reference: String, at: Place },
    #[error("the schema at {at} refers to itself for the same value, without end")]
    Cycle { at: Place },
    #[error(
        "the schema at {at} applies too many schemas to one value: the limit is {SAME_VALUE_MAX}, and \
         {SAME_VALUE_CHAIN_MAX} that lead to each other"
    )]
    TooWide { at: Place },
    #[error("the schema's pattern at {at} is one too many: the limit is {PATTERNS_MAX}")]
    TooManyPatterns { at: Place },
    #[error("the schema's pattern at {at} has more than {PATTERN_BYTES_MAX} bytes, which is the limit")]
    LongPattern { at: Place },
    #[error("the schema of an input must say `\"type\": \"object\"` at its top: arguments have names")]
    NoObject,
    #[error("the schema is wrong at {at}: {message}")]
    Invalid { at: Place, message: String },
}

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// A JSON pointer into the value, cut to a bounded length. Empty for the whole.
    pub pointer: String,
    /// At most 300 bytes. Values are not repeated, names of members can be.
    pub message: String,
}

impl Schema {
    /// Compiles a schema for any value, such as a tool's output.
    ///
    /// Only the keywords of draft 2020-12 that limit a value by itself are taken, and `format` and the `content…`
    /// keywords limit nothing. References lead to `#` or `#/$defs/NAME` of the same document.
    pub fn compile(schema: &Value) -> Result<Self, BadSchema> {
        admit(schema)?;
        let patterns =
            PatternOptions::regex().size_limit(PATTERN_COMPILED_BYTES_MAX).dfa_size_limit(PATTERN_COMPILED_BYTES_MAX);
        let validator = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .with_pattern_options(patterns)
            .should_validate_formats(false)
            .offline()
            .build(schema)
            .map_err(|error| {
                let Problem { pointer, message } = describe(&error);
                BadSchema::Invalid { at: Place::new(&pointer), message }
            })?;
        Ok(Self { document: schema.clone(), validator })
    }

    /// Compiles the schema of a tool's arguments, whose top must say `"type": "object"`.
    pub fn compile_input(schema: &Value) -> Result<Self, BadSchema> {
        if schema.get("type").and_then(Value::as_str) != Some("object") {
            return Err(BadSchema::NoObject);
        }
        Self::compile(schema)
    }

    /// Checks a value. Reports at most 5 problems; one of them if the check is more work than is allowed.
    pub fn check(&self, value: &Value) -> Result<(), Vec<Problem>> {
        cost::measure(&self.document, value).map_err(|error| vec![Problem::new("", error)])?;
        if self.validator.is_valid(value) {
            return Ok(());
        }
        if !cost::describable(&self.document, value) {
            return Err(vec![Problem::new("", "does not fit the schema, and there is too much of it to say where")]);
        }
        Err(self.validator.iter_errors(value).take(PROBLEMS_MAX).map(|error| describe(&error)).collect())
    }
}

impl Problem {
    fn new(pointer: &str, message: impl fmt::Display) -> Self {
        let mut short = Short(String::new());
        // Fails when the message is cut, which is the purpose.
        let _ = write!(short, "{message}");
        Self { pointer: Place::new(pointer).as_str().into(), message: short.0 }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", Place::new(&self.pointer), self.message)
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.document).finish()
    }
}

fn describe(error: &ValidationError<'_>) -> Problem {
    Problem::new(error.instance_path().as_str(), error.masked_with("the value"))
}

/// Takes the start of what is written, so that a long value is never written out.
struct Short(String);

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MESSAGE_BYTES_MAX - self.0.len();
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        // Room for the mark: its three bytes replace what they must.
        let kept = place::cut(&self.0, MESSAGE_BYTES_MAX - '…'.len_utf8()).len();
        self.0.truncate(kept);
        self.0.push_str(place::cut(text, MESSAGE_BYTES_MAX - '…'.len_utf8() - kept));
        self.0.push('…');
        Err(fmt::Error)
    }
}
