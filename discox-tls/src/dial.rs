//! TCP to a host, whose name may stand for several addresses.

use std::{future::Future, io, net::SocketAddr, time::Duration};

use discox_core::{Error, ErrorKind, Result};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::{
    net::{TcpStream, lookup_host},
    time::sleep,
};

/// An address that does not answer costs this long before the next one is tried beside it (RFC 8305, section 8).
const STAGGER: Duration = Duration::from_millis(250);

/// Connects to a host, by name or address (IPv6 with or without brackets). A name is looked up once, and its
/// addresses are tried one beside the other, so that a dead one costs a quarter of a second. Bounded by the
/// caller's time-out; nothing outlives the future but a look-up that hangs in the operating system.
///
/// # Errors
/// [`Unavailable`](ErrorKind::Unavailable), with what the operating system says.
pub async fn dial(host: &str, port: u16) -> Result<TcpStream> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let unavailable =
        |error: io::Error| Error::new(ErrorKind::Unavailable, error.to_string()).caused_by(error);
    let addresses: Vec<_> = lookup_host((host, port)).await.map_err(unavailable)?.collect();
    let stream = first_of(in_turns(addresses), TcpStream::connect).await.map_err(unavailable)?;
    stream.set_nodelay(true).map_err(unavailable)?;
    Ok(stream)
}

/// The resolver's order, but with the two families in turns (RFC 8305, section 4).
fn in_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut all = Vec::new();
    loop {
        let before = all.len();
        all.extend(first.next());
        all.extend(second.next());
        if all.len() == before {
            return all;
        }
    }
}

async fn first_of<T, F: Future<Output = io::Result<T>>>(
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<T> {
    let mut waiting = addresses.into_iter().peekable();
    let mut attempts = FuturesUnordered::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        attempts.extend(waiting.next().map(&connect));
        tokio::select! {
            biased;
            attempt = attempts.next() => match attempt {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => failure = error,
                None => return Err(failure),
            },
            () = sleep(STAGGER), if waiting.peek().is_some() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::{net::TcpListener, time::Instant};

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_families_take_turns_and_none_is_lost() {
        let all = ["[::1]:1", "[::2]:1", "[::3]:1", "127.0.0.1:1", "127.0.0.2:1"].map(address);
        let expected = ["[::1]:1", "127.0.0.1:1", "[::2]:1", "127.0.0.2:1", "[::3]:1"].map(address);
        assert_eq!(in_turns(all.to_vec()), expected);
        assert_eq!(in_turns(Vec::new()), []);
    }

    #[tokio::test]
    async fn an_address_that_swallows_everything_costs_a_moment() {
        let answers = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dead = address("127.0.0.1:9");
        let live = answers.local_addr().unwrap();
        let began = Instant::now();
        let connected = first_of(vec![dead, live], |to| async move {
            if to == dead { pending().await } else { TcpStream::connect(to).await }
        });
        assert_eq!(connected.await.unwrap().peer_addr().unwrap(), live);
        assert!(began.elapsed() < 4 * STAGGER, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_refusal_is_told_when_nothing_is_left_to_try() {
        let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let error = dial("127.0.0.1", refusing.port()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("refused"), "{error}");
    }
}
