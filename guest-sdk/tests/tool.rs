//! Tools as `#[tool]` makes them, outside the sandbox: plain functions, and what they would say of themselves.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
};

use palisade_guest::{
    __private::{describe, invoke},
    Error, events,
    schemars::{self, JsonSchema},
    tool, tools,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Arguments {
    /// Which one.
    id: u64,
    queue: Option<String>,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Ticket {
    subject: String,
}

/// Reads a ticket.
///
/// Only of its own queue.
#[tool]
fn read(arguments: Arguments) -> Result<Ticket, Error> {
    events::info!("reading", id = arguments.id);
    if arguments.id == 0 {
        return Err(Error::new("NO_TICKET", "there is no ticket 0"));
    }
    let found = arguments.queue.ok_or("no queue is given")?;
    Ok(Ticket { subject: format!("{found} {}", arguments.id) })
}

#[test]
fn a_tool_stays_a_plain_function() {
    let read_one = |id| read(Arguments { id, queue: Some("billing".into()) });
    assert_eq!(read_one(7), Ok(Ticket { subject: "billing 7".into() }));
    assert_eq!(read_one(0).unwrap_err().code, "NO_TICKET");
}

#[test]
fn it_takes_and_gives_json() {
    assert_eq!(invoke(r#"{"id":7,"queue":"a"}"#, read), Ok(r#"{"subject":"a 7"}"#.to_owned()));
    let code = |arguments| invoke(arguments, read).unwrap_err().code;
    assert_eq!(code(r#"{"id":0}"#), "NO_TICKET");
    // Its caller is a step, which must not take it for its own failure.
    assert_eq!(code(r#"{"id":7}"#), "TOOL_FAILED");
    for wrong in [r#"{"id":-1}"#, r#"{"id":7,"colour":"red"}"#, "{}", "[]", ""] {
        assert_eq!(code(wrong), "ARGUMENTS_INVALID", "{wrong}");
    }
}

#[test]
fn a_result_that_is_no_json_fails() {
    fn keyed_by_lists(_: Arguments) -> Result<HashMap<Vec<u8>, u8>, Error> {
        Ok(HashMap::from([(vec![1], 1)]))
    }
    assert_eq!(invoke(r#"{"id":7}"#, keyed_by_lists).unwrap_err().code, "RESULT_INVALID");
}

#[test]
fn it_describes_itself_by_its_types() {
    let said = describe("Reads a ticket.", read);
    assert_eq!(said.text, "Reads a ticket.");
    let input: Value = serde_json::from_str(&said.input_schema).unwrap();
    assert_eq!(
        input,
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "Arguments",
            "type": "object",
            "properties": {
                "id": { "description": "Which one.", "type": "integer", "format": "uint64", "minimum": 0 },
                "queue": { "type": ["string", "null"] },
            },
            "required": ["id"],
            "additionalProperties": false,
        })
    );
    let output: Value = serde_json::from_str(&said.output_schema).unwrap();
    assert_eq!((&output["type"], &output["required"]), (&json!("object"), &json!(["subject"])));
}

#[test]
fn outside_the_sandbox_there_are_no_tools() {
    let called = tools::call::<_, Value>("ticket.read", &json!({ "id": 7 })).unwrap_err();
    assert_eq!((called.code(), called.is_denied()), ("OUTSIDE_SANDBOX", false));
    assert_eq!(tools::list().unwrap_err().code(), "OUTSIDE_SANDBOX");
    // With `?`, its code is the step's.
    let step = || -> Result<Vec<tools::Tool>, Error> { Ok(tools::list()?) };
    assert_eq!(step().unwrap_err().code, "OUTSIDE_SANDBOX");
}

#[test]
fn arguments_that_cannot_be_serialised_are_invalid() {
    let keyed_by_lists = HashMap::from([(vec![1], 1)]);
    assert_eq!(tools::call::<_, Value>("x", &keyed_by_lists).unwrap_err().code(), "ARGUMENTS_INVALID");
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Node {
    weight: u8,
    next: Option<Box<Node>>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
enum Unit {
    Billing,
    /// With a comment, its schema has another form.
    Support,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Tagged {
    Nothing,
    Fields { x: i64 },
    Node(Node),
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(tag = "kind", content = "content")]
enum Adjacent {
    Nothing,
    Pair(u8, String),
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum External {
    Nothing,
    Fields { x: f32 },
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Text(String),
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Flattened {
    #[serde(flatten)]
    tagged: Tagged,
    z: u8,
}

fn most() -> u64 {
    u64::MAX
}

#[derive(Deserialize, Serialize, JsonSchema)]
struct Everything {
    text: String,
    unsigned: u64,
    signed: i32,
    small: i8,
    size: usize,
    truth: bool,
    float: f64,
    letter: char,
    path: std::path::PathBuf,
    time: std::time::Duration,
    optional: Option<String>,
    list: Vec<Node>,
    map: HashMap<String, u64>,
    by_number: BTreeMap<u32, String>,
    by_unit: BTreeMap<Unit, u8>,
    set: HashSet<String>,
    pair: (u8, String),
    bytes: [u8; 3],
    optional_unit: Option<Unit>,
    optional_node: Option<Node>,
    tagged: Tagged,
    adjacent: Adjacent,
    external: External,
    untagged: Untagged,
    flattened: Flattened,
    any: Value,
    nothing: (),
    not_zero: std::num::NonZeroI64,
    #[serde(default = "most")]
    most: u64,
    #[schemars(range(min = 1, max = 18446744073709551615_u64), example = 18446744073709551615_u64)]
    bounded: u64,
}

#[test]
fn the_daemon_takes_the_schemas_of_the_usual_types() {
    fn check<T: Serialize + DeserializeOwned + JsonSchema>() {
        let said = describe::<T, T, Error>("", |_| Err(Error::new("", "")));
        for text in [said.input_schema, said.output_schema] {
            let schema: Value = serde_json::from_str(&text).unwrap();
            admit(&schema, &schema);
        }
    }
    check::<Everything>();
    check::<Node>();
    check::<Flattened>();
    check::<Tagged>();
    check::<Adjacent>();
    check::<External>();
    check::<Untagged>();
    check::<Vec<Node>>();
    check::<Value>();
    check::<()>();
}

#[test]
fn a_policy_can_see_an_enum_of_words() {
    /// Whose it is.
    #[derive(Deserialize, JsonSchema)]
    struct Of {
        plain: Plain,
        commented: Unit,
        optional: Option<Plain>,
        optional_commented: Option<Unit>,
        optional_node: Option<Node>,
        mixed: External,
    }
    #[derive(Deserialize, JsonSchema)]
    enum Plain {
        A,
        B,
    }
    let said = describe::<Of, (), Error>("", |of| {
        let _ = (of.plain, of.commented, of.optional, of.optional_commented, of.optional_node, of.mixed);
        Ok(())
    });
    let schema: Value = serde_json::from_str(&said.input_schema).unwrap();
    let commented = "\"Support\": With a comment, its schema has another form.";
    let unit = json!({ "type": "string", "enum": ["Billing", "Support"], "description": commented });
    assert_eq!(schema["$defs"]["Plain"], json!({ "type": "string", "enum": ["A", "B"] }));
    assert_eq!(schema["$defs"]["Unit"], unit);
    let properties = &schema["properties"];
    assert_eq!(properties["optional"], json!({ "type": ["string", "null"], "enum": ["A", "B", null] }));
    assert_eq!(properties["optional_commented"]["enum"], json!(["Billing", "Support", null]));
    assert_eq!(properties["optional_commented"]["description"], commented);
    // What is no list of words stays what it was.
    assert!(properties["optional_node"]["anyOf"].is_array());
    assert!(schema["$defs"]["External"]["oneOf"].is_array());
}

#[test]
fn arguments_say_that_they_are_an_object() {
    fn top<T: JsonSchema>() -> Value {
        let said = describe::<T, (), Error>("", |_| Ok(()));
        serde_json::from_str::<Value>(&said.input_schema).unwrap()["type"].clone()
    }
    let object = json!("object");
    assert_eq!(top::<Everything>(), object);
    assert_eq!(top::<Tagged>(), object);
    assert_eq!(top::<Option<Node>>(), object);
    assert_eq!(top::<HashMap<String, u8>>(), object);
    assert_eq!(top::<Value>(), object);
    // These cannot be arguments, and the daemon says so.
    assert_eq!(top::<String>(), json!("string"));
    assert_eq!(top::<()>(), json!("null"));
}

/// The keywords that the daemon takes.
const KEYWORDS: &str = "$schema $ref $defs $comment title description default examples deprecated readOnly writeOnly \
    format contentEncoding contentMediaType type enum const multipleOf maximum exclusiveMaximum minimum \
    exclusiveMinimum maxLength minLength pattern maxItems minItems uniqueItems maxContains minContains maxProperties \
    minProperties required dependentRequired not if then else allOf anyOf oneOf dependentSchemas items contains \
    additionalProperties propertyNames prefixItems properties patternProperties";

/// Checks a schema as the daemon does when a tool is registered.
fn admit(schema: &Value, root: &Value) {
    let Value::Object(keywords) = schema else { return };
    for (keyword, held) in keywords {
        assert!(KEYWORDS.split_whitespace().any(|known| known == keyword), "`{keyword}` in {schema}");
        match (keyword.as_str(), held) {
            ("$ref", held) => {
                let target = held.as_str().unwrap().strip_prefix('#').unwrap();
                assert!(root.pointer(target).is_some(), "{held}");
            }
            (
                "not" | "if" | "then" | "else" | "items" | "contains" | "additionalProperties" | "propertyNames",
                held,
            ) => {
                admit(held, root);
            }
            ("allOf" | "anyOf" | "oneOf" | "prefixItems", Value::Array(schemas)) => {
                schemas.iter().for_each(|schema| admit(schema, root));
            }
            ("properties" | "patternProperties" | "dependentSchemas" | "$defs", Value::Object(schemas)) => {
                schemas.values().for_each(|schema| admit(schema, root));
            }
            ("default" | "minimum" | "maximum", Value::Number(number)) => {
                assert!(number.as_f64().unwrap().abs() < (1_u64 << 53) as f64, "{schema}");
            }
            ("examples", held) => assert!(!held.to_string().contains(&u64::MAX.to_string()), "{schema}"),
            _ => {}
        }
    }
}

#[test]
fn an_error_keeps_what_it_says() {
    struct Odd;
    impl fmt::Display for Odd {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("odd")
        }
    }
    assert_eq!(Error::from(Odd), Error::new("STEP_FAILED", "odd"));
    assert_eq!(Error::from(String::from("told")).to_line().to_string(), "STEP_FAILED: told");
}
