//! Attacks, as tables: what a guest, a module or a caller does, and what must hold whatever it was answered.
//!
//! The oracle is never the guest's error. It is a canary that nobody touched, a name server that was asked for nothing
//! but allowed names, an upstream that saw exactly the expected requests, and a sentinel that is nowhere.
//! Every table has controls: rows that must be answered. What exhausts, is malformed or floods is held by a siege.

mod ask;
mod frames;
mod framing;
mod fs;
mod holdings;
mod modules;
mod namespace;
mod net;
mod oracles;
mod packets;
mod report;
mod res;
mod rig;
mod rpc;
mod scene;
mod secrets;
mod settings;
mod siege;
mod sweep;
mod table;
