//! The embedded backend, as its own tests have it.

#[path = "../../../discox-memory/tests/ground/mod.rs"]
mod own;

pub(super) use own::Memory;
