//! A tool whose results are not what it promised: `{"number": 1}` gives no JSON, 2 does not fit its schema, 3 has a
//! key twice, 4 has an integer that readers disagree about; any other fits. It speaks to the contract itself, for
//! `#[tool]` cannot lie.

#[cfg(target_arch = "wasm32")]
mod sandboxed {
    use palisade_guest::__private::bindings::tool as bindings;

    use bindings::exports::palisade::agent::invoke::{Description, Error, Guest};

    struct Liar;

    impl Guest for Liar {
        fn describe() -> Description {
            Description {
                text: "Promises a text.".into(),
                input_schema: r#"{"type":"object","properties":{"number":{"type":"integer"}},"required":["number"]}"#
                    .into(),
                output_schema: Some(
                    r#"{"type":"object","properties":{"said":{"type":"string"}},"required":["said"]}"#.into(),
                ),
            }
        }

        fn invoke(arguments: String) -> Result<String, Error> {
            Ok(match arguments.as_str() {
                r#"{"number":1}"# => "not JSON",
                r#"{"number":2}"# => r#"{"said":2}"#,
                r#"{"number":3}"# => r#"{"said":"one","said":"two"}"#,
                r#"{"number":4}"# => r#"{"said":"big","number":9007199254740993}"#,
                _ => r#"{"said":"the truth"}"#,
            }
            .into())
        }
    }

    bindings::export_tool!(Liar with_types_in bindings);
}
