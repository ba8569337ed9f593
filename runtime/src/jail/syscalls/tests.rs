//! The lists are as long as the documentation says, and hold for other tables of system calls as well.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{arch::asm, collections::BTreeSet};

use nix::{
    sys::{
        signal::Signal,
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, fork},
};
use seccompiler::apply_filter;

use super::*;

const LISTS: [(&str, &[Call]); 3] =
    [("worker", worker::CALLS), ("compiler", compiler::CALLS), ("daemon", daemon::CALLS)];

#[test]
fn the_lists_are_as_long_as_documented() {
    let page = include_str!("../../../../docs/jail.md");
    for (name, calls) in LISTS {
        let conditional = calls.iter().filter(|call| !call.only.is_empty()).count();
        let row = format!("| {name} | {} | {conditional} |", calls.len());
        assert!(page.contains(&row), "docs/jail.md must have `{row}`");
    }
    assert!(worker::CALLS.len() <= 45);
}

#[test]
fn each_call_stands_once_with_a_reason() {
    for (name, calls) in LISTS {
        let numbers: BTreeSet<_> = calls.iter().map(|call| call.number).collect();
        assert_eq!(numbers.len(), calls.len(), "{name}");
        assert!(calls.iter().all(|call| !call.why.is_empty()), "{name}");
    }
}

#[test]
fn a_system_call_of_a_32_bit_program_kills() {
    for (name, calls) in LISTS {
        // SAFETY: number 20 of that table returns the process id and touches no memory.
        let ended = behind(calls, || unsafe {
            let answer: i32;
            asm!("int 0x80", inout("eax") 20 => answer);
            answer
        });
        assert!(matches!(ended, WaitStatus::Signaled(_, Signal::SIGSYS, _)), "{name}: {ended:?}");
    }
}

#[test]
fn a_system_call_of_the_x32_table_is_denied() {
    const X32: libc::c_long = 0x4000_0000;
    for (name, calls) in LISTS {
        // SAFETY: returns the process id and touches no memory.
        let ended = behind(calls, || unsafe { libc::syscall(X32 | libc::SYS_getpid) as i32 });
        assert!(matches!(ended, WaitStatus::Exited(_, 255)), "{name}: {ended:?}");
    }
}

/// Returns how a process ends that performs `act` behind the filter, and then exits with what that returned.
fn behind(calls: &[Call], act: fn() -> i32) -> WaitStatus {
    let program = filter::program(calls).unwrap();
    // SAFETY: the child allocates nothing: it makes system calls only, and ends without running any destructor.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let code = if apply_filter(&program).is_ok() { act() } else { 1 };
            // SAFETY: ends the process.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => waitpid(child, None).unwrap(),
    }
}
