//! What discox costs: the pieces that its benchmarks share.

pub mod clock;
pub mod fleet;
pub mod scripted;
