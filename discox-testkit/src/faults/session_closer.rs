//! Closes somebody else's ZooKeeper session, as an administrator would if there were a command for it.
//!
//! A session's password is made from its number alone, so that any member can check it: whoever knows the number
//! can take the session over, and close it. Its owner finds it expired.

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Duration, timeout},
};

/// What ZooKeeper mixes into its passwords (`ZooKeeperServer.superSecret`).
const SUPER_SECRET: u64 = 0xB341_5C00;

/// A server on the loopback answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

const ATTEMPTS: u32 = 3;

const CLOSE_SESSION: i32 = -11;

/// Closes the session with this number, and returns when the server has said so.
pub(crate) async fn close(address: &str, session: u64) -> Result<()> {
    timeout(PATIENCE, attempts(address, session)).await.context("closing a session")?
}

/// Its owner may take it back in between, which ends this connection.
async fn attempts(address: &str, session: u64) -> Result<()> {
    let mut ended = None;
    for _ in 0..ATTEMPTS {
        match exchange(address, session).await {
            Ok(true) => return Ok(()),
            // The attempt before has closed it, and was not told so.
            Ok(false) if ended.is_some() => return Ok(()),
            Ok(false) => bail!("the server does not know session {session:#x}"),
            Err(error) => ended = Some(error),
        }
    }
    Err(ended.context("no attempt")?)
}

/// Takes it over and closes it; false where the server does not know it.
async fn exchange(address: &str, session: u64) -> Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let mut connect = Vec::new();
    connect.extend(0_i32.to_be_bytes()); // protocol version
    connect.extend(0_i64.to_be_bytes()); // last change seen
    connect.extend(4_000_i32.to_be_bytes()); // timeout
    connect.extend(session.to_be_bytes());
    connect.extend(16_i32.to_be_bytes());
    connect.extend(password(session));
    connect.push(0); // not read-only
    let mut close = Vec::from(1_i32.to_be_bytes());
    close.extend(CLOSE_SESSION.to_be_bytes());
    for message in [&connect, &close] {
        stream.write_all(&u32::try_from(message.len())?.to_be_bytes()).await?;
        stream.write_all(message).await?;
    }
    let answer = read(&mut stream).await.context("the server did not take the session over")?;
    let timeout = answer.get(4..8).and_then(|bytes| Some(i32::from_be_bytes(bytes.try_into().ok()?)));
    if timeout.is_none_or(|timeout| timeout <= 0) {
        return Ok(false);
    }
    read(&mut stream).await.context("the server did not close the session")?;
    Ok(true)
}

async fn read(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    ensure!(length < 1024, "an answer of {length} bytes");
    let mut message = vec![0; usize::try_from(length)?];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// The first 16 bytes of `java.util.Random`, seeded with the session.
fn password(session: u64) -> [u8; 16] {
    const MULTIPLIER: u64 = 0x5_DEEC_E66D;
    const MASK: u64 = (1 << 48) - 1;
    let mut seed = (session ^ SUPER_SECRET ^ MULTIPLIER) & MASK;
    let mut bytes = [0; 16];
    for four in bytes.chunks_mut(4) {
        seed = (seed.wrapping_mul(MULTIPLIER) + 0xB) & MASK;
        four.copy_from_slice(&(seed >> 16).to_le_bytes()[..4]);
    }
    bytes
}
