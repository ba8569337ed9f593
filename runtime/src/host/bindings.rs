//! Rust types of the guests' contract, generated from `wit/`.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "step",
    imports: {
        "palisade:agent/events": async | trappable,
        default: trappable,
    },
    exports: { default: async },
});
