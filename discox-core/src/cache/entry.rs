//! One endpoint of a snapshot.

use std::sync::Arc;

use bytes::Bytes;

/// One endpoint with its attr.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    pub(crate) endpoint: Arc<str>,
    pub(crate) attr: Bytes,
}

impl Entry {
    /// An endpoint with its attr, such as for a [`Snapshot`](crate::Snapshot) of a test. Nothing is checked.
    pub fn new(endpoint: impl Into<Arc<str>>, attr: impl Into<Bytes>) -> Self {
        Self { endpoint: endpoint.into(), attr: attr.into() }
    }

    /// The endpoint, `host:port`.
    #[inline]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The host: an address, IPv6 without brackets, or a DNS name.
    pub fn host(&self) -> &str {
        let host = self.endpoint.rsplit_once(':').map_or(&*self.endpoint, |(host, _)| host);
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// The port. None only where a cacher was fed by hand with an endpoint that has none.
    pub fn port(&self) -> Option<u16> {
        self.endpoint.rsplit_once(':').and_then(|(_, port)| port.parse().ok())
    }

    /// The attr, as it was registered.
    #[inline]
    pub fn attr(&self) -> &Bytes {
        &self.attr
    }

    /// The attr, parsed as JSON. Parses at each call: for a hot path keep the result, as by `Watching::derive`.
    ///
    /// # Errors
    /// When the attr is no JSON, or not of this form.
    #[cfg(feature = "serde")]
    pub fn attr_json<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.attr)
    }
}

impl<E: Into<Arc<str>>, A: Into<Bytes>> From<(E, A)> for Entry {
    fn from((endpoint, attr): (E, A)) -> Self {
        Self::new(endpoint, attr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_host_port_and_json() {
        for (endpoint, host) in [("10.0.0.1:80", "10.0.0.1"), ("[::1]:80", "::1"), ("a.test:80", "a.test")] {
            let entry = Entry::new(endpoint, r#"{"weight":3}"#);
            assert_eq!((entry.host(), entry.port()), (host, Some(80)));
            #[cfg(feature = "serde")]
            assert_eq!(entry.attr_json::<serde_json::Value>().unwrap()["weight"], 3);
        }
    }
}
