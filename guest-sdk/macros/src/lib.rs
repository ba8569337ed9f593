//! The `#[step]` attribute. Its documentation stands on `palisade_guest::step`.

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
    if function.sig.asyncness.is_some() {
        return refuse(&function, "a step is not `async`: it runs alone in its sandbox and may simply block");
    }
    if !function.sig.generics.params.is_empty() {
        return refuse(&function, "a step is not generic: its input and output types are its contract");
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

fn refuse(function: &ItemFn, why: &str) -> TokenStream {
    syn::Error::new_spanned(&function.sig, why).to_compile_error().into()
}
