//! Attacks on files: every class in every setting, and what decides is outside of the mounts.
//!
//! A secret of its own lies in each place that no guest may reach. A row holds if no secret is in what its guest was
//! told; a table holds if besides the outside tree and the read-only mount are as they were (path, inode, times, mode,
//! links, content), no secret has got into a writable mount, and the worker that ran it is still there. What the guest
//! was answered decides only of controls, and of rows that a guest must be refused.

mod cases;
mod descriptors;
mod links;
mod names;
mod paths;
mod quota;
mod races;
mod random;
mod raw;
mod read_only;
mod residue;
mod special;
mod table;
mod tree;
mod world;
