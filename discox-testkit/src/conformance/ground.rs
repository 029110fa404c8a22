//! What the suite needs to know of a registry: how to reach it, its own tools, and its faults.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Result;
use async_trait::async_trait;
use discox_core::{
    BackendType, ConnectionConfig, Discover, DiscoverConfig, Layout, LayoutOptions, Register, RegisterConfig,
    Registry, RegistryConfig,
};

pub use crate::server::Data;

/// Where running registries of one kind can be had. One per backend.
#[async_trait(?Send)]
pub trait Site: Send + Sync + 'static {
    /// The backend.
    fn backend(&self) -> BackendType;

    /// The name in the test's output: the backend's, unless several sites have it.
    fn name(&self) -> String {
        self.backend().to_string()
    }

    /// Why this backend cannot have the behaviours that need `need`, if that is so. The runner prints
    /// it for each behaviour that it leaves out.
    fn cannot(&self, need: Need) -> Option<&'static str> {
        let _ = need;
        None
    }

    /// Starts a registry without data, and returns when it answers. It ends when the ground is
    /// dropped.
    ///
    /// # Errors
    /// It could not be started, and what to do about it.
    async fn open(&self) -> Result<Arc<dyn Ground>>;
}

/// What not every backend can give.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Need {
    /// A registration in another process that can be killed.
    Processes,
    /// A server that accepts and does not answer.
    Hang,
    /// A server for each behaviour that kills, hangs or counts.
    ServerOfItsOwn,
    /// A prefix that is normalised.
    NormalisedPrefix,
    /// Records right below the root, where there is no prefix.
    EmptyPrefix,
    /// The names of the services under a prefix.
    Names,
}

/// One running registry.
#[async_trait(?Send)]
pub trait Ground: Send + Sync + 'static {
    /// The backend.
    fn backend(&self) -> BackendType;

    /// What `backend_endpoints` has to be.
    fn backend_endpoints(&self) -> Vec<String>;

    /// How connections are made: by which client crate, and secured or not.
    fn connection(&self) -> ConnectionConfig {
        ConnectionConfig::default()
    }

    /// In which layout records are written and read.
    fn layout(&self) -> (Layout, LayoutOptions) {
        (Layout::Discox, LayoutOptions::default())
    }

    /// What is discovered of a record that was registered with this attr: the attr, unless the layout has another way
    /// to say the same.
    fn shown(&self, attr: &str) -> String {
        if attr.is_empty() && self.layout().0 != Layout::Discox { "{}".to_owned() } else { attr.to_owned() }
    }

    /// What the command line program has to be told to connect in the same way.
    ///
    /// # Errors
    /// It could not be written to a file.
    fn program_arguments(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// The backend's functions.
    fn makers(&self) -> Makers;

    /// How long a watcher may take to miss a record that was granted `ttl` and whose process was
    /// killed (spec 4.3).
    fn expiry(&self, ttl: Duration) -> Duration;

    /// How many connections this process has to the registry.
    ///
    /// # Errors
    /// They could not be counted.
    fn connections(&self) -> Result<usize>;

    /// The command line program, for a registration in a process of its own.
    fn program(&self) -> Option<PathBuf> {
        None
    }

    /// Writes a record by the registry's own tools, or changes the one that is there. `attr` is a JSON
    /// object of strings in sorted order without white space, which is what every registry can show
    /// as it is.
    ///
    /// # Errors
    /// The tool failed.
    async fn tool_put(&self, place: &Place, attr: &str) -> Result<()>;

    /// Removes a record by the registry's own tools, whoever made it.
    ///
    /// # Errors
    /// The tool failed.
    async fn tool_delete(&self, place: &Place) -> Result<()>;

    /// Writes a record that discox cannot serve. The place has no readable endpoint.
    ///
    /// # Errors
    /// The tool failed.
    async fn tool_garbage(&self, place: &Place) -> Result<()>;

    /// The attr of a record as the registry's own tools show it.
    ///
    /// # Errors
    /// The tool failed.
    async fn tool_read(&self, place: &Place) -> Result<Option<String>>;

    /// `kill -9`. Returns when the server is gone.
    ///
    /// # Errors
    /// It could not be killed.
    async fn kill_server(&self) -> Result<()>;

    /// Starts the server again on the same address. Returns when it answers.
    ///
    /// # Errors
    /// It could not be started.
    async fn start_server(&self, data: Data) -> Result<()>;

    /// Makes the server accept and not answer.
    ///
    /// # Errors
    /// It could not be stopped.
    async fn hang_server(&self) -> Result<()>;

    /// Lets a hung server go on.
    ///
    /// # Errors
    /// It could not be continued.
    async fn resume_server(&self) -> Result<()>;

    /// The end of the server's log.
    async fn server_log(&self) -> String;
}

/// A backend's functions.
#[derive(Clone, Copy)]
pub struct Makers {
    /// The backend crate's `new_register`, or the facade's.
    pub new_register: fn(RegisterConfig) -> discox_core::Result<Arc<dyn Register>>,
    /// The backend crate's `new_discover`, or the facade's.
    pub new_discover: fn(DiscoverConfig) -> discox_core::Result<Arc<dyn Discover>>,
    /// The backend crate's `connect`, or the facade's.
    pub connect: fn(RegistryConfig) -> discox_core::Result<Arc<dyn Registry>>,
}

/// Where a record is.
#[derive(Clone, Debug)]
pub struct Place {
    /// The prefix, with one leading and no trailing `/`; may be empty.
    pub prefix: String,
    /// The service.
    pub service: String,
    /// The endpoint.
    pub endpoint: String,
}

impl Place {
    /// `{prefix}/{service}/{endpoint}`: where it is in registries that have paths.
    pub fn key(&self) -> String {
        format!("{}/{}/{}", self.prefix, self.service, self.endpoint)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key())
    }
}
