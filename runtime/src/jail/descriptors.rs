//! Nothing is inherited but a socket, no output and a pipe for last words; and nothing is open later that is not ours.

use std::io;

use super::proc::Proc;

/// What standard input, output and error refer to.
const INHERITED: [&str; 3] = ["socket:", "/dev/null", "pipe:"];

/// What a jailed process opens itself: its event loop, the engine's page map, and images of memories.
const OWN: [&str; 4] = ["socket:", "anon_inode:[eventpoll]", "anon_inode:[eventfd]", "/memfd:"];

/// Closes everything above standard error.
pub fn close_inherited() -> io::Result<()> {
    // SAFETY: nothing of this process owns a descriptor above 2 yet; the call touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Looks at every open descriptor, by what it refers to: the three that are inherited, and what this process opened.
pub fn audit(proc: &Proc) -> Result<String, String> {
    let open = proc.descriptors().map_err(|e| format!("/proc/self/fd cannot be listed: {e}"))?;
    for (number, target) in &open {
        let known = match INHERITED.get(*number as usize) {
            Some(kind) => target.starts_with(kind),
            None => OWN.iter().any(|kind| target.starts_with(kind)) || target.ends_with("/pagemap"),
        };
        if !known {
            return Err(format!("descriptor {number} is {target}"));
        }
    }
    Ok(format!("{} open: socket, /dev/null and pipe inherited, the others its own", open.len()))
}
