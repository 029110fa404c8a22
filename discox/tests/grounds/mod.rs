//! The registries that the conformance suite is played on.

mod consul;
mod etcd;
mod memory;
mod server;
mod zookeeper;

use std::{path::PathBuf, sync::Arc};

#[cfg(any(feature = "consulrs", feature = "zookeeper-async"))]
use discox::ClientCrate;
use discox::{BackendType, DiscoverConfig, RegisterConfig, RegistryConfig};
use discox_testkit::conformance::{Makers, Site};

/// One of each, each other client crate that is compiled in, and of each server one over mutual TLS where we have
/// the least rights.
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
        Arc::new(server::Server::<etcd::Etcd>::secured()),
        Arc::new(server::Server::<zookeeper::Zookeeper>::secured()),
        Arc::new(server::Server::<consul::Consul>::secured()),
    ]
}

/// The facade's functions, with the backend filled in.
fn makers(backend: BackendType) -> Makers {
    macro_rules! on {
        ($backend:ident) => {
            Makers {
                new_register: |config| {
                    discox::new_register(RegisterConfig { backend_type: BackendType::$backend, ..config })
                },
                new_discover: |config| {
                    discox::new_discover(DiscoverConfig { backend_type: BackendType::$backend, ..config })
                },
                connect: |config| {
                    discox::connect(RegistryConfig { backend_type: BackendType::$backend, ..config })
                },
            }
        };
    }
    match backend {
        BackendType::Etcd => on!(Etcd),
        BackendType::Zookeeper => on!(Zookeeper),
        BackendType::Consul => on!(Consul),
        _ => on!(Memory),
    }
}

/// The command line program that was built with this test.
fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_discox").into()
}
