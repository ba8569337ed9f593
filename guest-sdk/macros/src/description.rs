//! What a tool says of itself: the text that its attribute gives, or its doc comment.

use proc_macro2::TokenStream;
use quote::{ToTokens as _, quote};
use syn::{Expr, ExprLit, ItemFn, Lit, Meta, MetaNameValue, parse2};

/// Returns the description as an expression.
pub fn of_tool(arguments: TokenStream, function: &ItemFn) -> syn::Result<TokenStream> {
    if arguments.is_empty() {
        return doc_comment(function);
    }
    let given: MetaNameValue = parse2(arguments.clone())
        .ok()
        .filter(|given: &MetaNameValue| given.path.is_ident("description"))
        .ok_or_else(|| syn::Error::new_spanned(arguments, "#[tool] takes `description = \"…\"` or nothing"))?;
    Ok(given.value.into_token_stream())
}

fn doc_comment(function: &ItemFn) -> syn::Result<TokenStream> {
    let mut lines = Vec::new();
    for attribute in &function.attrs {
        if let Meta::NameValue(MetaNameValue { path, value, .. }) = &attribute.meta {
            if path.is_ident("doc") {
                let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = value else {
                    let why = "a tool's doc comment is plain text: give another with #[tool(description = …)]";
                    return Err(syn::Error::new_spanned(value, why));
                };
                let text = text.value();
                lines.push(text.strip_prefix(' ').unwrap_or(&text).trim_end().to_owned());
            }
        }
    }
    let text = lines.join("\n").trim().to_owned();
    if text.is_empty() {
        let why = "a tool says what it does, for people and for models: give it a doc comment";
        return Err(syn::Error::new_spanned(&function.sig, why));
    }
    Ok(quote!(#text))
}
