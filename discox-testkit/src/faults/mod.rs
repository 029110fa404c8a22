//! The fault suite: every fault that a registry can have, caused for real, and what discox makes of it.
//!
//! A [`Fault`] on a [`Topology`] of a registry is a [`Cell`]. Each cell starts its own servers, live
//! registrations and watchers ([`Stage`]), causes its fault, and asserts:
//!
//! - the end: every live endpoint is registered (by a fresh discovery and by the registry's own tool), every
//!   watcher's cache is equal to that;
//! - the way there: no watcher lost a live endpoint or showed a wrong one, each loss was told once and
//!   recovered from once;
//! - the truth of what was said meanwhile: no status and no freshness differed from what the registry had for longer
//!   than its bound (`truth.rs`).
//!
//! How long things took is recorded and compared with the promised figure; three times the figure fails.
//!
//! | variable | |
//! |---|---|
//! | `DISCOX_FAULTS` | `short` (a selection, minutes; the default) or `long` (all cells) |
//! | `DISCOX_FAULT_RUNS` | how often each cell is run: 1 in the short form, 20 in the long one |
//! | `DISCOX_FAULT_JOBS` | cells side by side, 6 |
//! | `DISCOX_RELIABILITY` | `write`: only move what was measured to `docs/reliability/runs.jsonl`, and write the figures of all runs there into `RELIABILITY.md` |
//! | `RUST_LOG` | what discox says, on standard error |
//!
//! Every run appends a line of JSON to `discox-test/faults.jsonl` in the build folder, until it is moved. A cell's name, or a part
//! of it, on the command line chooses cells, as in any test binary; one named so is run in the short form too.

mod absent;
mod book;
mod burst;
mod by_hand;
mod cell;
mod clusters;
mod fencing;
mod form;
mod grace;
mod hangs;
mod history;
mod kills;
mod leaks;
mod lives;
mod logs;
pub mod nemesis;
mod network;
mod notes;
mod options;
mod process;
mod reading;
mod recovery;
mod report;
mod runner;
mod session_closer;
mod stage;
mod table;
mod thousands;
mod tools;
mod truth;
mod watcher;

use std::path::PathBuf;

pub use self::{
    cell::{Cell, Fault, Play, Settings, Topology},
    runner::run,
    stage::Stage,
    table::faults,
};
use crate::conformance::Makers;

/// What the suite is run with.
pub struct Suite {
    /// The facade's functions.
    pub makers: Makers,
    /// The command line program.
    pub program: PathBuf,
    /// `RELIABILITY.md`.
    pub reliability: PathBuf,
}
