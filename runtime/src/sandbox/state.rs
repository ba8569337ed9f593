//! What one step has on the host's side. It lives as long as the step's store.

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView, random::WasiRandomCtx};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView};

use super::limiter::Limiter;
use crate::{
    host::{Clock, EventSink, Files, Gate, Outlet, Stdin, Stdio, Trees, files, random},
    step::{FIXED, StepSpec, Task},
};

/// A step's ways out: what it says and asks goes to the daemon, and what it writes is counted.
#[derive(Clone)]
pub struct Ways {
    pub outlet: Outlet,
    pub gate: Gate,
    pub trees: Trees,
}

/// The data of a step's store.
pub struct StepState {
    wasi: WasiCtx,
    table: ResourceTable,
    files: Files,
    gate: Gate,
    http: WasiHttpCtx,
    pub clock: Clock,
    pub limiter: Limiter,
    pub events: EventSink,
    pub stdio: Stdio,
}

impl StepState {
    /// Returns the state of a step. Fails if a mount cannot be opened.
    pub fn new(spec: &mut StepSpec, ways: Ways) -> wasmtime::Result<Self> {
        let Ways { outlet, gate, trees } = ways;
        let (stdout, stderr) = Stdio::pair(&outlet, spec.limits.stdio_bytes);
        let mut wasi = WasiCtx::builder();
        // Files are local: a hop to another thread costs more than the call. What could block is not opened.
        wasi.allow_blocking_current_thread(true);
        wasi.stdout(stdout.clone()).stderr(stderr).args(&spec.args).envs(&spec.env);
        random::seed(&mut wasi, spec.origin.seed);
        if let Task::Command { stdin } = &mut spec.task {
            wasi.stdin(Stdin::new(std::mem::take(stdin)));
        }
        let clock = Clock::new(spec.origin.start_ms, spec.limits.fuel);
        let mut files = Files::new(spec.origin.seed, clock.start(), &trees);
        for mount in &spec.mounts {
            let perms = if mount.writable.is_some() { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
            wasi.preopened_dir(&mount.host_path, &mount.guest_path, perms)?;
            files.add(mount, &trees);
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(FIXED.resources as usize);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(FIXED.header_fields_bytes as usize);
        Ok(Self {
            wasi: wasi.build(),
            table,
            files,
            gate,
            http,
            clock,
            limiter: Limiter::new(spec.limits.memory_bytes),
            events: EventSink::new(outlet, spec.limits.events),
            stdio: stdout,
        })
    }

    /// Returns by how many bytes and entries the writable mounts grew.
    pub fn growth(&self) -> (i64, i64) {
        self.files.growth()
    }

    /// Sets the clock to the daemon's latest answer. For each return from the host.
    pub fn notice_answers(&mut self, fuel_left: u64) {
        self.clock.reach_ms(self.gate.answered_ms(), fuel_left);
    }

    /// Sets the clock to the latest response over HTTP: the guest looks whether there is one.
    pub fn notice_responses(&mut self, fuel_left: u64) {
        self.gate.notice_responses();
        self.notice_answers(fuel_left);
    }

    // What the host's interfaces see of this: each its own part.

    pub fn events(&mut self) -> &mut EventSink {
        &mut self.events
    }

    pub fn files(&mut self) -> files::View<'_> {
        files::View { ctx: self.wasi.filesystem(), table: &mut self.table, files: &mut self.files }
    }

    pub fn gate(&mut self) -> &mut Gate {
        &mut self.gate
    }

    pub fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.gate, table: &mut self.table, ctx: &mut self.http }
    }

    pub fn random(&mut self) -> &mut WasiRandomCtx {
        self.wasi.random()
    }

    pub fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }
}

impl WasiView for StepState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}
