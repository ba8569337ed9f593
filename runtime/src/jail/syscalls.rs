//! seccomp: the system calls that are left, each with its reason. Any other answers EPERM.

mod compiler;
mod filter;
#[cfg(test)]
mod tests;
mod worker;

use libc::c_long;

use super::Role;

/// A system call that is left.
struct Call {
    number: c_long,
    /// What it is for.
    #[cfg_attr(not(test), expect(dead_code, reason = "for people"))]
    why: &'static str,
    /// With which arguments: all of one line. Without a line, with any.
    only: &'static [&'static [Argument]],
}

/// What an argument must be.
#[derive(Clone, Copy)]
enum Argument {
    /// The argument has this value, in all 64 bits.
    Is(u8, u64),
    /// The argument's lower half has this value: a C `int`.
    IsInt(u8, i32),
    /// The argument has all of these bits.
    Has(u8, u64),
    /// The argument has none of these bits.
    Lacks(u8, u64),
    /// The argument is this process.
    OwnProcess(u8),
}

/// Returns the system calls of a role.
fn of(role: Role) -> &'static [Call] {
    match role {
        Role::Worker => worker::CALLS,
        Role::Compiler => compiler::CALLS,
    }
}

/// Applies the filter of `role` to every thread, for ever.
pub(super) fn restrict(role: Role) -> Result<(), String> {
    // clone3 hides its flags from a filter. "Not implemented" makes libc use clone, whose flags are judged. Of two
    // filters the stricter answer counts. This one comes first: the other one forbids to install any more.
    if role == Role::Compiler {
        filter::refuse_as_unknown(libc::SYS_clone3)?;
    }
    filter::allow(of(role))
}

const fn any(number: c_long, why: &'static str) -> Call {
    Call { number, why, only: &[] }
}

const fn only(number: c_long, why: &'static str, only: &'static [&'static [Argument]]) -> Call {
    Call { number, why, only }
}

/// Memory is never writable and executable at once: of `mmap` and `mprotect`, whose third argument says what it is.
const NOT_BOTH: &[&[Argument]] =
    &[&[Argument::Lacks(2, libc::PROT_WRITE as u64)], &[Argument::Lacks(2, libc::PROT_EXEC as u64)]];
