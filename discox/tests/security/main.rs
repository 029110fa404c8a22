//! Secured registries: who is refused and told why, whom we trust, and what heals by itself.

mod client;
mod denied;
mod doctor;
mod heals;
#[path = "../program/command.rs"]
#[allow(dead_code, reason = "each test file uses what it needs")]
mod program;
mod roots;
