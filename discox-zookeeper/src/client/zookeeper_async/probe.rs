//! Which member to connect to. The client itself would wait two minutes for one that is cut off, and
//! try one without a quorum over and over, without a pause.

use std::{net::SocketAddr, time::Duration};

use discox_core::{Error, ErrorKind, Result, backend::Members};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What a server answers to `srvr` has some hundred bytes.
const LONGEST: u64 = 4096;

/// The address of a member that serves, chosen at random. Names are resolved here, each time.
pub(super) async fn serving(members: &[String], per_member: Duration) -> Result<SocketAddr> {
    Members::new(members.to_vec()).first(per_member, |member| probe(member)).await
}

/// Asks a member for its state, which servers tell unless forbidden; that is an answer as well.
async fn probe(member: &str) -> Result<SocketAddr> {
    let unavailable = |reason: String| Error::new(ErrorKind::Unavailable, format!("{member}: {reason}"));
    let exchange = async {
        let mut stream = TcpStream::connect(member).await?;
        let address = stream.peer_addr()?;
        stream.write_all(b"srvr").await?;
        let mut answer = Vec::new();
        stream.take(LONGEST).read_to_end(&mut answer).await?;
        Ok((address, answer))
    };
    let (address, answer) = exchange.await.map_err(|error: std::io::Error| unavailable(error.to_string()))?;
    let answer = String::from_utf8_lossy(&answer);
    if answer.is_empty() || answer.contains("not currently serving") {
        return Err(unavailable("has no quorum".into()));
    }
    Ok(address)
}
