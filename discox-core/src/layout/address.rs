//! Endpoints as other systems write them.

use std::net::Ipv6Addr;

use crate::record::Endpoint;

/// The endpoint that `host:port` means, in its canonical form: an IPv6 address gets the brackets that it lacks, its
/// last `:` is the port's.
pub(super) fn parse(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':')?;
    join(host, self::port(port)?)
}

/// The endpoint of a host, an IPv6 address with or without brackets, and a port.
pub(super) fn join(host: &str, port: u16) -> Option<String> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let endpoint = match ipv6(bare.unwrap_or(host)) {
        Some(address) => format!("[{address}]:{port}"),
        None if is_name(host) => format!("{host}:{port}"),
        None => return None,
    };
    (port > 0 && Endpoint::is_readable(&endpoint)).then_some(endpoint)
}

/// The host of an endpoint, an IPv6 address with its brackets.
pub(super) fn host(endpoint: &str) -> &str {
    endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host)
}

/// A port as text: 1 to 65535, in digits alone.
pub(super) fn port(text: &str) -> Option<u16> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| is_number && *port > 0)
}

/// Scheme and endpoint of `scheme://host:port`; what follows the port is ignored.
pub(super) fn url(text: &str) -> Option<(String, String)> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    Some((self::scheme(scheme)?, parse(host)?))
}

/// A scheme, in lower case.
pub(super) fn scheme(text: &str) -> Option<String> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    let is_scheme = text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(fine);
    (is_scheme && text.len() <= 64).then(|| text.to_ascii_lowercase())
}

/// The canonical form of an IPv6 address, with its zone.
fn ipv6(text: &str) -> Option<String> {
    let Some((address, zone)) = text.split_once('%') else {
        return text.parse::<Ipv6Addr>().ok().map(|address| address.to_string());
    };
    let address: Ipv6Addr = address.parse().ok()?;
    is_name(zone).then(|| format!("{address}%{zone}"))
}

/// Whether it may be a host's name, or a zone's.
fn is_name(text: &str) -> bool {
    let fine = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    !text.is_empty() && text.len() <= 253 && text.chars().all(fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_in_whatever_form() {
        for (text, endpoint) in [
            ("10.1.2.3:8080", "10.1.2.3:8080"),
            ("10.1.2.3:08080", "10.1.2.3:8080"),
            ("db-1.example:1", "db-1.example:1"),
            ("fd00::3:8080", "[fd00::3]:8080"),
            ("[FD00:0::3]:8080", "[fd00::3]:8080"),
            ("fe80::1%eth0:80", "[fe80::1%eth0]:80"),
        ] {
            assert_eq!(parse(text).as_deref(), Some(endpoint), "{text}");
            assert_eq!(parse(endpoint).as_deref(), Some(endpoint));
        }
    }

    #[test]
    fn what_is_no_endpoint_is_none() {
        for text in [
            "",
            ":80",
            "a",
            "a:",
            "a:0",
            "a:65536",
            "a:+1",
            "a:-1",
            "a b:1",
            "a\0:1",
            "{\"weight\":1",
            "[zz]:1",
            "a:1,b:2",
            "http://a:1",
            "fd00::3",
            "a:http",
            "a@b:1",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn urls_are_read_as_far_as_the_port() {
        let some = |scheme: &str, endpoint: &str| Some((scheme.to_owned(), endpoint.to_owned()));
        assert_eq!(url("grpc://10.1.2.3:9090"), some("grpc", "10.1.2.3:9090"));
        assert_eq!(url("HTTP://u:p@[::1]:80/x:9?isSecure=false#y"), some("http", "[::1]:80"));
        for text in ["http://a b:1", "http://a", "a:1", "://a:1", "1x://a:1", "http:///x:1", "http://%41:1"] {
            assert_eq!(url(text), None, "{text:?}");
        }
    }
}
