//! Records of other systems, read and written by the layouts: those in `tests/layouts/`, and those that the other
//! systems themselves have written where they are at hand (`../shared/golden` beside the workspace, or the folder in
//! `DISCOX_GOLDEN`).

#[path = "layouts/examples.rs"]
mod examples;
#[path = "layouts/round_trip.rs"]
mod round_trip;
#[path = "layouts/written.rs"]
mod written;
