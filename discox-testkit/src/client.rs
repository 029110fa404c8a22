//! Which client crate the tests stand on, where a backend has several, and whether it is guarded.

use discox_core::{BackendType, ClientCrate};

/// What `DISCOX_TEST_CLIENT` names, if it is a client of this backend; none is the default one.
///
/// # Panics
/// It names no client crate.
#[expect(clippy::panic, reason = "a wrong setting must not pass for the default")]
pub fn client(backend: BackendType) -> Option<ClientCrate> {
    let name = std::env::var("DISCOX_TEST_CLIENT").ok().filter(|name| !name.is_empty())?;
    match name.parse::<ClientCrate>() {
        Ok(client) => (client.backend() == backend).then_some(client),
        Err(error) => panic!("DISCOX_TEST_CLIENT: {error}"),
    }
}

/// Whether `DISCOX_TEST_GUARD` is set and this backend knows a guard
/// ([`ZookeeperOptions::guard`](discox_core::ZookeeperOptions::guard)).
pub fn guard(backend: BackendType) -> bool {
    let is_set = std::env::var_os("DISCOX_TEST_GUARD").is_some_and(|value| !value.is_empty());
    is_set && backend == BackendType::Zookeeper
}
