//! Where to listen, and who may read.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use discox::{RegistryConfig, Secret};

use crate::failure::Failure;

/// Where nothing else is said: this machine only.
pub(crate) const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7979);

/// A shorter token could be guessed.
const SHORTEST_TOKEN: usize = 16;

/// What `serve` is to do.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) listen: SocketAddr,
    /// What a request has to bring, if anything.
    pub(crate) token: Option<Secret>,
    pub(crate) registry: RegistryConfig,
}

impl Settings {
    /// Reads the token. Without one only the loopback can be listened on.
    pub(crate) fn new(
        listen: SocketAddr,
        token: Option<&Secret>,
        registry: RegistryConfig,
    ) -> Result<Self, Failure> {
        let usage =
            |reason: &str| Failure::usage(format!("the access token: {reason} (--access-token-file)"));
        let Some(token) = token else {
            if listen.ip().to_canonical().is_loopback() {
                return Ok(Self { listen, token: None, registry });
            }
            return Err(Failure::usage(format!(
                "--listen {listen}: others than this machine can read there, use an address of the loopback \
                 or --access-token-file"
            )));
        };
        let text = token.read().map_err(|error| usage(&error.to_string()))?;
        if text.len() < SHORTEST_TOKEN || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(usage("use at least 16 visible ASCII characters"));
        }
        Ok(Self { listen, token: Some(Secret::new(text.as_str())), registry })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(listen: &str, token: Option<&str>) -> Result<Settings, Failure> {
        let token = token.map(Secret::new);
        Settings::new(listen.parse().unwrap(), token.as_ref(), RegistryConfig::default())
    }

    #[test]
    fn others_than_this_machine_need_a_token() {
        for listen in ["127.0.0.1:0", "127.1.2.3:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            assert!(settings(listen, None).is_ok(), "{listen}");
        }
        for listen in ["0.0.0.0:80", "[::]:80", "10.0.0.1:80", "[::ffff:10.0.0.1]:80"] {
            assert_eq!(settings(listen, None).unwrap_err().code(), 2, "{listen}");
            assert!(settings(listen, Some("0123456789abcdef")).is_ok(), "{listen}");
            for token in ["", "short", "0123456789 abcdef", "0123456789abcdeé"] {
                assert_eq!(settings(listen, Some(token)).unwrap_err().code(), 2, "{token:?}");
            }
        }
    }
}
