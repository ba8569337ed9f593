//! Proofs of RFC 6962, section 2.1, from any store that knows the hashes of complete subtrees.

use super::merkle::{Hash, fold, subtrees};

/// Returns the hashes that prove that the leaf at `position` is in the tree of `size` leaves, from the leaf up.
/// `subtree` returns the hash of a complete subtree by level and position.
///
/// The position is below the size.
pub fn inclusion<E>(
    position: u64,
    size: u64,
    subtree: &mut impl FnMut(u32, u64) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    let (mut start, mut end) = (0, size);
    let mut path = Vec::new();
    while end - start > 1 {
        let middle = start + split(end - start);
        if position < middle {
            path.push(root(middle, end, subtree)?);
            end = middle;
        } else {
            path.push(root(start, middle, subtree)?);
            start = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// Returns the hashes that prove that the tree of `old` leaves is the beginning of the tree of `new` leaves.
///
/// `old` is above zero and at most `new`.
pub fn consistency<E>(
    old: u64,
    new: u64,
    subtree: &mut impl FnMut(u32, u64) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    let (mut start, mut end) = (0, new);
    let mut path = Vec::new();
    while old != end {
        let middle = start + split(end - start);
        if old <= middle {
            path.push(root(middle, end, subtree)?);
            end = middle;
        } else {
            path.push(root(start, middle, subtree)?);
            start = middle;
        }
    }
    // The verifier knows the old root: where that is the last subtree, it is left out.
    if start != 0 {
        path.push(root(start, end, subtree)?);
    }
    path.reverse();
    Ok(path)
}

/// Returns the root of the first `size` leaves.
pub fn root_at<E>(size: u64, subtree: &mut impl FnMut(u32, u64) -> Result<Hash, E>) -> Result<Hash, E> {
    root(0, size, subtree)
}

fn root<E>(start: u64, end: u64, subtree: &mut impl FnMut(u32, u64) -> Result<Hash, E>) -> Result<Hash, E> {
    let hashes =
        subtrees(start, end).map(|(level, position)| subtree(level, position)).collect::<Result<Vec<_>, E>>()?;
    Ok(fold(&hashes))
}

/// Returns the largest power of two below `count`, which is above one.
fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}
