//! What a tool takes, gives and says of itself: serde types over the JSON of `wit/tool.wit`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Error, schema};

/// What a tool says of itself when it is registered.
#[doc(hidden)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    pub text: String,
    pub input_schema: String,
    pub output_schema: String,
}

/// The arguments of a tool that takes none.
#[doc(hidden)]
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Arguments", description = "none")]
pub struct NoArguments {}

/// Describes a tool by its types. `#[tool]` expands to a call of this.
#[doc(hidden)]
pub fn describe<A, O, E>(text: &str, _: fn(A) -> Result<O, E>) -> Description
where
    A: JsonSchema,
    O: JsonSchema,
{
    Description {
        text: text.into(),
        input_schema: schema::of_arguments::<A>().to_string(),
        output_schema: schema::of_result::<O>().to_string(),
    }
}

/// Decodes the arguments, calls the tool, encodes what it returns. `#[tool]` expands to a call of this.
#[doc(hidden)]
pub fn invoke<A, O, E>(arguments: &str, tool: fn(A) -> Result<O, E>) -> Result<String, Error>
where
    A: DeserializeOwned,
    O: Serialize,
    E: Into<Error>,
{
    let arguments = serde_json::from_str(arguments).map_err(|e| Error::new("ARGUMENTS_INVALID", e))?;
    let result = tool(arguments).map_err(Into::into).map_err(of_tool)?;
    serde_json::to_string(&result).map_err(|e| Error::new("RESULT_INVALID", e))
}

/// Its caller is a step: an error without a code of its own must not look like that step's.
fn of_tool(error: Error) -> Error {
    if error.code == Error::UNNAMED { Error::new("TOOL_FAILED", error.message) } else { error }
}
