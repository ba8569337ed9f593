//! The dimensions of a budget, and sums in all of them.

use serde::{Deserialize, Serialize};

/// An amount in each dimension. Left out means 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Amounts {
    /// Fuel: roughly, instructions of guest code.
    pub fuel: u64,
    /// Milliseconds that steps ran, waiting included.
    pub wall_ms: u64,
    /// Host calls, allowed or not.
    pub host_calls: u64,
    /// Calls of tools, which are host calls, too.
    pub tool_calls: u64,
    /// Bytes that guests received through host calls.
    pub bytes_in: u64,
    /// Bytes that guests sent through host calls.
    pub bytes_out: u64,
}

impl Amounts {
    /// Nothing ends: a limit for accounts that others around them hold.
    pub const UNLIMITED: Self = Self::from_array([u64::MAX; 6]);

    /// Returns the names of all dimensions, in the order of the fields.
    pub const fn names() -> [&'static str; 6] {
        ["fuel", "wall_ms", "host_calls", "tool_calls", "bytes_in", "bytes_out"]
    }

    /// Returns the amounts in the order of [`Amounts::names`].
    pub const fn to_array(self) -> [u64; 6] {
        [self.fuel, self.wall_ms, self.host_calls, self.tool_calls, self.bytes_in, self.bytes_out]
    }

    /// Returns the sum, which stays at the largest number instead of overflowing.
    pub fn saturating_add(self, other: Self) -> Self {
        self.with(other, u64::saturating_add)
    }

    /// Returns the difference, which stays at 0 instead of becoming negative.
    pub fn saturating_sub(self, other: Self) -> Self {
        self.with(other, u64::saturating_sub)
    }

    /// Returns the smaller amount in each dimension.
    pub fn min(self, other: Self) -> Self {
        self.with(other, u64::min)
    }

    /// Returns the first dimension in which this is more than `other`, by its place in [`Amounts::names`].
    pub(super) fn first_above(self, other: Self) -> Option<usize> {
        self.to_array().iter().zip(other.to_array()).position(|(mine, others)| *mine > others)
    }

    const fn from_array([fuel, wall_ms, host_calls, tool_calls, bytes_in, bytes_out]: [u64; 6]) -> Self {
        Self { fuel, wall_ms, host_calls, tool_calls, bytes_in, bytes_out }
    }

    fn with(self, other: Self, combine: impl Fn(u64, u64) -> u64) -> Self {
        let (mine, others) = (self.to_array(), other.to_array());
        Self::from_array(std::array::from_fn(|dimension| combine(mine[dimension], others[dimension])))
    }
}
