//! One connection through the proxy.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::{Mode, Open, Tampering};

/// Bytes read at once, and chunks on their way in one direction of one connection: what bounds the memory of a
/// connection whose bytes are delayed.
const CHUNK: usize = 16 * 1024;
const CHUNKS: usize = 64;

/// One connection to its end. A side that fails or is reset makes the other one see a reset, too.
pub(super) async fn serve(mut client: TcpStream, number: u64, mut mode: watch::Receiver<Mode>, open: Open) {
    let (resets, tampering) = (mode.borrow().resets, mode.borrow().tampering(number));
    let target = mode.borrow().target.clone();
    let mut watched = mode.clone();
    let reset = async { watched.wait_for(|mode| mode.resets != resets).await.is_ok() };
    tokio::pin!(reset);

    let mut server = tokio::select! {
        server = connect(&target, &mut mode) => match server {
            Ok(server) => server,
            Err(_) => return end_by_reset(&client),
        },
        _ = &mut reset => return end_by_reset(&client),
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let orderly = tokio::select! {
        both = async {
            tokio::try_join!(
                pump(from_client, to_server, mode.clone(), &open.0.sent, None),
                pump(from_server, to_client, mode.clone(), &open.0.received, tampering),
            )
        } => both.is_ok(),
        _ = &mut reset => false,
    };
    if !orderly {
        end_by_reset(&client);
        end_by_reset(&server);
    }
}

/// A held proxy takes the connection but passes nothing on, so the target does not even see it.
async fn connect(target: &str, mode: &mut watch::Receiver<Mode>) -> io::Result<TcpStream> {
    passing(mode).await;
    let mut addresses = lookup_host(target).await?;
    let address = addresses.next().ok_or(io::ErrorKind::NotFound)?;
    TcpStream::connect(address).await
}

/// Closing it sends RST instead of FIN, and drops what was not sent yet.
fn end_by_reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Passes bytes one way until the reader ends, each not before its time.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut mode: watch::Receiver<Mode>,
    passed: &AtomicU64,
    mut tampering: Option<Tampering>,
) -> io::Result<()> {
    let mut reading = mode.clone();
    let mut under_way: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut ended = false;
    let mut chunk = vec![0; CHUNK];
    loop {
        if ended && under_way.is_empty() {
            return to.shutdown().await;
        }
        let due = under_way.front().map(|(due, _)| *due);
        tokio::select! {
            biased;
            // Both branches wait first and act in one step that is safe to cancel.
            () = due_and_passing(due, &mut mode) => if let Some((_, bytes)) = under_way.pop_front() {
                to.write_all(&bytes).await?;
                passed.fetch_add(bytes.len() as u64, Relaxed);
                if tampering.as_ref().is_some_and(Tampering::is_over) {
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
            },
            read = async { passing(&mut reading).await; from.read(&mut chunk).await },
                if !ended && under_way.len() < CHUNKS =>
            {
                let read = read?;
                ended = read == 0;
                if read > 0 {
                    let due = Instant::now() + reading.borrow().delay;
                    match &mut tampering {
                        None => under_way.push_back((due, chunk[..read].to_vec())),
                        Some(tampering) => under_way.extend(tampering.applied(&chunk[..read], due)),
                    }
                }
            },
        }
    }
}

async fn due_and_passing(due: Option<Instant>, mode: &mut watch::Receiver<Mode>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
    passing(mode).await;
}

/// Returns while bytes may pass: neither held nor stalled.
async fn passing(mode: &mut watch::Receiver<Mode>) {
    loop {
        let now = mode.borrow_and_update().clone();
        let stalled = now.stalled_until.filter(|until| *until > Instant::now());
        if !now.held && stalled.is_none() {
            return;
        }
        tokio::select! {
            // The proxy is gone: so is this task, in a moment.
            changed = mode.changed() => if changed.is_err() { return std::future::pending().await },
            () = async { match stalled {
                Some(until) if !now.held => sleep_until(until).await,
                _ => std::future::pending().await,
            } } => {},
        }
    }
}
