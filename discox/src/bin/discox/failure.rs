//! Why the program ends without success: one line and an exit code.

use std::io::{self, Write};

use discox::{Error, ErrorKind};

/// One line for standard error, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: Option<String>,
}

impl Failure {
    /// With an exit code of its own.
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: Some(message.into()) }
    }

    /// Something that the user has to write differently.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(2, message)
    }

    /// Standard output cannot be written. Nothing is to be said when nobody reads it any more.
    pub(crate) fn output(kind: io::ErrorKind) -> Self {
        match kind {
            io::ErrorKind::BrokenPipe => Self { code: 0, message: None },
            kind => Self::new(1, format!("standard output: {kind}")),
        }
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    /// Prints the line. What may come from a registry cannot break it or control the terminal.
    pub(crate) fn tell(&self) {
        let Some(message) = &self.message else { return };
        let line: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        // There is nobody left to tell that standard error is closed.
        let _ = writeln!(io::stderr(), "discox: {line}");
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match (error.kind(), error.field().and_then(flag)) {
            (ErrorKind::Config, Some(flag)) => Self::usage(format!("{error} ({flag})")),
            (ErrorKind::Config, None) => Self::usage(error.to_string()),
            _ => Self::new(1, error.to_string()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(1, error.to_string())
    }
}

impl From<clap::Error> for Failure {
    /// The first paragraph, which says what is wrong, on one line.
    fn from(error: clap::Error) -> Self {
        // With some of clap's features, which others in a tree may turn on, this comes as a help text.
        if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            return Self::usage(
                "a subcommand is needed: register, watch, list, services, serve or doctor; see discox --help",
            );
        }
        let text = error.to_string();
        let paragraph = text.split("\n\n").next().unwrap_or(&text);
        let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        Self::usage(format!("{}; see discox --help", line.trim_start_matches("error: ")))
    }
}

/// The flag by which a field of the library's configuration is set here.
fn flag(field: &str) -> Option<&'static str> {
    Some(match field {
        "attr" => "--attr",
        "backend_endpoints" => "--backend-endpoint",
        "backend_type" => "--backend",
        "consul.client" | "zookeeper.client" => "--client",
        "consul.datacenter" => "--datacenter",
        "consul.namespace" => "--namespace",
        "consul.partition" => "--partition",
        "consul.token" => "--token-file",
        "discover_prefix" => "--prefix",
        "grace" => "--grace",
        "health_check_endpoint" => "--health-check",
        "heart_beat_period" => "--heart-beat",
        "password" => "--password-file",
        "service_endpoint" => "--endpoint",
        "service_name" => "--service",
        "tls" => "--tls-ca",
        "tls.cert" => "--tls-cert",
        "tls.key" => "--tls-key",
        "tls.server_name" => "--tls-server-name",
        "ttl" => "--ttl",
        "user" => "--user",
        "zookeeper.acl" => "--acl",
        "zookeeper.guard" => "--guard",
        "zookeeper.lock_service" => "--lock-service",
        "zookeeper.sasl" => "--sasl",
        _ => return None,
    })
}
