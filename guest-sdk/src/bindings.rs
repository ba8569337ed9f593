//! Rust types of the host's contract, generated from `wit/`. They exist inside the sandbox only.

wit_bindgen::generate!({
    path: "wit",
    world: "step",
    pub_export_macro: true,
    export_macro_name: "export_step",
});

/// The world of tools, over the same imports. Which of the two a component exports is decided by the macro that it
/// uses: `export_step` or `export_tool`. What it does not call, it does not import.
pub mod tool {
    wit_bindgen::generate!({
        path: "wit",
        world: "tool",
        pub_export_macro: true,
        export_macro_name: "export_tool",
        with: {
            "palisade:agent/types@0.1.0": crate::bindings::palisade::agent::types,
            "palisade:agent/events@0.1.0": crate::bindings::palisade::agent::events,
            "palisade:agent/tools@0.1.0": crate::bindings::palisade::agent::tools,
            "palisade:agent/memory@0.1.0": crate::bindings::palisade::agent::memory,
            "palisade:agent/http@0.1.0": crate::bindings::palisade::agent::http,
        },
    });
}
