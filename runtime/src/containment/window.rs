//! A sum over a time that slides.

use std::collections::VecDeque;

use super::rule::BYTES_MAX;

/// Parts of a window, in whole milliseconds. What is too old leaves it part by part: the part of now comes on top.
const SLICES: u64 = 60;

/// The sum of what happened within a time, in little memory however much happens.
pub struct Window {
    slice_ms: u64,
    /// Number of the slice, and the sum in it.
    slices: VecDeque<(u64, u64)>,
    sum: u64,
}

impl Window {
    pub fn new(within_ms: u64) -> Self {
        Self { slice_ms: within_ms.div_ceil(SLICES), slices: VecDeque::new(), sum: 0 }
    }

    /// Adds an amount; returns the sum.
    pub fn add(&mut self, at_ms: u64, amount: u64) -> u64 {
        let slice = self.advance(at_ms);
        if self.slices.back().is_none_or(|(newest, _)| *newest != slice) {
            self.slices.push_back((slice, 0));
        }
        if let Some((_, of_slice)) = self.slices.back_mut() {
            // More than any rule asks for is as good as that, and so no sum overflows.
            let amount = amount.min(BYTES_MAX - *of_slice);
            *of_slice += amount;
            self.sum += amount;
        }
        self.sum
    }

    pub fn clear(&mut self) {
        self.slices.clear();
        self.sum = 0;
    }

    /// Leaves out what is too old; returns the slice of now.
    fn advance(&mut self, at_ms: u64) -> u64 {
        let asked = at_ms / self.slice_ms;
        let newest = self.slices.back().map_or(asked, |(newest, _)| *newest);
        if asked.saturating_add(SLICES) < newest {
            self.clear(); // the clock was set back
        }
        // Observations of several threads come a little out of order.
        let slice = if self.slices.is_empty() { asked } else { asked.max(newest) };
        while let Some((_, amount)) =
            self.slices.front().copied().filter(|(oldest, _)| oldest.saturating_add(SLICES) < slice)
        {
            self.sum -= amount;
            self.slices.pop_front();
        }
        slice
    }
}
