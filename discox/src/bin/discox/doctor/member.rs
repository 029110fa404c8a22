//! One member by itself: its name, TCP, TLS with its certificate, and what it tells of itself without a log-in.

use std::{
    io,
    net::IpAddr,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use discox::{BackendType, ConnectionConfig, DiscoverConfig, Error, TlsConfig};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream, lookup_host},
    time::timeout,
};

use super::{
    address::{Address, Place},
    certificate::{self, Validity},
    http::{self, Answer},
    report::Check,
};

/// What is read of an answer.
const LONGEST: u64 = 16 * 1024;

/// Clocks may differ so much: leases and sessions do not depend on it, logs and certificates do. The registry's answer
/// has whole seconds.
const CLOCKS: Duration = Duration::from_secs(3);

/// Checks one member, as far as it gets.
pub(crate) async fn examine(config: &DiscoverConfig, address: &Address) -> Vec<Check> {
    let mut checks = Vec::new();
    let examined = match &address.place {
        Place::Unix(path) => unix(config, address, path, &mut checks).await,
        Place::Tcp { host, port, is_tls } => {
            let member = Member { config, address, host, port: *port, is_tls: *is_tls };
            member.examine(&mut checks).await
        }
    };
    checks.extend(examined.err());
    checks
}

struct Member<'a> {
    config: &'a DiscoverConfig,
    address: &'a Address,
    host: &'a str,
    port: u16,
    is_tls: bool,
}

impl Member<'_> {
    /// Returns the check that failed, if nothing can follow it.
    async fn examine(&self, checks: &mut Vec<Check>) -> Result<(), Check> {
        checks.push(self.look_up().await?);
        let (check, stream) = self.dial().await?;
        checks.push(check);
        match self.tls() {
            Some(tls) => self.shake(&tls, stream, checks).await?,
            // A server that takes one after the other is free for the question.
            None => drop(stream),
        }
        self.ask(checks).await;
        Ok(())
    }

    fn of(&self) -> &str {
        &self.address.text
    }

    fn settings(&self) -> &ConnectionConfig {
        &self.config.connection
    }

    /// The settings of TLS, where this member is spoken to by TLS.
    fn tls(&self) -> Option<TlsConfig> {
        let wanted = self.is_tls
            || self.config.backend_type == BackendType::Zookeeper && self.settings().tls.is_some();
        wanted.then(|| self.settings().tls.clone().unwrap_or_default())
    }

    async fn look_up(&self) -> Result<Check, Check> {
        let failed = |found: String| {
            let advice = "check the host in --backend-endpoint, and this machine's DNS and /etc/hosts";
            Check::failed("name", self.of(), found, advice)
        };
        if self.host.parse::<IpAddr>().is_ok() {
            return Ok(Check::ok("name", self.of(), "is an address"));
        }
        let looked_up = timeout(self.settings().connect_timeout, lookup_host((self.host, self.port))).await;
        let found = looked_up.map_err(|_| failed(format!("the look-up of {} takes too long", self.host)))?;
        let addresses: Vec<_> = found
            .map_err(|error| failed(format!("{} is not found: {error}", self.host)))?
            .map(|address| address.ip().to_string())
            .collect();
        if addresses.is_empty() {
            return Err(failed(format!("{} has no address", self.host)));
        }
        Ok(Check::ok("name", self.of(), format!("is {}", addresses.join(", "))))
    }

    async fn dial(&self) -> Result<(Check, TcpStream), Check> {
        let (began, limit) = (Instant::now(), self.settings().connect_timeout);
        match timeout(limit, discox_tls::dial(self.host, self.port)).await {
            Ok(Ok(stream)) => {
                Ok((Check::ok("tcp", self.of(), format!("connected in {:.1?}", began.elapsed())), stream))
            }
            Ok(Err(error)) => {
                let refused = std::error::Error::source(&error)
                    .and_then(|source| source.downcast_ref::<io::Error>())
                    .is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
                let advice = if refused {
                    format!(
                        "nothing listens there: start the registry, or correct the port (usually {})",
                        self.usual_port()
                    )
                } else {
                    "check the address and the route to it".to_owned()
                };
                Err(Check::failed("tcp", self.of(), error.message(), advice))
            }
            Err(_) => {
                let found = format!("no answer within {limit:?}");
                let advice = "check the address, the machine, and firewalls on the way: they swallow packets";
                Err(Check::failed("tcp", self.of(), found, advice))
            }
        }
    }

    fn usual_port(&self) -> u16 {
        match self.config.backend_type {
            BackendType::Zookeeper => 2181,
            BackendType::Consul => {
                if self.is_tls {
                    8501
                } else {
                    8500
                }
            }
            _ => 2379,
        }
    }

    /// The certificate first, whether or not it can be trusted: it explains most of what goes wrong after it.
    async fn shake(&self, tls: &TlsConfig, stream: TcpStream, checks: &mut Vec<Check>) -> Result<(), Check> {
        let limit = self.settings().connect_timeout;
        let shown = timeout(limit, discox_tls::shown_certificates(tls, self.host, stream)).await;
        let shown = shown.unwrap_or_else(|_| Err(Error::timed_out("tls", limit)));
        let shown = shown.map_err(|error| {
            let advice =
                "is this the port for TLS? For plain text write http:// and leave the TLS settings out";
            Check::failed("tls", self.of(), error.message(), advice)
        })?;
        checks.extend(shown.first().and_then(|der| self.certificate(der)));
        checks.push(self.trusted(tls).await?);
        Ok(())
    }

    fn certificate(&self, der: &[u8]) -> Option<Check> {
        let summary = certificate::summary(der)?;
        let (name, of, found) = ("tls cert", self.of(), summary.text);
        Some(match summary.validity {
            Validity::Good => Check::ok(name, of, found),
            Validity::EndsSoon => Check::warning(name, of, found, "renew the server's certificate soon"),
            Validity::Ended => Check::failed(
                name,
                of,
                found,
                "it has expired: renew the server's certificate, or set the clock",
            ),
            Validity::NotYet => Check::failed(
                name,
                of,
                found,
                "it is not valid yet: set the clock, or renew the server's certificate",
            ),
        })
    }

    /// Whether we trust the server and it accepts us.
    async fn trusted(&self, tls: &TlsConfig) -> Result<Check, Check> {
        match self.exchange_by_tls(tls, &self.question()).await {
            Ok(_) => Ok(Check::ok("tls", self.of(), "trusted, and we are accepted")),
            Err(error) => Err(denied("tls", self.of(), &error)),
        }
    }

    async fn exchange_by_tls(&self, tls: &TlsConfig, question: &[u8]) -> Result<Vec<u8>, Error> {
        let limit = self.settings().connect_timeout;
        let exchange = async {
            let config = discox_tls::client_config(tls, &[])?;
            let stream = discox_tls::dial(self.host, self.port).await?;
            discox_tls::probe(tls, config, self.host, stream, question).await
        };
        timeout(limit, exchange).await.unwrap_or_else(|_| Err(Error::timed_out("tls", limit)))
    }

    async fn exchange(&self, question: &[u8]) -> Option<Vec<u8>> {
        if let Some(tls) = self.tls() {
            return self.exchange_by_tls(&tls, question).await.ok();
        }
        let limit = self.settings().connect_timeout;
        let exchange = async {
            let stream = discox_tls::dial(self.host, self.port).await.ok()?;
            talk(stream, question).await.ok()
        };
        timeout(limit, exchange).await.ok().flatten()
    }

    /// What a member tells everybody.
    fn question(&self) -> Vec<u8> {
        let host = if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        };
        question(self.config.backend_type, &host)
    }

    async fn ask(&self, checks: &mut Vec<Check>) {
        let sent = SystemTime::now();
        let answer = self.exchange(&self.question()).await;
        checks.extend(read(self.config.backend_type, self.of(), answer.as_deref(), sent));
    }
}

async fn unix(
    config: &DiscoverConfig,
    address: &Address,
    path: &Path,
    checks: &mut Vec<Check>,
) -> Result<(), Check> {
    let stream = UnixStream::connect(path).await.map_err(|error| {
        let advice = "start the agent, or correct the path of its socket, and who may open it";
        Check::failed("tcp", address.text.as_str(), error.to_string(), advice)
    })?;
    checks.push(Check::ok("tcp", address.text.as_str(), "connected"));
    let sent = SystemTime::now();
    let answer =
        timeout(config.connection.connect_timeout, talk(stream, &question(config.backend_type, "localhost")))
            .await;
    let answer = answer.ok().and_then(Result::ok);
    checks.extend(read(config.backend_type, &address.text, answer.as_deref(), sent));
    Ok(())
}

/// Sends a question and reads the answer to its end.
async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, question: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(question).await?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).await?;
    Ok(answer)
}

fn question(backend: BackendType, host: &str) -> Vec<u8> {
    match backend {
        BackendType::Zookeeper => b"srvr".to_vec(),
        BackendType::Consul => http::request(host, "/v1/status/leader"),
        _ => http::request(host, "/version"),
    }
}

/// What the answer says of the member, and of its clock.
fn read(backend: BackendType, of: &str, answer: Option<&[u8]>, sent: SystemTime) -> Vec<Check> {
    let silent = || {
        // ZooKeeper says something in any case.
        let advice = "correct the address, or --backend; or the server hangs: look into its log";
        let found = "it accepts connections and does not answer";
        if backend == BackendType::Zookeeper {
            return vec![Check::failed("server", of, found, advice)];
        }
        vec![Check::warning("server", of, found, advice)]
    };
    let Some(bytes) = answer.filter(|bytes| !bytes.is_empty()) else { return silent() };
    if backend == BackendType::Zookeeper {
        return vec![zookeeper(of, &String::from_utf8_lossy(bytes))];
    }
    let Some(answer) = http::parse(bytes) else {
        // TLS alerts begin so.
        let is_tls = bytes.starts_with(&[0x15, 0x03]);
        let advice = if is_tls {
            "it wants TLS: write https://, and set --tls-ca"
        } else {
            "is this the registry's port?"
        };
        return vec![Check::failed("server", of, "it does not answer in HTTP", advice)];
    };
    if answer.status == 400 && answer.body.contains("HTTPS") {
        let advice = "it wants TLS: write https://, and set --tls-ca";
        return vec![Check::failed("server", of, "it answers that it speaks HTTPS here", advice)];
    }
    let server = match backend {
        BackendType::Consul => consul(of, &answer),
        _ => etcd(of, &answer),
    };
    [Some(server), clock(of, &answer, sent)].into_iter().flatten().collect()
}

fn etcd(of: &str, answer: &Answer) -> Check {
    let version: Option<serde_json::Value> = serde_json::from_str(&answer.body).ok();
    match version.as_ref().and_then(|version| version.get("etcdserver")?.as_str()) {
        Some(version) => Check::ok("server", of, format!("etcd {version}")),
        None => Check::failed(
            "server",
            of,
            format!("this is not etcd: it answers {} to /version", answer.status),
            "correct the address, or --backend",
        ),
    }
}

fn consul(of: &str, answer: &Answer) -> Check {
    match (answer.status, answer.body.trim()) {
        (200, "\"\"") => {
            let advice =
                "bring the servers of the cluster up: more than half of them must run and see each other";
            Check::failed("server", of, "Consul, and its cluster has no leader", advice)
        }
        (200, leader) if leader.starts_with('"') => {
            Check::ok("server", of, format!("Consul, the leader is {}", leader.trim_matches('"')))
        }
        (status, _) => {
            let found = format!("this is not Consul: it answers {status} to /v1/status/leader");
            Check::failed("server", of, found, "correct the address, or --backend")
        }
    }
}

fn zookeeper(of: &str, answer: &str) -> Check {
    let field = |name| answer.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    match (field("Zookeeper version:"), field("Mode:")) {
        (Some(version), mode) => {
            let version = version.split([',', '-']).next().unwrap_or(version);
            Check::ok("server", of, format!("ZooKeeper {version}, {}", mode.unwrap_or("mode unknown")))
        }
        _ if answer.contains("not currently serving") => {
            let advice = "bring the ensemble up: more than half of its servers must run and see each other";
            Check::failed("server", of, "ZooKeeper, and it does not serve: there is no quorum", advice)
        }
        _ if answer.contains("whitelist") => {
            Check::skipped("server", of, "ZooKeeper; `srvr` is not in its 4lw.commands.whitelist")
        }
        _ => Check::failed(
            "server",
            of,
            "this is not ZooKeeper: it does not answer to `srvr`",
            "correct the address, or --backend",
        ),
    }
}

/// How much the clocks differ, where the registry tells the time: in whole seconds.
fn clock(of: &str, answer: &Answer, sent: SystemTime) -> Option<Check> {
    let theirs = answer.date?;
    let difference = theirs.duration_since(sent).or_else(|_| sent.duration_since(theirs)).unwrap_or_default();
    Some(if difference <= CLOCKS {
        Check::ok("clock", of, "agrees with ours, to the second")
    } else {
        let found = format!("differs from ours by {} s", difference.as_secs());
        Check::warning("clock", of, found, "set the clocks, by NTP: certificates and logs depend on them")
    })
}

/// A refusal, with what to change.
pub(super) fn denied(name: &'static str, of: &str, error: &Error) -> Check {
    let advice = error.advice().unwrap_or("see the message");
    Check::failed(name, of, error.message(), advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Outcome;

    fn said(backend: BackendType, answer: &[u8]) -> Vec<(Outcome, String)> {
        let checks = read(backend, "a:1", Some(answer), SystemTime::now());
        checks.into_iter().map(|check| (check.outcome, check.to_string())).collect()
    }

    #[test]
    fn members_are_known_by_what_they_tell() {
        let etcd = said(BackendType::Etcd, b"HTTP/1.1 200 OK\r\n\r\n{\"etcdserver\":\"3.5.16\"}");
        assert_eq!(etcd.len(), 1);
        assert!(etcd[0].1.ends_with("a:1: etcd 3.5.16"), "{etcd:?}");
        let old = said(
            BackendType::Etcd,
            b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:07 GMT\r\n\r\n{\"etcdserver\":\"3\"}",
        );
        assert!(old[1].0 == Outcome::Warning && old[1].1.contains("set the clocks"), "{old:?}");
        for (backend, answer, advice) in [
            (BackendType::Etcd, &b"HTTP/1.1 404 Not Found\r\n\r\n"[..], "correct the address, or --backend"),
            (BackendType::Etcd, b"\x15\x03\x01\x00\x02\x02\x16", "write https://"),
            (
                BackendType::Consul,
                b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
                "write https://",
            ),
            (BackendType::Consul, b"HTTP/1.1 200 OK\r\n\r\n\"\"", "more than half"),
            (
                BackendType::Zookeeper,
                b"This ZooKeeper instance is not currently serving requests\n",
                "more than half",
            ),
            (
                BackendType::Zookeeper,
                b"HTTP/1.1 400 Bad Request\r\n\r\n",
                "correct the address, or --backend",
            ),
        ] {
            let said = said(backend, answer);
            assert!(said[0].0 == Outcome::Failed && said[0].1.contains(advice), "{said:?}");
        }
        let zookeeper =
            said(BackendType::Zookeeper, b"Zookeeper version: 3.9.3-c26634f, built on\nMode: standalone\n");
        assert!(zookeeper[0].1.ends_with("ZooKeeper 3.9.3, standalone"), "{zookeeper:?}");
    }
}
