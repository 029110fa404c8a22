//! Everything of the public interface that parses what others write, fuzzed: see `discox_testkit::fuzz`.

use std::time::Duration;

use discox::{
    BackendType, ConnectionConfig, DiscoverConfig, Error, ErrorKind, RegisterConfig, RegistryConfig,
};
use discox_core::record::{Endpoint, Service};
use discox_testkit::fuzz::fuzz_text;

/// A rejected value is named, on one short line.
fn is_told_well(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.field().is_some(), "{error}");
    let shown = error.to_string();
    assert!(shown.len() < 2_000 && !shown.contains(char::is_control), "{shown:?}");
}

#[test]
fn endpoints() {
    let examples =
        ["127.0.0.1:8111", "[2001:db8::7]:65535", "web-1.example.org:443", "0.0.0.0:1", "[::1%eth0]:1"];
    fuzz_text(&examples, |text| match Endpoint::parse(text) {
        Ok(endpoint) => {
            assert_eq!(endpoint.as_str(), text);
            assert!(Endpoint::is_readable(text));
            assert!(
                endpoint.port() > 0 && !endpoint.host().is_empty() && !endpoint.host().contains(['[', '/'])
            );
        }
        Err(error) => is_told_well(&error),
    });
}

#[test]
fn readable_names() {
    let examples = ["127.0.0.1:08111", "a:0", "[::1]:80", "a b:1", "ü.example:80"];
    fuzz_text(&examples, |text| {
        if Endpoint::is_readable(text) {
            assert!(text.len() < 300 && !text.contains(['/', '\0', '\n', ' ']));
            assert!(
                text.rsplit_once(':')
                    .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
            );
        }
    });
}

#[test]
fn services_and_prefixes() {
    let examples = ["/discox/demo\ndemo", "a//b/\nx", "\nx", "/\n..", "/ü/\u{e000}\nx"];
    fuzz_text(&examples, |text| {
        let (prefix, name) = text.split_once('\n').unwrap_or((text, "demo"));
        match Service::parse(prefix, name) {
            Ok(service) => {
                let directory = service.directory();
                assert!(directory.starts_with('/') && !directory.ends_with('/') && !directory.contains("//"));
                assert!(directory.split('/').all(|segment| segment != "." && segment != ".."));
                assert_eq!(Service::parse(service.prefix(), name).unwrap(), service);
            }
            Err(error) => is_told_well(&error),
        }
    });
}

/// Where a password is one, it is not repeated.
fn holds_no_password(error: &Error, text: &str) {
    if text.contains(":secret@") && text.matches("secret").count() == 1 {
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

/// Addresses of a backend, and health checks: what is accepted is accepted for good, what is not is told without
/// what stands before an `@`.
fn addresses(backend_type: BackendType, examples: &[&str]) {
    fuzz_text(examples, |text| {
        let backend_endpoints: Vec<String> = text.split('\n').map(str::to_owned).collect();
        if let Err(error) =
            discox::connect(RegistryConfig { backend_type, backend_endpoints, ..Default::default() })
        {
            is_told_well(&error);
            holds_no_password(&error, text);
        }
    });
}

#[test]
fn addresses_of_etcd() {
    addresses(
        BackendType::Etcd,
        &["http://127.0.0.1:2379", "https://h:1/", "[::1]:2379\nh:2380", "http://user:secret@h:2379"],
    );
}

#[test]
fn addresses_of_zookeeper() {
    addresses(BackendType::Zookeeper, &["a:2181,b:2182/x/y", "[::1]:7/", "[::1]\nh", "user:secret@h:2181/a"]);
}

#[test]
fn addresses_of_consul() {
    addresses(
        BackendType::Consul,
        &["http://h:8500", "h", "[::1]", "https://h/", "http://user:secret@h:8500"],
    );
}

#[test]
fn addresses_of_the_embedded_backend() {
    addresses(BackendType::Memory, &["memory://name", "", "memory://", "memory://a\nmemory://b"]);
}

#[test]
fn health_checks_of_consul() {
    let examples =
        ["127.0.0.1:80/health", "https://h/x?y=1", "tcp://[::1]:80", "grpc://h:1/s", "http://u:secret@h/"];
    fuzz_text(&examples, |text| {
        let config = RegisterConfig {
            backend_type: BackendType::Consul,
            backend_endpoints: vec!["h".into()],
            service_name: "demo".into(),
            service_endpoint: "127.0.0.1:1".into(),
            health_check_endpoint: Some(text.to_owned()),
            ..Default::default()
        };
        if let Err(error) = discox::new_register(config) {
            is_told_well(&error);
            holds_no_password(&error, text);
        }
    });
}

/// What is read from a file is checked like what is written in a program, and comes back from one.
fn configured(config: &RegisterConfig) {
    // Secrets are not written.
    let mut config = config.clone();
    (config.connection.password, config.connection.consul.token) = (None, None);
    config.connection.tls = None;
    let written = serde_json::to_string(&config).ok();
    let read = written.as_deref().and_then(|text| serde_json::from_str::<RegisterConfig>(text).ok());
    let again = read.and_then(|config| serde_json::to_string(&config).ok());
    assert!(written.is_some() && again == written, "{written:?} {again:?}");
    if let Err(error) = discox::new_register(config) {
        assert!(!error.to_string().contains(char::is_control), "{error:?}");
    }
}

#[test]
fn configuration_in_json() {
    let examples = [
        r#"{"backend_type":"memory","discover_prefix":"/p","service_name":"demo","service_endpoint":"127.0.0.1:1","ttl":"1m"}"#,
        r#"{"backend_type":"consul","backend_endpoints":["h"],"service_name":"demo","service_endpoint":"h:1","heart_beat_period":"10s","connection":{"detection":"5s","max_endpoints":7}}"#,
    ];
    fuzz_text(&examples, |text| {
        if let Ok(config) = serde_json::from_str::<RegisterConfig>(text) {
            configured(&config);
        }
        if let Ok(config) = serde_json::from_str::<DiscoverConfig>(text) {
            let _ = discox::new_discover(config);
        }
    });
}

#[test]
fn configuration_in_toml() {
    let examples = [
        "backend_type = \"memory\"\nservice_name = \"demo\"\nservice_endpoint = \"127.0.0.1:1\"\nttl = \"1m\"\n[connection]\ndetection = \"5s\"\nmax_service_bytes = 4000000\n",
        "backend_type = \"etcd\"\nbackend_endpoints = [\"h:1\", \"http://h:2\"]\nattr = '''{\"weight\":1}'''\n",
    ];
    fuzz_text(&examples, |text| {
        if let Ok(config) = toml::from_str::<RegisterConfig>(text) {
            configured(&config);
        }
    });
}

#[test]
fn connection_settings() {
    let examples = [
        r#"{"connect_timeout":"1s","backoff_max":"18446744073709551615s"}"#,
        r#"{"zookeeper":{"session_timeout":"4s","acl":["a"]},"consul":{"client":"reqwest"}}"#,
    ];
    fuzz_text(&examples, |text| {
        if let Ok(config) = serde_json::from_str::<ConnectionConfig>(text)
            && config.check(BackendType::Etcd).is_ok()
        {
            assert!(
                config.detection >= Duration::from_secs(2) && config.backoff_max >= config.backoff_initial
            );
        }
    });
}
