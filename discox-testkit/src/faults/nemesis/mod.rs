//! A nemesis: random schedules of faults that overlap, on real servers, and a judge who knows the promises.
//!
//! A schedule (`schedule.rs`) comes from a seed. While its steps are played, registrations, processes and watchers live
//! on the stage; afterwards everything must be as the promises have it (`judge.rs`). A failure prints its schedule.
//!
//! | variable | |
//! |---|---|
//! | `DISCOX_NEMESIS` | `short` (fixed seeds and a new one; the default), or for how long new seeds are played: `90m` |
//! | `DISCOX_NEMESIS_JOBS` | schedules side by side, 6 |
//! | `DISCOX_NEMESIS_SEED` | only this seed, on what the filter names: `-- etcd::single` |
//! | `DISCOX_NEMESIS_DROP` | the numbers of steps that are left out, separated by commas |
//! | `DISCOX_NEMESIS_SHRINK` | at most so many runs look for steps that a failure does not need, 0 |
//! | `RUST_LOG` | what discox says, on standard error |

mod acts;
mod judge;
mod runner;
mod schedule;
mod shrink;
mod world;

pub use self::runner::run;
