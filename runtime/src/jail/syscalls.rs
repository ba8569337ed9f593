//! seccomp: the system calls that are left, each with its reason. Any other answers EPERM.

mod compiler;
mod daemon;
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

impl Call {
    /// Returns whether a filter with this call in it lets a call with these arguments through.
    pub(super) fn allows(&self, number: c_long, arguments: &[c_long; 5]) -> bool {
        let holds = |argument: &Argument| argument.holds(arguments);
        self.number == number && (self.only.is_empty() || self.only.iter().any(|line| line.iter().all(holds)))
    }
}

impl Argument {
    fn holds(&self, arguments: &[c_long; 5]) -> bool {
        let of = |index: u8| arguments.get(usize::from(index)).copied().unwrap_or(0) as u64;
        match *self {
            Self::Is(index, value) => of(index) == value,
            Self::IsInt(index, value) => of(index) as u32 == value as u32,
            Self::Has(index, bits) => of(index) & bits == bits,
            Self::Lacks(index, bits) => of(index) & bits == 0,
            Self::OwnProcess(index) => of(index) as u32 == std::process::id(),
        }
    }
}

/// Returns whether a daemon may make this call.
pub(super) fn daemon_may(number: c_long, arguments: &[c_long; 5]) -> bool {
    daemon::CALLS.iter().any(|call| call.allows(number, arguments))
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

/// Applies the daemon's filter to this thread, and to all that it starts.
pub(super) fn restrict_daemon() -> Result<(), String> {
    filter::refuse_here_as_unknown(libc::SYS_clone3)?;
    filter::allow_here(daemon::CALLS)
}

const fn any(number: c_long, why: &'static str) -> Call {
    Call { number, why, only: &[] }
}

const fn only(number: c_long, why: &'static str, only: &'static [&'static [Argument]]) -> Call {
    Call { number, why, only }
}

/// All flags of `clone` that make a namespace.
const NAMESPACES: u64 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u64;

/// Memory is never writable and executable at once: of `mmap` and `mprotect`, whose third argument says what it is.
const NOT_BOTH: &[&[Argument]] =
    &[&[Argument::Lacks(2, libc::PROT_WRITE as u64)], &[Argument::Lacks(2, libc::PROT_EXEC as u64)]];
