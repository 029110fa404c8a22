//! The check that is registered with a record.

use std::time::Duration;

use discox_core::{
    Error, Result,
    record::{Endpoint, Record},
};

use crate::model::{CheckDefinition, Pace, Probe};

const FIELD: &str = "health_check_endpoint";

/// Consul reaps no critical service sooner than this.
const SOONEST_REAPING: Duration = Duration::from_secs(60);
/// Consul runs no check more often than this.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
/// A check that answers is quick; one that hangs must not hide a dead service for a long period.
const LONGEST_CHECK: Duration = Duration::from_secs(5);

/// What the checks are called, in Consul's own tools.
const HEART_BEAT: &str = "discox heart beat";
pub(crate) const HEALTH_CHECK: &str = "discox health check";

/// The check of a record, and how long the record is served after its process has died.
///
/// # Errors
/// Of kind [`Config`](discox_core::ErrorKind::Config), when `health_check_endpoint` is not one.
pub(crate) fn check(record: &Record, id: &str) -> Result<(CheckDefinition, Duration)> {
    let (name, status, probe, ttl) = match &record.health_check {
        None => {
            let ttl = whole_seconds(record.ttl);
            (HEART_BEAT, "passing", Probe::Ttl { ttl: go(ttl) }, ttl)
        }
        Some(target) => {
            let interval = record.period.max(SHORTEST_INTERVAL);
            let timeout = interval.min(LONGEST_CHECK);
            let pace = Pace { interval: go(interval), timeout: go(timeout) };
            // Critical until Consul has found it alive; an existing check keeps its status.
            (HEALTH_CHECK, "critical", parse(target, pace)?, interval + timeout)
        }
    };
    let definition = CheckDefinition {
        id: format!("service:{id}"),
        name,
        status,
        deregister_critical_service_after: go(record.ttl.max(SOONEST_REAPING)),
        probe,
    };
    Ok((definition, ttl))
}

/// `host:port/path`, `http(s)://…`, `tcp://host:port` or `grpc://host:port[/service]`.
fn parse(target: &str, pace: Pace) -> Result<Probe> {
    if target.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return reject(target, "white space and control characters are not allowed");
    }
    match target.split_once("://") {
        Some(("http" | "https", rest)) => {
            let host = authority(rest);
            if host.is_empty() || host.contains('@') {
                return reject(target, "use http://host:port/path, without user and password");
            }
            Ok(Probe::Http { url: target.to_owned(), pace })
        }
        Some(("tcp", address)) => {
            host_and_port(target, address)?;
            Ok(Probe::Tcp { address: address.to_owned(), pace })
        }
        Some(("grpc", address)) => {
            host_and_port(target, authority(address))?;
            Ok(Probe::Grpc { address: address.to_owned(), pace })
        }
        Some(_) => reject(target, "use http://, https://, tcp:// or grpc://"),
        None => {
            host_and_port(target, authority(target))?;
            Ok(Probe::Http { url: format!("http://{target}"), pace })
        }
    }
}

fn authority(rest: &str) -> &str {
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

fn host_and_port(target: &str, address: &str) -> Result<()> {
    match Endpoint::parse(address) {
        Ok(_) => Ok(()),
        Err(_) => reject(target, "use host:port/path, http(s)://…, tcp://host:port or grpc://host:port"),
    }
}

fn reject<T>(target: &str, reason: &str) -> Result<T> {
    // What stands before an @ may be a password.
    let shown = target.rsplit_once('@').map_or(target, |(_, rest)| rest);
    Err(Error::config(FIELD, shown, reason))
}

fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs() + u64::from(time.subsec_nanos() > 0))
}

fn go(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

#[cfg(test)]
mod tests {
    use discox_core::RegisterConfig;

    use super::*;

    fn checked(target: Option<&str>, period: Duration) -> Result<(CheckDefinition, Duration)> {
        let config = RegisterConfig {
            service_name: "demo".into(),
            service_endpoint: "127.0.0.1:1".into(),
            health_check_endpoint: target.map(str::to_owned),
            heart_beat_period: period,
            ..Default::default()
        };
        check(&Record::parse(&config).unwrap(), "x")
    }

    #[test]
    fn a_ttl_is_in_whole_seconds() {
        let (check, ttl) = checked(None, Duration::from_millis(500)).unwrap();
        assert_eq!((check.probe, ttl), (Probe::Ttl { ttl: "2000ms".into() }, Duration::from_secs(2)));
        assert_eq!((check.status, check.deregister_critical_service_after.as_str()), ("passing", "60000ms"));
        let (check, _) = checked(None, Duration::from_secs(60)).unwrap();
        assert_eq!(check.deregister_critical_service_after, "180000ms");
    }

    #[test]
    fn targets_are_read() {
        let json = |target| {
            let (check, _) = checked(Some(target), Duration::from_secs(10)).unwrap();
            assert_eq!(check.status, "critical");
            serde_json::to_value(check).unwrap()
        };
        assert_eq!(json("127.0.0.1:80/health")["HTTP"], "http://127.0.0.1:80/health");
        assert_eq!(json("https://web.example/health?x=1")["HTTP"], "https://web.example/health?x=1");
        assert_eq!(json("tcp://[::1]:80")["TCP"], "[::1]:80");
        assert_eq!(json("grpc://127.0.0.1:80/demo")["GRPC"], "127.0.0.1:80/demo");
        let check = json("tcp://127.0.0.1:80");
        assert_eq!((&check["Interval"], &check["Timeout"]), (&"10000ms".into(), &"5000ms".into()));
    }

    #[test]
    fn bad_targets_are_rejected_without_their_secrets() {
        for target in [
            "",
            "demo",
            "127.0.0.1",
            "ftp://a:1",
            "tcp://a",
            "grpc://",
            "http://",
            "http://u:secret@h/",
            "a b:1",
        ] {
            let error = checked(Some(target), Duration::from_secs(1)).unwrap_err();
            assert_eq!(error.field(), Some(FIELD), "{target:?}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
