//! Services of an existing fleet, by clients that are not ours: they follow ours, and we follow theirs.

#[path = "foreign/curator.rs"]
mod curator;
#[allow(dead_code, unused_imports, reason = "each test file uses what it needs")]
mod program;
