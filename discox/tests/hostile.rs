//! Registries that mean no good, on the facade: see `discox_testkit::hostile`.
//!
//! `cargo test -p discox --test hostile -- consul` plays a part of it.

use std::process::ExitCode;

use discox_testkit::{conformance::Makers, hostile};

fn main() -> ExitCode {
    hostile::run(Makers {
        new_register: discox::new_register,
        new_discover: discox::new_discover,
        connect: discox::connect,
    })
}
