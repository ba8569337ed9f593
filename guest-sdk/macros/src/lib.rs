//! The attributes `#[step]` and `#[tool]`. Their documentation stands on `palisade_guest::step` and
//! `palisade_guest::tool`.

mod description;

use proc_macro::TokenStream;
use quote::quote;
use syn::{ItemFn, parse_macro_input};

/// Makes a component of the `step` world from one function.
///
/// The function takes one argument that implements `serde::Deserialize` and returns
/// `Result<impl serde::Serialize, E>`, where `E` is `palisade_guest::Error` or anything that displays. It stays
/// an ordinary function, for tests. One crate makes one step.
#[proc_macro_attribute]
pub fn step(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let function = parse_macro_input!(item as ItemFn);
    if !arguments.is_empty() {
        return refuse(&function, "#[step] takes no arguments");
    }
    if function.sig.inputs.len() != 1 {
        return refuse(&function, "a step takes exactly one argument: its input, any `serde::Deserialize` type");
    }
    if let Some(why) = no_plain_function(&function) {
        return refuse(&function, &format!("a step is {why}"));
    }
    let name = &function.sig.ident;
    quote! {
        // Outside the sandbox only tests call it.
        #[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
        #function

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use ::palisade_guest::__private::bindings;
            use bindings::exports::palisade::agent::run;

            struct Step;

            impl run::Guest for Step {
                fn run(input: run::Input) -> ::core::result::Result<run::Output, run::Error> {
                    match ::palisade_guest::__private::call(&input.payload, #name) {
                        Ok(payload) => Ok(run::Output { payload, content_type: "application/json".into() }),
                        Err(error) => Err(run::Error { code: error.code, message: error.message }),
                    }
                }
            }

            bindings::export_step!(Step with_types_in bindings);
        };
    }
    .into()
}

/// Makes a component of the `tool` world from one function.
///
/// The function takes one argument that implements `serde::Deserialize` and `schemars::JsonSchema`, or none, and
/// returns `Result<O, E>`, where `O` implements `serde::Serialize` and `schemars::JsonSchema`, and `E` is
/// `palisade_guest::Error` or anything that displays. It stays an ordinary function, for tests. One crate makes one
/// tool.
///
/// Arguments have names: the type of the argument is a struct, an enum whose variants are objects, or a map. Its doc
/// comments are in the schema. The doc comment of the function is what the tool says of itself; another text can be
/// given: `#[tool(description = "…")]`. What it does to the world outside is not for the tool to say: whoever
/// registers it judges that.
///
/// Policies see texts, integers, booleans, lists and structs of them, enums without fields, and each of these but
/// structs also as an `Option`. They do not see floats, maps, enums with fields, or an `Option` of a struct.
#[proc_macro_attribute]
pub fn tool(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let function = parse_macro_input!(item as ItemFn);
    let description = match description::of_tool(arguments.into(), &function) {
        Ok(description) => description,
        Err(error) => return error.to_compile_error().into(),
    };
    if let Some(why) = no_plain_function(&function) {
        return refuse(&function, &format!("a tool is {why}"));
    }
    let name = &function.sig.ident;
    let call = match function.sig.inputs.len() {
        0 => quote! { |_: ::palisade_guest::__private::NoArguments| #name() },
        1 => quote! { #name },
        _ => return refuse(&function, "a tool takes one argument, a struct with a field for each of its own, or none"),
    };
    quote! {
        // Outside the sandbox only tests call it.
        #[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
        #function

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use ::palisade_guest::__private::bindings::tool as bindings;
            use bindings::exports::palisade::agent::invoke;

            struct Tool;

            impl invoke::Guest for Tool {
                fn describe() -> invoke::Description {
                    let said = ::palisade_guest::__private::describe(#description, #call);
                    invoke::Description {
                        text: said.text,
                        input_schema: said.input_schema,
                        output_schema: ::core::option::Option::Some(said.output_schema),
                    }
                }

                fn invoke(
                    arguments: ::std::string::String,
                ) -> ::core::result::Result<::std::string::String, invoke::Error> {
                    ::palisade_guest::__private::invoke(&arguments, #call)
                        .map_err(|error| invoke::Error { code: error.code, message: error.message })
                }
            }

            bindings::export_tool!(Tool with_types_in bindings);
        };

        // Outside the sandbox, its types are checked all the same.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = || {
            let _ = ::palisade_guest::__private::describe(#description, #call);
            let _ = ::palisade_guest::__private::invoke("", #call);
        };
    }
    .into()
}

/// Returns why a function cannot be exported, if it cannot.
fn no_plain_function(function: &ItemFn) -> Option<&'static str> {
    if function.sig.asyncness.is_some() {
        Some("not `async`: it runs alone in its sandbox and may simply block")
    } else if !function.sig.generics.params.is_empty() {
        Some("not generic: its input and output types are its contract")
    } else {
        None
    }
}

fn refuse(function: &ItemFn, why: &str) -> TokenStream {
    syn::Error::new_spanned(&function.sig, why).to_compile_error().into()
}
