//! What discox costs: the pieces of the program `discox-bench` and of the criterion benchmarks.

pub mod bench;
pub mod client;
pub mod clock;
pub mod document;
pub mod facade;
pub mod figures;
pub mod fleet;
pub mod lane;
pub mod memory;
pub mod options;
pub mod peers;
pub mod plot;
pub mod program;
pub mod raw;
pub mod report;
pub mod scripted;
pub mod stats;
pub mod tap;
pub mod workloads;
