//! The registries that the conformance suite is played on.

mod consul;
mod etcd;
mod memory;
mod server;
mod zookeeper;

use std::{path::PathBuf, sync::Arc};

use discox::{BackendType, ClientCrate, ConnectionConfig, DiscoverConfig, RegisterConfig, RegistryConfig};
use discox_testkit::conformance::{Makers, Site};

/// One of each, and each other client crate that is compiled in.
pub(super) fn all() -> Vec<Arc<dyn Site>> {
    vec![
        Arc::new(memory::Memory),
        Arc::new(server::Server::<etcd::Etcd>::new()),
        Arc::new(server::Server::<zookeeper::Zookeeper>::new()),
        #[cfg(feature = "zookeeper-async")]
        Arc::new(server::Server::<zookeeper::Zookeeper>::by(ClientCrate::ZookeeperAsync)),
        Arc::new(server::Server::<consul::Consul>::new()),
        #[cfg(feature = "consulrs")]
        Arc::new(server::Server::<consul::Consul>::by(ClientCrate::Consulrs)),
    ]
}

/// The facade's functions, with the backend and the client crate filled in.
fn makers(backend: BackendType, client: Option<ClientCrate>) -> Makers {
    macro_rules! on {
        ($backend:ident, $client:expr) => {
            Makers {
                new_register: |config| {
                    discox::new_register(RegisterConfig {
                        backend_type: BackendType::$backend,
                        connection: ConnectionConfig { client: $client, ..config.connection },
                        ..config
                    })
                },
                new_discover: |config| {
                    discox::new_discover(DiscoverConfig {
                        backend_type: BackendType::$backend,
                        connection: ConnectionConfig { client: $client, ..config.connection },
                        ..config
                    })
                },
                connect: |config| {
                    discox::connect(RegistryConfig {
                        backend_type: BackendType::$backend,
                        connection: ConnectionConfig { client: $client, ..config.connection },
                        ..config
                    })
                },
            }
        };
    }
    match (backend, client) {
        (BackendType::Etcd, _) => on!(Etcd, None),
        (BackendType::Zookeeper, Some(ClientCrate::ZookeeperAsync)) => {
            on!(Zookeeper, Some(ClientCrate::ZookeeperAsync))
        }
        (BackendType::Zookeeper, _) => on!(Zookeeper, None),
        (BackendType::Consul, Some(ClientCrate::Consulrs)) => on!(Consul, Some(ClientCrate::Consulrs)),
        (BackendType::Consul, _) => on!(Consul, None),
        _ => on!(Memory, None),
    }
}

/// The command line program that was built with this test.
fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_discox").into()
}
