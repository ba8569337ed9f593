//! Rust types of the guests' contract, generated from `wit/`.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "step",
    imports: {
        "palisade:agent/events": async | trappable,
        "palisade:agent/tools": async | trappable,
        "palisade:agent/memory": async | trappable,
        "palisade:agent/http": trappable,
        default: trappable,
    },
    exports: { default: async },
});

/// The world of tools, over the same imports.
pub mod tool {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "tool",
        with: {
            "palisade:agent/types": super::palisade::agent::types,
            "palisade:agent/events": super::palisade::agent::events,
            "palisade:agent/tools": super::palisade::agent::tools,
            "palisade:agent/memory": super::palisade::agent::memory,
            "palisade:agent/http": super::palisade::agent::http,
        },
        exports: { default: async },
    });
}
