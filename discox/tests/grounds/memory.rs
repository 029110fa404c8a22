//! The embedded backend.

pub use memory::Memory;

/// As its own tests have it.
#[path = "../../../discox-memory/tests/ground/mod.rs"]
mod memory;
