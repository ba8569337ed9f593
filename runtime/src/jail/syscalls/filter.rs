//! Makes a filter of a list, and installs it.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op,
    SeccompCondition as Condition, SeccompFilter, SeccompRule, TargetArch, apply_filter, apply_filter_all_threads,
};

use super::{Argument, Call};

/// Leaves these calls and answers EPERM to all others, in every thread.
pub fn allow(calls: &[Call]) -> Result<(), String> {
    apply_filter_all_threads(&program(calls)?).map_err(|e| e.to_string())
}

/// Leaves these calls in this thread and those that it starts.
pub fn allow_here(calls: &[Call]) -> Result<(), String> {
    apply_filter(&program(calls)?).map_err(|e| e.to_string())
}

/// Returns the filter that leaves these calls.
pub fn program(calls: &[Call]) -> Result<BpfProgram, String> {
    let rules = calls.iter().map(|call| Ok((call.number, rules(call)?))).collect::<Result<_, BackendError>>();
    compile(rules.map_err(|e| e.to_string())?, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow)
}

/// Makes one call look as if the kernel did not have it.
pub fn refuse_as_unknown(call: c_long) -> Result<(), String> {
    apply_filter_all_threads(&unknown(call)?).map_err(|e| e.to_string())
}

/// The same in this thread and those that it starts.
pub fn refuse_here_as_unknown(call: c_long) -> Result<(), String> {
    apply_filter(&unknown(call)?).map_err(|e| e.to_string())
}

fn unknown(call: c_long) -> Result<BpfProgram, String> {
    let rules = BTreeMap::from([(call, Vec::new())]);
    compile(rules, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32))
}

fn rules(call: &Call) -> Result<Vec<SeccompRule>, BackendError> {
    call.only.iter().map(|line| SeccompRule::new(line.iter().map(condition).collect::<Result<_, _>>()?)).collect()
}

fn condition(argument: &Argument) -> Result<Condition, BackendError> {
    match *argument {
        Argument::Is(index, value) => Condition::new(index, Len::Qword, Op::Eq, value),
        Argument::IsInt(index, value) => Condition::new(index, Len::Dword, Op::Eq, u64::from(value as u32)),
        Argument::Has(index, bits) => Condition::new(index, Len::Qword, Op::MaskedEq(bits), bits),
        Argument::Lacks(index, bits) => Condition::new(index, Len::Qword, Op::MaskedEq(bits), 0),
        Argument::OwnProcess(index) => Condition::new(index, Len::Dword, Op::Eq, std::process::id().into()),
    }
}

fn compile(
    rules: BTreeMap<c_long, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, String> {
    let filter = SeccompFilter::new(rules, otherwise, matched, TargetArch::x86_64).map_err(|e| e.to_string())?;
    filter.try_into().map_err(|e: BackendError| e.to_string())
}
