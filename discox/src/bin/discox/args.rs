//! What can be said on the command line and by `DISCOX_*` variables.
//!
//! Everything is optional here: what is not said is looked up in the file, see `config.rs`.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Parser, Subcommand};
use discox::{BackendType, ClientCrate, InstanceId, Layout, Payload};

use crate::{output::Format, security::Security};

/// Registers and discovers services on etcd, ZooKeeper or Consul.
///
/// Every setting is taken from its flag, else from its variable, else from the file given by --config,
/// else it has its default.
#[derive(Debug, Parser)]
#[command(name = "discox", version, disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) action: Action,
}

/// What all subcommands take.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Common options")]
pub(crate) struct Common {
    /// The registry: etcd, zookeeper or consul [default: etcd]
    #[arg(long, env = "DISCOX_BACKEND", value_name = "NAME", global = true, hide_env_values = true)]
    pub(crate) backend: Option<BackendType>,

    /// Where the registry is; can be repeated, or separated by commas
    #[arg(
        long = "backend-endpoint",
        env = "DISCOX_BACKEND_ENDPOINT",
        value_name = "ADDRESS",
        value_delimiter = ',',
        global = true,
        hide_env_values = true
    )]
    pub(crate) backend_endpoints: Vec<String>,

    /// What the service's records lie under, such as /discox/demo
    #[arg(long, env = "DISCOX_PREFIX", global = true, hide_env_values = true)]
    pub(crate) prefix: Option<String>,

    /// The service's name
    #[arg(long, env = "DISCOX_SERVICE", value_name = "NAME", global = true, hide_env_values = true)]
    pub(crate) service: Option<String>,

    #[command(flatten)]
    pub(crate) layout: LayoutArgs,

    /// A TOML file with settings, named as the flags are
    #[arg(long, env = "DISCOX_CONFIG", value_name = "FILE", global = true, hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,

    /// Which client crate serves, where several are compiled in: zookeeper-client or zookeeper-async,
    /// reqwest or consulrs
    #[arg(long, env = "DISCOX_CLIENT", value_name = "CRATE", global = true, hide_env_values = true)]
    pub(crate) client: Option<ClientCrate>,

    /// How to print [default: text]
    #[arg(
        long,
        env = "DISCOX_OUTPUT",
        value_name = "FORMAT",
        value_enum,
        global = true,
        hide_env_values = true
    )]
    pub(crate) output: Option<Format>,

    #[command(flatten)]
    pub(crate) security: Security,
}

/// Whose records these are, for all subcommands.
#[derive(Debug, clap::Args)]
pub(crate) struct LayoutArgs {
    /// Whose records these are: discox, grpc, go-zero, curator, spring, kratos, kitex, hertz, dubbo, go-micro or
    /// skydns [default: discox]
    #[arg(long, env = "DISCOX_LAYOUT", value_name = "NAME", global = true, hide_env_values = true)]
    pub(crate) layout: Option<Layout>,

    /// In another system's layout, what the endpoint speaks, such as http or grpc
    #[arg(long, env = "DISCOX_SCHEME", value_name = "NAME", global = true, hide_env_values = true)]
    pub(crate) scheme: Option<String>,

    /// Layout curator: what a record's payload is: none, text, json, spring or class=NAME [default: none]
    #[arg(long, env = "DISCOX_PAYLOAD", value_name = "KIND", global = true, hide_env_values = true)]
    pub(crate) payload: Option<Payload>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Register an endpoint and keep it registered until SIGINT or SIGTERM comes, or COMMAND ends
    Register(Register),
    /// Print every change of a service as it happens
    Watch(Watch),
    /// Print the endpoints of a service once
    List(List),
    /// Look for what is wrong between here and the registry, and say what to change
    Doctor(List),
    /// Show the services under the prefix over HTTP, with a page for people, until SIGINT or SIGTERM comes
    Serve(Serve),
    /// Print the names of the services under the prefix
    Services(Services),
}

/// What `register` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Register {
    /// Where the service can be reached: host:port
    #[arg(long, env = "DISCOX_ENDPOINT", value_name = "HOST:PORT", hide_env_values = true)]
    pub(crate) endpoint: Option<String>,

    /// Any text for those who discover the endpoint, such as {"weight":1}
    #[arg(
        long,
        env = "DISCOX_ATTR",
        value_name = "TEXT",
        allow_hyphen_values = true,
        hide_env_values = true
    )]
    pub(crate) attr: Option<String>,

    /// How often the record is confirmed [default: 5s]
    #[arg(
        long,
        env = "DISCOX_HEART_BEAT",
        value_name = "TIME",
        value_parser = humantime::parse_duration,
        hide_env_values = true
    )]
    pub(crate) heart_beat: Option<Duration>,

    /// How long the record outlives a process that died [default: three heart beats]
    #[arg(
        long,
        env = "DISCOX_TTL",
        value_name = "TIME",
        value_parser = humantime::parse_duration,
        hide_env_values = true
    )]
    pub(crate) ttl: Option<Duration>,

    /// In another system's layout, the instance's ID; `uuid` is a new one each time [default: the endpoint]
    #[arg(long, env = "DISCOX_INSTANCE_ID", value_name = "ID", hide_env_values = true)]
    pub(crate) instance_id: Option<InstanceId>,

    /// Consul only: a check that Consul runs itself: http(s)://..., tcp://..., grpc://...
    #[arg(long, env = "DISCOX_HEALTH_CHECK", value_name = "URL", hide_env_values = true)]
    pub(crate) health_check: Option<String>,

    /// A command to run while registered; it gets our signals, and its exit code is ours
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// What `watch` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    pub(crate) list: List,

    /// Print also why each thing happens, as far as the registry tells
    #[arg(long, env = "DISCOX_WHY", hide_env_values = true)]
    pub(crate) why: bool,

    /// How long after an outage removals are held back [default: 15s]
    #[arg(
        long,
        env = "DISCOX_GRACE",
        value_name = "TIME",
        value_parser = humantime::parse_duration,
        hide_env_values = true
    )]
    pub(crate) grace: Option<Duration>,
}

/// What `list` takes, and `watch` too.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Consul only: show instances whose checks are warning as well
    #[arg(long, env = "DISCOX_INCLUDE_WARNING", hide_env_values = true)]
    pub(crate) include_warning: bool,

    /// In another system's layout, show instances that are disabled or out of service as well
    #[arg(long, env = "DISCOX_INCLUDE_DISABLED", hide_env_values = true)]
    pub(crate) include_disabled: bool,
}

/// What `serve` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// Where to listen [default: 127.0.0.1:7979]; elsewhere than on the loopback only with an access token
    #[arg(long, env = "DISCOX_LISTEN", value_name = "ADDRESS:PORT", hide_env_values = true)]
    pub(crate) listen: Option<SocketAddr>,

    /// The file with the token that a request has to bring, which may be in DISCOX_ACCESS_TOKEN as well
    #[arg(long, env = "DISCOX_ACCESS_TOKEN_FILE", value_name = "FILE", hide_env_values = true)]
    pub(crate) access_token_file: Option<PathBuf>,
}

/// What `services` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Services {
    /// Print every name that comes and goes, too
    #[arg(long)]
    pub(crate) watch: bool,
}
