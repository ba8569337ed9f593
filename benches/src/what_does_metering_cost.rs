//! What does metering cost five programs, beside the same engine without a meter, and beside one with epochs?

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use wasmtime::{
    Engine, Store,
    component::{Component, Linker, ResourceTable},
};
use wasmtime_wasi::{
    WasiCtx, WasiCtxView, WasiView,
    p2::{bindings::Command, pipe::MemoryInputPipe},
};

use crate::{
    guest,
    report::{Goal, Report, Row, quantile},
};

/// The programs of tests/guests/src/compute.rs.
const PROGRAMS: [&str; 5] = ["json", "regex", "toml", "sha256", "wasm"];
const ROUNDS: usize = 9;

/// How often an epoch ends.
const EPOCH: Duration = Duration::from_millis(1);

/// What a program is held by.
#[derive(Clone, Copy)]
enum Meter {
    None,
    /// As we run it.
    Fuel,
    Epochs,
    Both,
}

const METERS: [Meter; 4] = [Meter::None, Meter::Fuel, Meter::Epochs, Meter::Both];

struct State(WasiCtx, ResourceTable);

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.0, table: &mut self.1 }
    }
}

pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    let bytes = std::fs::read(guest("compute"))?;
    let engines = METERS.map(|meter| engine(meter, &bytes));
    let engines: Vec<_> = engines.into_iter().collect::<anyhow::Result<_>>()?;
    let over = Arc::new(AtomicBool::new(false));
    let ticking = tick(engines.iter().map(|(engine, _)| engine.clone()).collect(), over.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut products = [1.0; 4];
    for program in PROGRAMS {
        let mut taken = [const { Vec::new() }; 4];
        for _ in 0..ROUNDS {
            for ((meter, (engine, component)), taken) in METERS.iter().zip(&engines).zip(&mut taken) {
                taken.push(runtime.block_on(run(engine, component, program, *meter, &bytes))?);
            }
        }
        let [theirs, ours, epochs, both] = taken.map(|mut taken| quantile(&mut taken, 0.5));
        for (product, taken) in products.iter_mut().zip([theirs, ours, epochs, both]) {
            *product *= taken / theirs;
        }
        let what = format!("{program}, metered : not metered");
        report.add(Row { id: "G3".into(), what, ours, theirs, unit: "ms", samples: ROUNDS, goal: Goal::None });
    }
    over.store(true, Ordering::Relaxed);
    let _ = ticking.join(); // it cannot panic
    let [_, fuel, epochs, both] = products.map(|product| product.powf(1.0 / PROGRAMS.len() as f64));
    let means = [("fuel", fuel, Goal::AtMost(1.45)), ("epochs", epochs, Goal::None), ("both", both, Goal::None)];
    for (what, ours, goal) in means {
        let what = format!("geometric mean of the five, {what} : no meter");
        let samples = ROUNDS * PROGRAMS.len();
        report.add(Row { id: "G3".into(), what, ours, theirs: 1.0, unit: "×", samples, goal });
    }
    Ok(())
}

fn engine(meter: Meter, bytes: &[u8]) -> anyhow::Result<(Engine, Component)> {
    let mut config = palisade::sandbox::configuration();
    config.consume_fuel(matches!(meter, Meter::Fuel | Meter::Both));
    config.epoch_interruption(matches!(meter, Meter::Epochs | Meter::Both));
    let engine = Engine::new(&config)?;
    let component = Component::from_binary(&engine, bytes)?;
    Ok((engine, component))
}

/// Ends epochs until it is over.
fn tick(engines: Vec<Engine>, over: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            std::thread::sleep(EPOCH);
            engines.iter().for_each(Engine::increment_epoch);
        }
    })
}

async fn run(engine: &Engine, component: &Component, program: &str, meter: Meter, input: &[u8]) -> anyhow::Result<f64> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    let stdin = MemoryInputPipe::new(input.to_vec());
    let wasi = WasiCtx::builder().args(&["compute", program]).stdin(stdin).build();
    let mut store = Store::new(engine, State(wasi, ResourceTable::new()));
    if matches!(meter, Meter::Fuel | Meter::Both) {
        store.set_fuel(u64::MAX)?;
        store.fuel_async_yield_interval(Some(palisade::step::FIXED.yield_fuel))?;
    }
    if matches!(meter, Meter::Epochs | Meter::Both) {
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
    }
    let command = Command::instantiate_async(&mut store, component, &linker).await?;
    let start = Instant::now();
    let ended = command.wasi_cli_run().call_run(&mut store).await?;
    let elapsed = start.elapsed().as_secs_f64() * 1e3;
    anyhow::ensure!(ended.is_ok(), "{program} failed");
    Ok(elapsed)
}
