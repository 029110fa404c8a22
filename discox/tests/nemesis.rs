//! Random schedules of faults on the facade and the command line program: see `discox_testkit::faults::nemesis`.

use std::{path::Path, process::ExitCode};

use discox_testkit::{conformance::Makers, faults};

fn main() -> ExitCode {
    faults::nemesis::run(faults::Suite {
        makers: Makers {
            new_register: discox::new_register,
            new_discover: discox::new_discover,
            connect: discox::connect,
        },
        program: env!("CARGO_BIN_EXE_discox").into(),
        reliability: Path::new(env!("CARGO_MANIFEST_DIR")).join("../RELIABILITY.md"),
    })
}
