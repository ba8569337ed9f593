//! A tool that takes no arguments, and one whose description is given.

use palisade_guest::{__private, Error, tool};

#[tool(description = concat!("Counts ", "to one."))]
fn count() -> Result<u8, Error> {
    Ok(1)
}

#[test]
fn a_tool_may_take_no_arguments() {
    assert_eq!(count(), Ok(1));
    let call = |_: __private::NoArguments| count();
    assert_eq!(__private::invoke("{}", call), Ok("1".to_owned()));
    assert_eq!(__private::invoke(r#"{"colour":"red"}"#, call).unwrap_err().code, "ARGUMENTS_INVALID");
    assert!(__private::describe("", call).input_schema.contains(r#""type":"object""#));
}
