//! Bytes that must not be seen: pages of their own, outside core dumps, wiped when they are dropped.

#[cfg(test)]
mod tests;

use std::{io, ptr::NonNull, slice};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap_anonymous, munmap};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// A secret. It has no `Debug`, `Display`, `Clone` or `Serialize`, so that it cannot slip into a text.
///
/// Its pages are excluded from core dumps: a kernel that cannot do that makes [`Secret::blank`] fail. They are locked
/// into memory as far as `RLIMIT_MEMLOCK` goes; what is beyond it may be swapped out. Copies that HTTP, TLS and JSON
/// code makes on the way are outside what this type can promise.
pub struct Secret {
    start: NonNull<u8>,
    /// Bytes that are mapped.
    mapped: usize,
    len: usize,
}

// SAFETY: the pages belong to this value alone, and are written through `&mut` only.
unsafe impl Send for Secret {}
// SAFETY: as above: shared access only reads.
unsafe impl Sync for Secret {}

impl Secret {
    /// Returns `len` zero bytes to write a secret into.
    pub fn blank(len: usize) -> io::Result<Self> {
        let mapped = len.max(1);
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let start = unsafe {
            mmap_anonymous(std::ptr::null_mut(), mapped, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
        }?;
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("the kernel mapped nothing"))?;
        let secret = Self { start, mapped, len };
        // SAFETY: exactly the pages that were just mapped; the advice changes no content.
        unsafe { madvise(start.as_ptr().cast(), mapped, Advice::LinuxDontDump) }?;
        // SAFETY: as above. It fails beyond RLIMIT_MEMLOCK: a secret that may be swapped out is better than no secret.
        let _ = unsafe { mlock(start.as_ptr().cast(), mapped) };
        Ok(secret)
    }

    /// Returns the parts, one after the other.
    pub fn of(parts: &[&[u8]]) -> io::Result<Self> {
        let mut secret = Self::blank(parts.iter().map(|part| part.len()).sum())?;
        let mut rest = secret.expose_mut();
        for part in parts {
            let (here, after) = rest.split_at_mut(part.len());
            here.copy_from_slice(part);
            rest = after;
        }
        Ok(secret)
    }

    /// Shows the bytes. They must go to the upstream that they are for, and nowhere else.
    pub fn expose(&self) -> &[u8] {
        // SAFETY: `len` bytes from `start` are mapped, initialised, and not written while `self` is shared.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// Shows the bytes to write them.
    pub fn expose_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `expose`; `&mut self` makes the access the only one.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    /// Keeps the first `len` bytes, if there are more.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Returns whether both are the same bytes, in a time that depends on their lengths only.
    pub fn same(&self, other: &Self) -> bool {
        self.expose().ct_eq(other.expose()).into()
    }
}

impl AsRef<[u8]> for Secret {
    fn as_ref(&self) -> &[u8] {
        self.expose()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        // What was cut off by `truncate` is wiped too.
        self.len = self.mapped;
        self.expose_mut().zeroize();
        // SAFETY: the mapping is this value's own, and nothing refers to it any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.mapped) };
    }
}
