//! The suite on another client crate than the default one, which `DISCOX_TEST_CLIENT` names, or behind a guard
//! (`DISCOX_TEST_GUARD`): the cells of its registry, less those that it cannot do. Its figures are not those of
//! RELIABILITY.md.

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

/// Whether there is an option to be tested.
pub(crate) fn are_tested() -> bool {
    is_set("DISCOX_TEST_CLIENT") || is_set("DISCOX_TEST_GUARD")
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// Why a cell is not played on what is to be tested, if it is not.
pub(crate) fn why_not(cell: &Cell) -> Option<&'static str> {
    if is_set("DISCOX_TEST_GUARD") && !crate::guard(backend(cell.kind)) {
        return Some("this registry knows no guard");
    }
    if !is_set("DISCOX_TEST_CLIENT") {
        return None;
    }
    let Some(client) = crate::client(backend(cell.kind)) else {
        return Some("DISCOX_TEST_CLIENT names a client of another registry");
    };
    let mut exceptions = EXCEPTIONS.into_iter();
    exceptions.find(|(of, fault, _)| (*of, *fault) == (client, cell.fault.name)).map(|(.., why)| why)
}
