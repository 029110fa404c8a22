//! What is measured.

pub mod churn;
pub mod fences;
pub mod first_list;
pub mod kept;
mod many;
pub mod memory;
pub mod propagation;
pub mod reads;
pub mod watched;

use std::{future::Future, pin::Pin};

use anyhow::Result;

use crate::bench::Bench;

/// A workload: measures, and notes rows.
pub type Workload = for<'a> fn(&'a mut Bench) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// All of them, by name, in the order in which they run.
pub static ALL: [(&str, Workload); 8] = [
    ("reads", |bench| Box::pin(reads::run(bench))),
    ("memory", |bench| Box::pin(memory::run(bench))),
    ("propagation", |bench| Box::pin(propagation::run(bench))),
    ("fences", |bench| Box::pin(fences::run(bench))),
    ("first_list", |bench| Box::pin(first_list::run(bench))),
    ("churn", |bench| Box::pin(churn::run(bench))),
    ("watched", |bench| Box::pin(watched::run(bench))),
    ("kept", |bench| Box::pin(kept::run(bench))),
];
