//! What the three real registries have in common: one server each, of the test kit, as it comes or secured.

use std::{marker::PhantomData, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use async_trait::async_trait;
use discox::{BackendType, ClientCrate, ConnectionConfig, Layout, LayoutOptions};
use discox_testkit::{
    authority::SERVER_NAME,
    conformance::{Data, Ground, LaidOut, Makers, Need, Place, Site, connections_to},
    secured::{Options, Secured},
    server::{Kind, MANY_CLIENTS, Member, Servers},
};

/// What is said of what other systems' layouts do not have.
const VERBATIM: &str =
    "in another system's layout the prefix is taken verbatim, and the empty one is that system's own";

/// What the names of the sites over mutual TLS end with.
const SECURED: &str = "-secured";

/// What is said of what takes long.
const LEFT: &str = "left to the long form (DISCOX_CONFORMANCE=long)";

/// What is particular to a registry: its name, its TTLs and its tools.
#[async_trait(?Send)]
pub(super) trait Tools: Default + Send + Sync + 'static {
    const BACKEND: BackendType;
    const KIND: Kind;
    /// What is added to the granted TTL before a killed process is missed (spec 4.3).
    const EXPIRY_TAKES: Duration;

    /// What is granted by this client crate to who asks for `ttl`.
    fn granted(ttl: Duration, _client: Option<ClientCrate>) -> Duration {
        ttl
    }

    async fn put(member: &Member, place: &Place, attr: &str) -> Result<()>;
    async fn delete(member: &Member, place: &Place) -> Result<()>;
    async fn garbage(member: &Member, place: &Place) -> Result<()>;
    async fn read(member: &Member, place: &Place) -> Result<Option<String>>;
}

/// Where servers of this kind can be had, and how they are reached.
pub(super) struct Server<T> {
    client: Option<ClientCrate>,
    is_secured: bool,
    is_guarded: bool,
    layout: LaidOut,
    tools: PhantomData<T>,
}

impl<T: Tools> Server<T> {
    /// By the default client crate.
    pub(super) fn new() -> Self {
        Self {
            client: None,
            is_secured: false,
            is_guarded: false,
            layout: LaidOut::discox(T::BACKEND),
            tools: PhantomData,
        }
    }

    /// By this one.
    #[cfg_attr(not(any(feature = "consulrs", feature = "zookeeper-async")), expect(dead_code))]
    pub(super) fn by(client: ClientCrate) -> Self {
        Self { client: Some(client), ..Self::new() }
    }

    /// Over mutual TLS, with the least rights.
    pub(super) fn secured() -> Self {
        Self { is_secured: true, ..Self::new() }
    }

    /// With records in another system's layout.
    pub(super) fn in_layout(layout: Layout, options: LayoutOptions) -> Self {
        Self { layout: LaidOut { backend: T::BACKEND, layout, options }, ..Self::new() }
    }

    /// With a guard, and where it is secured by another name of the server.
    pub(super) fn guarded(self) -> Self {
        Self { is_guarded: true, ..self }
    }
}

#[async_trait(?Send)]
impl<T: Tools> Site for Server<T> {
    fn backend(&self) -> BackendType {
        T::BACKEND
    }

    fn name(&self) -> String {
        let client = self.client.map(|client| format!("/{client}")).unwrap_or_default();
        let guarded = if self.is_guarded { "/guarded" } else { "" };
        let secured = if self.is_secured { SECURED } else { "" };
        let layout = match self.layout.layout {
            Layout::Discox => String::new(),
            layout => format!("-{layout}"),
        };
        format!("{}{client}{guarded}{secured}{layout}", T::BACKEND)
    }

    fn cannot(&self, need: Need) -> Option<&'static str> {
        let is_foreign = self.layout.layout != Layout::Discox;
        match need {
            Need::NormalisedPrefix | Need::EmptyPrefix if is_foreign => Some(VERBATIM),
            Need::Names if is_foreign => Some("services are listed in discox's own layout only"),
            Need::ServerOfItsOwn if self.is_secured && !super::is_long(SECURED) => Some(LEFT),
            Need::ServerOfItsOwn if is_foreign && !super::is_long(self.layout.layout.as_str()) => Some(LEFT),
            _ => None,
        }
    }

    async fn open(&self) -> Result<Arc<dyn Ground>> {
        let (house, mut connection) = if self.is_secured {
            let secured = Secured::start(T::KIND, Options::default()).await?;
            let connection = secured.connection();
            (House::Secured(Box::new(secured)), connection)
        } else {
            let mut builder = Servers::builder(T::KIND);
            if T::KIND == Kind::Consul {
                builder = builder.config(MANY_CLIENTS);
            }
            (House::Open(builder.start().await?), ConnectionConfig::default())
        };
        connection.zookeeper.guard = self.is_guarded;
        match T::BACKEND {
            BackendType::Consul => connection.consul.client = self.client,
            _ => connection.zookeeper.client = self.client,
        }
        if let (true, Some(tls)) = (self.is_guarded, &mut connection.tls) {
            tls.server_name = Some(SERVER_NAME.into());
        }
        let layout = self.layout.clone();
        Ok(Arc::new(ServerGround::<T> { house, connection, layout, tools: PhantomData }))
    }
}

enum House {
    Open(Servers),
    Secured(Box<Secured>),
}

struct ServerGround<T> {
    house: House,
    connection: ConnectionConfig,
    layout: LaidOut,
    tools: PhantomData<T>,
}

impl<T> ServerGround<T> {
    /// The client crate that was asked for.
    fn client(&self) -> Option<ClientCrate> {
        self.connection.consul.client.or(self.connection.zookeeper.client)
    }

    fn member(&self) -> &Member {
        match &self.house {
            House::Open(servers) => servers.member(0),
            House::Secured(secured) => secured.member(),
        }
    }

    /// The place as the tools see it.
    fn seen(&self, place: &Place) -> Place {
        match &self.house {
            House::Open(_) => place.clone(),
            House::Secured(secured) => {
                Place { prefix: format!("{}{}", secured.root(), place.prefix), ..place.clone() }
            }
        }
    }
}

#[async_trait(?Send)]
impl<T: Tools> Ground for ServerGround<T> {
    fn backend(&self) -> BackendType {
        T::BACKEND
    }

    fn backend_endpoints(&self) -> Vec<String> {
        match &self.house {
            House::Open(servers) => servers.addresses(),
            House::Secured(secured) => secured.endpoints(),
        }
    }

    fn connection(&self) -> ConnectionConfig {
        self.connection.clone()
    }

    fn layout(&self) -> (Layout, LayoutOptions) {
        (self.layout.layout, self.layout.options.clone())
    }

    fn program_arguments(&self) -> Result<Vec<String>> {
        let mut arguments = Vec::new();
        if self.layout.layout != Layout::Discox {
            arguments.extend(["--layout".into(), self.layout.layout.to_string()]);
            arguments.extend(["--payload".into(), self.layout.options.payload.to_string()]);
        }
        if let Some(client) = self.client() {
            arguments.extend(["--client".into(), client.to_string()]);
        }
        if self.connection.zookeeper.guard {
            arguments.push("--guard".into());
        }
        if let Some(name) = self.connection.tls.as_ref().and_then(|tls| tls.server_name.clone()) {
            arguments.extend(["--tls-server-name".into(), name]);
        }
        if let House::Secured(secured) = &self.house {
            arguments.extend(["--config".into(), secured.config_file()?.display().to_string()]);
        }
        Ok(arguments)
    }

    fn makers(&self) -> Makers {
        super::makers(T::BACKEND)
    }

    fn expiry(&self, ttl: Duration) -> Duration {
        T::granted(ttl, self.client()) + T::EXPIRY_TAKES
    }

    fn connections(&self) -> Result<usize> {
        let port = self.member().address().rsplit(':').next().context("no port")?;
        connections_to(port.parse()?)
    }

    fn program(&self) -> Option<PathBuf> {
        Some(super::program())
    }

    async fn tool_put(&self, place: &Place, attr: &str) -> Result<()> {
        let (at, value) = self.layout.written(&self.seen(place), attr)?;
        T::put(self.member(), &at, &value).await.with_context(|| format!("put {place}"))
    }

    async fn tool_delete(&self, place: &Place) -> Result<()> {
        let (at, _) = self.layout.written(&self.seen(place), "")?;
        T::delete(self.member(), &at).await.with_context(|| format!("delete {place}"))
    }

    async fn tool_garbage(&self, place: &Place) -> Result<()> {
        T::garbage(self.member(), &self.seen(place)).await.with_context(|| format!("put {place}"))
    }

    async fn tool_read(&self, place: &Place) -> Result<Option<String>> {
        let (at, _) = self.layout.written(&self.seen(place), "")?;
        let read = T::read(self.member(), &at).await.with_context(|| format!("read {place}"))?;
        read.map(|value| self.layout.read(place, value)).transpose()
    }

    async fn kill_server(&self) -> Result<()> {
        self.member().kill().await
    }

    async fn start_server(&self, data: Data) -> Result<()> {
        match &self.house {
            House::Open(_) => self.member().start(data).await,
            House::Secured(secured) => secured.start_again(data).await,
        }
    }

    async fn hang_server(&self) -> Result<()> {
        self.member().pause().await
    }

    async fn resume_server(&self) -> Result<()> {
        self.member().resume().await
    }

    async fn server_log(&self) -> String {
        self.member().log_tail().await
    }
}
