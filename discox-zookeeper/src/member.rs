//! What a member says of itself, for clients that do not tell why they have no session.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use discox_core::{BackendType, Error, ErrorKind, Result, TlsConfig};
use discox_tls::ClientConfig;
use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::{address::Address, connect::Connector, security::Security};

/// What a server answers to anybody and without a quorum, if only to say that it may not. One byte
/// longer than it takes, so that a server that waits for TLS sees that it is none.
const HELLO: &[u8] = b"srvr\n";

/// What a server answers has some hundred bytes.
const LONGEST: u64 = 4096;

/// In plain text, who does not answer by then is taken for silent: a return must not wait for an explanation.
const EXPLAINS_WITHIN: Duration = Duration::from_millis(250);

/// How an alert of TLS begins (RFC 8446, section 5.1).
const ALERT: u8 = 21;

/// Asks a member for its state in plain text, which servers tell unless forbidden; that is an answer as well.
/// Returns its address. Bounded by the caller's time-out.
///
/// # Errors
/// Why it gives no sessions.
pub(crate) async fn ask(member: &str) -> Result<SocketAddr> {
    let (host, port) = Address::parts(member);
    let mut stream = discox_tls::dial(host, port).await?;
    let mut answer = Vec::new();
    let exchange = async {
        let address = stream.peer_addr()?;
        stream.write_all(HELLO).await?;
        (&mut stream).take(LONGEST).read_to_end(&mut answer).await?;
        io::Result::Ok(address)
    };
    match exchange.await {
        // It may hang up before it has read what we say.
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => {
            Err(Error::new(ErrorKind::Unavailable, error.to_string()).caused_by(error))
        }
        exchanged => {
            serves(&answer)?;
            exchanged.map_err(|error| Error::new(ErrorKind::Unavailable, error.to_string()))
        }
    }
}

/// What an answer means.
fn serves(answer: &[u8]) -> Result<()> {
    let text = String::from_utf8_lossy(answer);
    let unavailable = |why: &str| Err(Error::new(ErrorKind::Unavailable, why));
    if text.contains("not currently serving") {
        unavailable("it has no quorum")
    } else if text.contains("Mode: read-only") {
        unavailable("it is read-only, since it has no quorum")
    } else if text.contains("Mode:") || text.contains("whitelist") {
        Ok(())
    } else if answer.is_empty() {
        unavailable(
            "it hangs up: it starts, has no quorum, takes no more connections from here (`maxClientCnxns`), or wants TLS",
        )
    } else if answer.first() == Some(&ALERT) {
        Err(Error::new(ErrorKind::Protocol, "it speaks TLS here: set `tls`, or use its port for plain text"))
    } else {
        Err(Error::new(ErrorKind::Protocol, "it answers, and not as ZooKeeper does: is the address right?"))
    }
}

/// As [`ask`], over TLS.
async fn ask_by_tls(member: &str, tls: &TlsConfig, config: Arc<ClientConfig>) -> Result<()> {
    let (host, port) = Address::parts(member);
    let stream = discox_tls::dial(host, port).await?;
    match discox_tls::probe(tls, config, host, stream, HELLO).await {
        Ok(answer) => serves(&answer),
        // A server that knows no TLS hangs up, as others do on whom they do not trust.
        Err(error) if error.kind() == ErrorKind::Denied => Err(error),
        Err(error) => match ask(member).await {
            Ok(_) => Err(Error::new(
                ErrorKind::Protocol,
                "the server speaks no TLS here: is this its secure client port?",
            )),
            Err(_) => Err(error),
        },
    }
}

impl Connector {
    /// Why nobody has let us in: what each member says. The client tells only that none has.
    pub(crate) async fn why_refused(&self, error: Error, security: &Security) -> Error {
        if !matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::TimedOut) {
            return self.explain(error);
        }
        let asking = self.address.members.iter().map(|member| self.ask_within(member, security));
        let mut reasons: Vec<_> = self.address.members.iter().zip(join_all(asking).await).collect();
        if let Some(denied) = reasons.iter().position(|(_, why)| why.kind() == ErrorKind::Denied) {
            let (member, denied) = reasons.swap_remove(denied);
            return denied.with_backend(BackendType::Zookeeper).with_address(member);
        }
        let is_wrong = reasons.iter().all(|(_, why)| why.kind() == ErrorKind::Protocol);
        let reasons: Vec<_> =
            reasons.iter().map(|(member, why)| format!("{member}: {}", why.message())).collect();
        let kind = if is_wrong { ErrorKind::Protocol } else { ErrorKind::Unavailable };
        // Why, is said of each: what else to ask is plain.
        let message = format!("no member accepts a session ({})", reasons.join("; "));
        Error::new(kind, message).answered().caused_by(error)
    }

    async fn ask_within(&self, member: &str, security: &Security) -> Error {
        let (limit, asked) = match (&self.settings.tls, &security.tls) {
            (Some(tls), Some(config)) => {
                let limit = self.settings.connect_timeout;
                (limit, timeout(limit, ask_by_tls(member, tls, config.clone())).await)
            }
            _ => {
                let limit = EXPLAINS_WITHIN.min(self.settings.connect_timeout);
                (limit, timeout(limit, async { ask(member).await.map(drop) }).await)
            }
        };
        match asked {
            Ok(Err(why)) => why,
            Ok(Ok(())) => Error::new(ErrorKind::Unavailable, "it answers, but gave no session in time"),
            Err(_) => Error::new(ErrorKind::Unavailable, format!("no answer within {limit:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_say_is_told_apart() {
        for (answer, expected) in [
            ("Zookeeper version: 3.9.6\nMode: follower\n", None),
            ("srvr is not executed because it is not in the whitelist.\n", None),
            ("This ZooKeeper instance is not currently serving requests\n", Some("no quorum")),
            ("Zookeeper version: 3.9.6\nMode: read-only\n", Some("read-only")),
            ("", Some("maxClientCnxns")),
            ("\u{15}\u{3}\u{3}\0\u{2}\u{2}F", Some("TLS")),
            ("HTTP/1.1 400 Bad Request\r\n", Some("not as ZooKeeper")),
        ] {
            let told = serves(answer.as_bytes()).err().map(|error| error.to_string());
            match (&told, expected) {
                (Some(told), Some(expected)) => assert!(told.contains(expected), "{told}"),
                (told, expected) => assert_eq!(told.is_some(), expected.is_some(), "{answer:?}: {told:?}"),
            }
        }
    }
}
