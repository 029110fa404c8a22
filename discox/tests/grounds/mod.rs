//! The registries that the conformance suite is played on.

mod consul;
mod etcd;
mod memory;
mod server;
mod zookeeper;

use std::{path::PathBuf, sync::Arc};

#[cfg(any(feature = "consulrs", feature = "zookeeper-async"))]
use discox::ClientCrate;
use discox::{BackendType, DiscoverConfig, Layout, LayoutOptions, Payload, RegisterConfig, RegistryConfig};
use discox_testkit::conformance::{Makers, Site};

/// One of each, and of each server one over mutual TLS where we have the least rights, where one server serves all
/// behaviours. In the long form, or where it is named, there also those with a server of their own, ZooKeeper with a
/// guard, and each other client crate that is compiled in.
pub(super) fn all() -> Vec<Arc<dyn Site>> {
    let all: Vec<Arc<dyn Site>> = vec![
        Arc::new(memory::Memory),
        Arc::new(server::Server::<etcd::Etcd>::new()),
        Arc::new(server::Server::<zookeeper::Zookeeper>::new()),
        Arc::new(server::Server::<consul::Consul>::new()),
        Arc::new(server::Server::<etcd::Etcd>::secured()),
        Arc::new(server::Server::<zookeeper::Zookeeper>::secured()),
        Arc::new(server::Server::<consul::Consul>::secured()),
        Arc::new(server::Server::<etcd::Etcd>::in_layout(Layout::Grpc, LayoutOptions::default())),
        Arc::new(server::Server::<zookeeper::Zookeeper>::in_layout(Layout::Curator, with(Payload::Json))),
        Arc::new(server::Server::<zookeeper::Zookeeper>::new().guarded()),
        Arc::new(server::Server::<zookeeper::Zookeeper>::secured().guarded()),
        #[cfg(feature = "zookeeper-async")]
        Arc::new(server::Server::<zookeeper::Zookeeper>::by(ClientCrate::ZookeeperAsync)),
        #[cfg(feature = "consulrs")]
        Arc::new(server::Server::<consul::Consul>::by(ClientCrate::Consulrs)),
    ];
    all.into_iter().filter(|site| is_wanted(&site.name())).collect()
}

fn with(payload: Payload) -> LayoutOptions {
    LayoutOptions { payload, ..Default::default() }
}

/// Those on other client crates and behind a guard, with a slash in their names, take their time.
fn is_wanted(site: &str) -> bool {
    let is_wanted = !site.contains('/') || is_long("/");
    if !is_wanted {
        eprintln!("left to the long form (DISCOX_CONFORMANCE=long): {site}");
    }
    is_wanted
}

/// Whether the suite is played in its long form, or what is in it only is named by this part of its name.
fn is_long(named: &str) -> bool {
    let is_long = std::env::var("DISCOX_CONFORMANCE").is_ok_and(|form| form == "long");
    is_long || std::env::args().skip(1).any(|argument| argument.contains(named))
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
        BackendType::Memory => on!(Memory),
        other => unreachable!("no ground for {other}: add one"),
    }
}

/// The command line program that was built with this test.
fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_discox").into()
}
