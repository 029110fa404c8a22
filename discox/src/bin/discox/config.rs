//! The file, and what flags, variables, file and defaults make together. Flags come before variables by
//! `clap`; both come before the file here.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use discox::{
    BackendType, ClientCrate, ConnectionConfig, DiscoverConfig, Error, Layout, LayoutOptions, RegisterConfig,
    RegistryConfig, Secret,
};
use serde::Deserialize;

use crate::{
    args::{Common, LayoutArgs, List, Register, Serve, Watch},
    failure::Failure,
    output::Format,
    security,
    serve::{self, Settings},
    unreadable,
};

/// The settings that a file may have. One file serves all subcommands. The names are those of the
/// flags; those of the library's configuration are understood too.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct File {
    #[serde(alias = "backend_type")]
    backend: Option<BackendType>,
    #[serde(alias = "backend_endpoints")]
    backend_endpoint: Vec<String>,
    #[serde(alias = "discover_prefix")]
    prefix: Option<String>,
    #[serde(alias = "service_name")]
    service: Option<String>,
    output: Option<Format>,
    #[serde(alias = "service_endpoint")]
    endpoint: Option<String>,
    attr: Option<String>,
    #[serde(alias = "heart_beat_period", with = "humantime_serde")]
    heart_beat: Option<Duration>,
    #[serde(with = "humantime_serde")]
    ttl: Option<Duration>,
    #[serde(alias = "health_check_endpoint")]
    health_check: Option<String>,
    #[serde(with = "humantime_serde")]
    grace: Option<Duration>,
    include_warning: bool,
    layout: Option<Layout>,
    layout_options: LayoutOptions,
    listen: Option<SocketAddr>,
    access_token_file: Option<PathBuf>,
    connection: ConnectionConfig,
}

impl File {
    /// Reads the file, or gives an empty one when there is none to read.
    pub(crate) fn read(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = fs::read_to_string(path)
            .map_err(|error| Failure::usage(format!("--config {}: {error}", path.display())))?;
        toml::from_str(&text).map_err(|error| {
            Failure::usage(format!("--config {}, {}", path.display(), unreadable::why(&text, &error)))
        })
    }
}

/// How to print.
pub(crate) fn output(common: &Common, file: &File) -> Format {
    common.output.or(file.output).unwrap_or_default()
}

/// What `register` is to do.
pub(crate) fn register(common: Common, args: Register, file: File) -> Result<RegisterConfig, Failure> {
    let defaults = RegisterConfig::default();
    let backend_type = common.backend.or(file.backend).unwrap_or_default();
    let (layout, layout_options) = layout(common.layout, file.layout, file.layout_options);
    let instance_id = args.instance_id.or(layout_options.instance_id);
    Ok(RegisterConfig {
        backend_type,
        backend_endpoints: backend_endpoints(backend_type, common.backend_endpoints, file.backend_endpoint)?,
        discover_prefix: common.prefix.or(file.prefix).unwrap_or_default(),
        service_name: common.service.or(file.service).unwrap_or_default(),
        service_endpoint: args.endpoint.or(file.endpoint).unwrap_or_default(),
        attr: args.attr.or(file.attr).unwrap_or_default(),
        heart_beat_period: args.heart_beat.or(file.heart_beat).unwrap_or(defaults.heart_beat_period),
        ttl: args.ttl.or(file.ttl),
        health_check_endpoint: args.health_check.or(file.health_check),
        layout,
        layout_options: LayoutOptions { instance_id, ..layout_options },
        connection: common.security.over(connection(common.client, file.connection)),
    })
}

/// What `watch` is to do.
pub(crate) fn watch(common: Common, args: Watch, file: File) -> Result<DiscoverConfig, Failure> {
    let grace = args.grace.or(file.grace);
    let config = list(common, args.list, file)?;
    Ok(DiscoverConfig { grace: grace.unwrap_or(config.grace), ..config })
}

/// What `list` is to do.
pub(crate) fn list(common: Common, args: List, file: File) -> Result<DiscoverConfig, Failure> {
    let backend_type = common.backend.or(file.backend).unwrap_or_default();
    let (layout, layout_options) = layout(common.layout, file.layout, file.layout_options);
    let include_disabled = args.include_disabled || layout_options.include_disabled;
    Ok(DiscoverConfig {
        backend_type,
        backend_endpoints: backend_endpoints(backend_type, common.backend_endpoints, file.backend_endpoint)?,
        discover_prefix: common.prefix.or(file.prefix).unwrap_or_default(),
        service_name: common.service.or(file.service).unwrap_or_default(),
        include_warning: args.include_warning || file.include_warning,
        layout,
        layout_options: LayoutOptions { include_disabled, ..layout_options },
        connection: common.security.over(connection(common.client, file.connection)),
        ..DiscoverConfig::default()
    })
}

fn layout(said: LayoutArgs, filed: Option<Layout>, options: LayoutOptions) -> (Layout, LayoutOptions) {
    let layout = said.layout.or(filed).unwrap_or_default();
    let scheme = said.scheme.or(options.scheme);
    let payload = said.payload.unwrap_or(options.payload);
    (layout, LayoutOptions { scheme, payload, ..options })
}

/// What `serve` is to show, and to whom.
pub(crate) fn serve(common: Common, args: Serve, mut file: File) -> Result<Settings, Failure> {
    let listen = args.listen.or(file.listen).unwrap_or(serve::LISTEN);
    let token =
        args.access_token_file.map(Secret::file).or_else(|| security::held_by(security::ACCESS_TOKEN));
    let token = token.or_else(|| file.access_token_file.take().map(Secret::file));
    Settings::new(listen, token.as_ref(), registry(common, file)?)
}

/// What `services` is to ask.
pub(crate) fn registry(common: Common, file: File) -> Result<RegistryConfig, Failure> {
    let backend_type = common.backend.or(file.backend).unwrap_or_default();
    let (layout, layout_options) = layout(common.layout, file.layout, file.layout_options);
    Ok(RegistryConfig {
        backend_type,
        backend_endpoints: backend_endpoints(backend_type, common.backend_endpoints, file.backend_endpoint)?,
        discover_prefix: common.prefix.or(file.prefix).unwrap_or_default(),
        layout,
        layout_options,
        connection: common.security.over(connection(common.client, file.connection)),
    })
}

fn connection(client: Option<ClientCrate>, mut filed: ConnectionConfig) -> ConnectionConfig {
    match client.map(ClientCrate::backend) {
        Some(BackendType::Consul) => filed.consul.client = client,
        Some(_) => filed.zookeeper.client = client,
        None => {}
    }
    filed
}

/// The addresses, unless they are those of the embedded backend: what it holds ends with this process.
fn backend_endpoints(
    backend: BackendType,
    said: Vec<String>,
    filed: Vec<String>,
) -> Result<Vec<String>, Failure> {
    const REASON: &str = "the embedded backend lives inside one process, use etcd, zookeeper or consul here";
    if backend == BackendType::Memory {
        return Err(Error::config("backend_type", backend, REASON).into());
    }
    let endpoints = if said.is_empty() { filed } else { said };
    match endpoints.iter().find(|endpoint| endpoint.starts_with("memory:")) {
        Some(endpoint) => Err(Error::config("backend_endpoints", endpoint, REASON).into()),
        None => Ok(endpoints),
    }
}
