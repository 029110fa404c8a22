//! The conformance suite on the embedded backend.

mod ground;

use std::{process::ExitCode, sync::Arc};

fn main() -> ExitCode {
    discox_testkit::conformance::run(vec![Arc::new(ground::Memory)])
}
