//! The suite on another client crate than the default one, which `DISCOX_TEST_CLIENT` names: the cells
//! of its registry, less those that the crate cannot do. Its figures are not those of RELIABILITY.md.

use discox_core::ClientCrate;

use super::{cell::Cell, stage::backend};

/// What a client crate provably cannot do: the crate, the fault, and why. RELIABILITY.md and the docs of the backend say
/// it too.
const EXCEPTIONS: [(ClientCrate, &str, &str); 2] = [
    (
        ClientCrate::ZookeeperAsync,
        "process_killed_and_restarted_within_the_ttl",
        "zookeeper-async knows no transactions: a take-over is a deletion and a creation, and whoever looks in \
         between sees the record gone",
    ),
    (
        ClientCrate::ZookeeperAsync,
        "overlapping_lives_do_not_harm_each_other",
        "zookeeper-async knows no transactions: a record that is taken over between the two requests of a withdrawal \
         is removed, and is back within a heart beat",
    ),
];

/// Whether `DISCOX_TEST_CLIENT` names a client crate.
pub(crate) fn are_tested() -> bool {
    std::env::var_os("DISCOX_TEST_CLIENT").is_some_and(|name| !name.is_empty())
}

/// Why a cell is not played on the client crate to be tested, if it is not.
pub(crate) fn why_not(cell: &Cell) -> Option<&'static str> {
    if !are_tested() {
        return None;
    }
    let Some(client) = crate::client(backend(cell.kind)) else {
        return Some("DISCOX_TEST_CLIENT names a client of another registry");
    };
    let mut exceptions = EXCEPTIONS.into_iter();
    exceptions.find(|(of, fault, _)| (*of, *fault) == (client, cell.fault.name)).map(|(.., why)| why)
}
