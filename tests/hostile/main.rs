//! Attacks on egress and credentials, as tables: what a guest asks, and what must hold whatever it was answered.
//!
//! The oracle is never the guest's error. It is a canary that nobody touched, a name server that was asked for nothing
//! but allowed names, an upstream that saw exactly the expected requests, and a sentinel that is nowhere.
//! Every table has controls: rows that must be answered.

mod ask;
mod framing;
mod namespace;
mod net;
mod oracles;
mod packets;
mod report;
mod rig;
mod scene;
mod secrets;
mod settings;
mod sweep;
mod table;
