//! Where the members are, as the library reads it from `backend_endpoints`. What it rejects does not come here.

use std::path::PathBuf;

use discox::{BackendType, DiscoverConfig};

/// A member.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Address {
    /// As it is shown.
    pub(crate) text: String,
    pub(crate) place: Place,
}

/// How a member is reached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    Tcp { host: String, port: u16, is_tls: bool },
    Unix(PathBuf),
}

impl Address {
    pub(crate) fn all(config: &DiscoverConfig) -> Vec<Self> {
        let parse = |text: &String| Self::parse(config.backend_type, config.connection.tls.is_some(), text);
        match config.backend_type {
            // A chroot may stand behind the last member.
            BackendType::Zookeeper => {
                let members = config.backend_endpoints.iter().flat_map(|text| text.split(','));
                let without_chroot = members.map(|text| text.split('/').next().unwrap_or(text).to_owned());
                without_chroot.filter_map(|text| parse(&text)).collect()
            }
            _ => config.backend_endpoints.iter().filter_map(parse).collect(),
        }
    }

    fn parse(backend: BackendType, has_tls: bool, text: &str) -> Option<Self> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
            None => (if has_tls { "https" } else { "http" }.to_owned(), text),
        };
        if scheme == "unix" {
            return Some(Self { text: text.to_owned(), place: Place::Unix(rest.into()) });
        }
        let is_tls = scheme == "https";
        let authority = rest.trim_end_matches('/');
        let usual = match (backend, is_tls) {
            (BackendType::Consul, true) => 8501,
            (BackendType::Consul, false) => 8500,
            (BackendType::Zookeeper, _) => 2181,
            _ => 2379,
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (authority, usual),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_owned();
        Some(Self { text: authority.to_owned(), place: Place::Tcp { host, port, is_tls } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(backend: BackendType, texts: &[&str], tls: bool) -> Vec<Place> {
        let mut config = DiscoverConfig { backend_type: backend, ..DiscoverConfig::default() };
        config.backend_endpoints = texts.iter().map(|text| (*text).to_owned()).collect();
        config.connection.tls = tls.then(Default::default);
        Address::all(&config).into_iter().map(|address| address.place).collect()
    }

    fn tcp(host: &str, port: u16, is_tls: bool) -> Place {
        Place::Tcp { host: host.into(), port, is_tls }
    }

    #[test]
    fn addresses_are_read_as_the_library_reads_them() {
        use BackendType::{Consul, Etcd, Zookeeper};
        assert_eq!(
            places(Etcd, &["http://a:1", "HTTPS://[::1]:2/"], false),
            [tcp("a", 1, false), tcp("::1", 2, true)]
        );
        assert_eq!(places(Etcd, &["a:1"], true), [tcp("a", 1, true)]);
        assert_eq!(
            places(Zookeeper, &["a:1,b:2/root/x", "c:3"], false),
            [tcp("a", 1, false), tcp("b", 2, false), tcp("c", 3, false)]
        );
        assert_eq!(
            places(Consul, &["a", "https://b.", "[::1]"], false),
            [tcp("a", 8500, false), tcp("b", 8501, true), tcp("::1", 8500, false)]
        );
        assert_eq!(places(Consul, &["unix:///run/consul"], false), [Place::Unix("/run/consul".into())]);
    }
}
