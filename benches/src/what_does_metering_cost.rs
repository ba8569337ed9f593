//! What does metering cost a guest that computes, beside the same engine without a meter?

use std::time::Instant;

use wasmtime::{
    Engine, Store,
    component::{Component, Linker, ResourceTable},
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView, p2::bindings::Command};

use crate::{
    guest,
    report::{Goal, Report, Row, quantile},
};

/// The kernels of tests/guests/src/compute.rs.
const KERNELS: [&str; 5] = ["sieve", "sort", "matrix", "json", "hash"];
const ROUNDS: usize = 9;

struct State(WasiCtx, ResourceTable);

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.0, table: &mut self.1 }
    }
}

pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    let bytes = std::fs::read(guest("compute"))?;
    let engine = |metered| {
        let mut config = palisade::sandbox::configuration();
        config.consume_fuel(metered);
        let engine = Engine::new(&config)?;
        let component = Component::from_binary(&engine, &bytes)?;
        anyhow::Ok((engine, component))
    };
    let (metered, unmetered) = (engine(true)?, engine(false)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut product = 1.0;
    for kernel in KERNELS {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(runtime.block_on(run(&metered.0, &metered.1, kernel, true))?);
            theirs.push(runtime.block_on(run(&unmetered.0, &unmetered.1, kernel, false))?);
        }
        let (ours, theirs) = (quantile(&mut ours, 0.5), quantile(&mut theirs, 0.5));
        product *= ours / theirs;
        let what = format!("{kernel}, metered : not metered");
        report.add(Row { id: "G3".into(), what, ours, theirs, unit: "ms", samples: ROUNDS, goal: Goal::None });
    }
    report.add(Row {
        id: "G3".into(),
        what: "geometric mean of the five".into(),
        ours: product.powf(1.0 / KERNELS.len() as f64),
        theirs: 1.0,
        unit: "×",
        samples: ROUNDS * KERNELS.len(),
        goal: Goal::AtMost(1.45),
    });
    Ok(())
}

async fn run(engine: &Engine, component: &Component, kernel: &str, metered: bool) -> anyhow::Result<f64> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    let wasi = WasiCtx::builder().args(&["compute", kernel]).build();
    let mut store = Store::new(engine, State(wasi, ResourceTable::new()));
    if metered {
        store.set_fuel(u64::MAX)?;
        store.fuel_async_yield_interval(Some(palisade::step::FIXED.yield_fuel))?;
    }
    let command = Command::instantiate_async(&mut store, component, &linker).await?;
    let start = Instant::now();
    let ended = command.wasi_cli_run().call_run(&mut store).await?;
    let elapsed = start.elapsed().as_secs_f64() * 1e3;
    anyhow::ensure!(ended.is_ok(), "{kernel} failed");
    Ok(elapsed)
}
