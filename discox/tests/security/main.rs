//! Secured registries: who is refused and told why, and what heals by itself.

mod client;
mod denied;
mod heals;
