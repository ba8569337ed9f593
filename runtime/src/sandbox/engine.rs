//! The engine's configuration: the smallest language, one meter, every pool bounded.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OperatorCost, PoolingAllocationConfig, VariableOperatorCost,
    WasmFeatures,
};

use crate::step::FIXED;

/// The engine, for people.
pub const ENGINE: &str = "wasmtime 48";

/// Address space of one linear memory's slot: with 4 GiB and guard pages, compiled code needs no bounds checks.
const MEMORY_RESERVATION_BYTES: u64 = 4 << 30;

/// What stays resident of a slot between two steps: giving less back costs less than mapping it again.
const KEEP_RESIDENT_BYTES: usize = 512 << 10;

/// What an instruction costs that works on many at once, beside the unit that each costs. It is charged, and there is a
/// yield, before it begins.
const BULK: VariableOperatorCost = VariableOperatorCost {
    memory_copy_per_byte: 1,
    memory_fill_per_byte: 1,
    memory_init_per_byte: 1,
    // A system call, and later a fault for each page of the machine.
    memory_grow_per_page: 255,
    table_copy_per_element: 1,
    table_fill_per_element: 1,
    table_init_per_element: 1,
    table_grow_per_element: 1,
    // Those on arrays are of no language that is accepted here.
    ..VariableOperatorCost::new()
};

/// Returns the engine that runs up to `slots` steps at once, each with memories of up to `memory_bytes_max`.
pub fn worker_engine(slots: u32, memory_bytes_max: u64) -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    // Slots cost address space, not memory: there are enough for every step at its limits, so that a pool is never
    // what ends a step.
    pool.total_component_instances(slots)
        .total_core_instances(slots * FIXED.core_instances)
        .total_memories(slots * FIXED.memories)
        .total_tables(slots * FIXED.tables)
        .total_stacks(slots)
        .max_core_instances_per_component(FIXED.core_instances)
        .max_memories_per_component(FIXED.memories)
        .max_tables_per_component(FIXED.tables)
        .max_memories_per_module(FIXED.memories)
        .max_tables_per_module(FIXED.tables)
        .max_core_instance_size(1 << 20)
        .max_component_instance_size(1 << 20)
        .table_elements(FIXED.table_elements as usize)
        .max_memory_size(memory_bytes_max as usize)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(KEEP_RESIDENT_BYTES)
        .pagemap_scan(Enabled::Auto);
    let mut config = configuration();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

/// Returns an engine whose artifacts [`worker_engine`] accepts.
pub fn compiler_engine() -> wasmtime::Result<Engine> {
    Engine::new(&configuration())
}

/// Returns what artifacts depend on: the engine's version and configuration, as 16 hex digits.
pub fn engine_hash() -> wasmtime::Result<String> {
    let mut hasher = DefaultHasher::new();
    compiler_engine()?.precompile_compatibility_hash().hash(&mut hasher);
    env!("CARGO_PKG_VERSION").hash(&mut hasher);
    Ok(format!("{:016x}", hasher.finish()))
}

/// Returns the configuration of every engine of ours.
pub fn configuration() -> Config {
    let mut config = Config::new();
    config
        // Fuel is the one meter: its yields are also where deadlines and cancellation take effect.
        .consume_fuel(true)
        .operator_cost(OperatorCost { variable: BULK, ..OperatorCost::new() })
        .epoch_interruption(false)
        .max_wasm_stack(FIXED.stack_bytes as usize)
        .async_stack_size(FIXED.stack_bytes as usize + (1 << 20))
        .memory_reservation(MEMORY_RESERVATION_BYTES)
        .memory_may_move(false)
        .memory_init_cow(true)
        .concurrency_support(false)
        // The same step gives the same result on any machine.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        // A guest's symbols and addresses are of no use to its caller.
        .wasm_backtrace_max_frames(None)
        .generate_address_map(false)
        .native_unwind_info(false);
    for unwanted in [
        WasmFeatures::THREADS,
        WasmFeatures::SHARED_EVERYTHING_THREADS,
        WasmFeatures::MEMORY64,
        WasmFeatures::GC,
        WasmFeatures::FUNCTION_REFERENCES,
        WasmFeatures::EXCEPTIONS,
        WasmFeatures::STACK_SWITCHING,
        WasmFeatures::CUSTOM_PAGE_SIZES,
        WasmFeatures::WIDE_ARITHMETIC,
        WasmFeatures::CM_ASYNC,
    ] {
        config.wasm_features(unwanted, false);
    }
    config
}
