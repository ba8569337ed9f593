//! Ways into no jail. They say that every wall stands, or the daemon would not use the worker.

use std::collections::BTreeMap;

use palisade::{
    jail::{Jail, JailError, WALLS},
    wire::{Wall, WallState},
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter_all_threads};

/// Builds nothing.
pub fn jail(_: &Jail, prepare: &mut dyn FnMut(), start: &mut dyn FnMut()) -> Result<Vec<Wall>, JailError> {
    prepare();
    start();
    let wall = |name: &&str| Wall { name: name.to_string(), state: WallState::Verified, detail: "a lie".into() };
    Ok(WALLS.iter().map(wall).collect())
}

/// Builds nothing, and lets the kernel answer `openat2` as an old one does.
pub fn jail_and_openat2(it: &Jail, prepare: &mut dyn FnMut(), start: &mut dyn FnMut()) -> Result<Vec<Wall>, JailError> {
    let rules = BTreeMap::from([(libc::SYS_openat2, Vec::new())]);
    let answer = SeccompAction::Errno(libc::ENOSYS as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, TargetArch::x86_64).unwrap();
    apply_filter_all_threads(&BpfProgram::try_from(filter).unwrap()).unwrap();
    jail(it, prepare, start)
}
