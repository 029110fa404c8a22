//! What is hostile in any protocol.

use std::{io, time::Duration};

use async_trait::async_trait;
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

use super::server::Script;

/// Written at a time.
const CHUNK: usize = 64 * 1024;
/// Between two bytes of a drip.
const DRIP: Duration = Duration::from_millis(100);

/// Bytes that are no answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Noise {
    /// None: the connection is closed.
    Closed,
    /// None: the request is read, and then the connection is closed.
    ClosedAfterTheRequest,
    /// Random ones without end.
    Random,
    /// All the same, without end.
    Same(u8),
    /// All the same, one by one.
    Dripping(u8),
}

#[async_trait]
impl Script for Noise {
    async fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        match *self {
            Self::Closed => Ok(()),
            Self::ClosedAfterTheRequest => stream.read(&mut [0; CHUNK]).await.map(drop),
            Self::Random => {
                let chunk: Vec<u8> = (0..CHUNK).map(|_| fastrand::u8(..)).collect();
                without_end(&mut stream, &chunk).await
            }
            Self::Same(byte) => without_end(&mut stream, &[byte; CHUNK]).await,
            Self::Dripping(byte) => loop {
                stream.write_all(&[byte]).await?;
                // The slowness is what this is.
                sleep(DRIP).await;
            },
        }
    }
}

/// Writes it again and again, until the other side has enough.
pub(super) async fn without_end(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    loop {
        to.write_all(bytes).await?;
    }
}
