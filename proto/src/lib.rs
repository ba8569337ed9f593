//! The contract with callers: the messages and services of `palisade.v1`.
//!
//! The documentation stands in the `.proto` files, beside this crate's manifest.

/// Everything of package `palisade.v1`.
pub mod v1 {
    tonic::include_proto!("palisade.v1");
}

/// The encoded `FileDescriptorSet` of this package, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
