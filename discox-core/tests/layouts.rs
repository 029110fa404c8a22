//! Records of other systems, read and written by the layouts: those in `tests/layouts/`, and those that the other
//! systems themselves have written where they are at hand (`../shared/golden` beside the workspace, or the folder in
//! `DISCOX_GOLDEN`).

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "layouts/examples.rs"]
mod examples;
// The test kit depends on this crate: its fuzzer alone is built here.
#[allow(dead_code, unreachable_pub)]
#[path = "../../discox-testkit/src/fuzz.rs"]
mod fuzz;
#[path = "layouts/fuzzing.rs"]
mod fuzzing;
#[path = "layouts/round_trip.rs"]
mod round_trip;
#[path = "layouts/written.rs"]
mod written;
