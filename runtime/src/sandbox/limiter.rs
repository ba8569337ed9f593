//! Memory and tables of one step.

use wasmtime::ResourceLimiter;

use crate::step::FIXED;

/// Bytes of a table's element.
const ELEMENT_BYTES: u64 = size_of::<usize>() as u64;

/// Grants growth up to the step's limit, over all its memories and tables together.
pub struct Limiter {
    memory_bytes_max: u64,
    memory_bytes: u64,
    memory_peak_bytes: u64,
    /// Growth was refused: a trap that follows is the limit's doing.
    refused: bool,
}

impl Limiter {
    /// Returns a limiter that grants up to `memory_bytes_max`.
    pub fn new(memory_bytes_max: u64) -> Self {
        Self { memory_bytes_max, memory_bytes: 0, memory_peak_bytes: 0, refused: false }
    }

    /// Returns the most memory that the step had at once.
    pub fn memory_peak_bytes(&self) -> u64 {
        self.memory_peak_bytes
    }

    /// Returns whether the step wanted more memory than it may have.
    pub fn refused_memory(&self) -> bool {
        self.refused
    }

    fn grant(&mut self, more: u64) -> bool {
        let total = self.memory_bytes + more;
        if total > self.memory_bytes_max {
            self.refused = true;
            return false;
        }
        self.memory_bytes = total;
        self.memory_peak_bytes = self.memory_peak_bytes.max(total);
        true
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        // A memory that is at the maximum that its own module declares is no business of the limit.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grant((desired - current) as u64))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired as u64 > FIXED.table_elements || maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grant((desired - current) as u64 * ELEMENT_BYTES))
    }

    fn instances(&self) -> usize {
        FIXED.core_instances as usize
    }

    fn tables(&self) -> usize {
        FIXED.tables as usize
    }

    fn memories(&self) -> usize {
        FIXED.memories as usize
    }
}
