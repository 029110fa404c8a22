//! A ZooKeeper server that means no good, by its wire protocol. It grants sessions and answers `sync`, so that
//! the connection counts as good.

use std::{
    io,
    iter::{once, repeat_n},
    sync::OnceLock,
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::Mutex,
    time::sleep,
};

use super::{
    bytes::without_end,
    server::Script,
    stage::{ATTR, FIRST},
};

/// What it answers to everything but `sync` and pings.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mischief {
    /// An answer that says to have this length, and never ends.
    Length(i32),
    /// Children of a directory, so many by their count, and not one of them there.
    Claimed(i32),
    /// Children of a directory, a million.
    MillionChildren,
    /// A few children with data of 1 MB each, whatever was asked for.
    HugeData,
    /// The true list, then changes without end, of ever other nodes, and no answer to those who want to read them.
    EndlessEvents,
    /// Numbers of requests that nobody made.
    OtherNumbers,
    /// Errors that do not exist.
    OtherErrors,
    /// Nothing at all after the header.
    Empty,
}

const PING: i32 = 11;
const SYNC: i32 = 9;
const CHILDREN: i32 = 8;
const GET: i32 = 4;
const MULTI_READ: i32 = 22;
const WATCH: i32 = 106;
/// What follows it.
const STAT: [u8; 68] = [0; 68];
/// The most that a name takes in a list, in bytes.
const NAME: usize = 24;

/// The directory that the suite's service has.
const DIRECTORY: &str = "/discox/hostile/demo";

#[async_trait]
impl Script for Mischief {
    async fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        frame(&mut stream).await?;
        let session = fastrand::i64(1..);
        // Protocol, session timeout in ms, session, password, not read-only.
        let hello =
            [&[0; 4][..], &4_000_i32.to_be_bytes(), &session.to_be_bytes(), &text(&"p".repeat(16)), &[0]];
        send(&mut stream, &hello).await?;
        loop {
            let request = frame(&mut stream).await?;
            let (number, operation) = (int(&request, 0), int(&request, 4));
            let answer = match operation {
                PING => Some(reply(number, 0, b"")),
                SYNC => Some(reply(number, 0, &text("/"))),
                _ => self.answer(number, operation, &request),
            };
            match (answer, *self) {
                (Some(answer), _) => send(&mut stream, &[&answer]).await?,
                (None, Self::MillionChildren) => {
                    send(&mut stream, &[&reply(number, 0, b""), a_million()]).await?
                }
                (None, Self::HugeData) => huge_data(&mut stream, number, asked(&request)).await?,
                (None, Self::Length(length)) => {
                    stream.write_all(&length.to_be_bytes()).await?;
                    return without_end(&mut stream, &[0; 64 * 1024]).await;
                }
                (None, _) => return events(stream.into_inner(), &request).await,
            }
        }
    }
}

impl Mischief {
    /// The answer, none where it goes on without end, or is too long to be put together.
    fn answer(self, number: i32, operation: i32, request: &[u8]) -> Option<Vec<u8>> {
        Some(match self {
            Self::Length(_) => return None,
            Self::OtherNumbers => reply(number.wrapping_add(1_000), 0, b""),
            Self::OtherErrors => reply(number, -9_999, b""),
            Self::Empty => reply(number, 0, b""),
            _ if operation == WATCH => reply(number, 0, b""),
            Self::Claimed(count) if operation == CHILDREN => reply(number, 0, &count.to_be_bytes()),
            Self::MillionChildren if operation == CHILDREN => return None,
            Self::HugeData if operation == CHILDREN => reply(number, 0, &names(100)),
            Self::EndlessEvents if operation == CHILDREN => reply(number, 0, &listed([FIRST.to_owned()])),
            Self::EndlessEvents if operation == MULTI_READ && is_about(request, DIRECTORY) => return None,
            Self::HugeData if operation == MULTI_READ => return None,
            _ if operation == MULTI_READ => reply(number, 0, &all_gone(request)),
            // No such node.
            _ => reply(number, -101, b""),
        })
    }
}

/// Whether a request names something in this directory.
fn is_about(request: &[u8], directory: &str) -> bool {
    request.windows(directory.len()).any(|window| window == directory.as_bytes())
}

/// What those hold who are listed, and then creations without end, some 50,000 a second: of each that nobody watches any
/// more zookeeper-client keeps a little as long as it is connected (see SECURITY.md). Probes are answered by the way;
/// what else is asked is not.
async fn events(stream: TcpStream, read: &[u8]) -> io::Result<()> {
    let (from, to) = stream.into_split();
    let (mut from, to) = (BufReader::new(from), Mutex::new(to));
    let list = reply(int(read, 0), 0, &all_hold(ATTR.as_bytes(), read));
    send(&mut *to.lock().await, &[&list]).await?;
    let probes = async {
        loop {
            let request = frame(&mut from).await?;
            let answer = match int(&request, 4) {
                PING => reply(int(&request, 0), 0, b""),
                SYNC => reply(int(&request, 0), 0, &text("/")),
                _ => continue,
            };
            send(&mut *to.lock().await, &[&answer]).await?;
        }
    };
    let events = async {
        let mut next = 0;
        loop {
            let batch: Vec<u8> = (0..100).flat_map(|_| event(&mut next)).collect();
            to.lock().await.write_all(&batch).await?;
            sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        ended = probes => ended,
        ended = events => ended,
    }
}

fn event(next: &mut u32) -> Vec<u8> {
    *next += 1;
    let path = format!("{DIRECTORY}/{}", name(*next));
    // Created, connected.
    let body = [&1_i32.to_be_bytes()[..], &3_i32.to_be_bytes(), &text(&path)].concat();
    let frame = reply(-1, 0, &body);
    [&length(frame.len())[..], &frame].concat()
}

/// Made once, others wait for it, and sent from there: what this takes is measured as if the victim took it.
fn a_million() -> &'static [u8] {
    static MILLION: OnceLock<Vec<u8>> = OnceLock::new();
    MILLION.get_or_init(|| names(1_000_000))
}

/// So many nodes with huge data, all of which is the same in memory, for the same reason.
async fn huge_data(stream: &mut BufReader<TcpStream>, number: i32, nodes: usize) -> io::Result<()> {
    static HUGE: [u8; 1_000_000] = [b'x'; 1_000_000];
    let (head, before, end) = (reply(number, 0, b""), before_data(&HUGE), end());
    let node = [&before[..], &HUGE, &STAT];
    let parts: Vec<&[u8]> =
        once(&head[..]).chain(repeat_n(node, nodes).flatten()).chain([&end[..]]).collect();
    send(stream, &parts).await
}

fn names(count: u32) -> Vec<u8> {
    listed((0..count).map(name))
}

/// These children.
fn listed(names: impl IntoIterator<Item = String, IntoIter: ExactSizeIterator>) -> Vec<u8> {
    let names = names.into_iter();
    let mut list = Vec::with_capacity(4 + NAME * names.len());
    list.extend(length(names.len()));
    names.for_each(|name| list.extend(text(&name)));
    list
}

fn name(number: u32) -> String {
    format!("10.{}.{}.{}:{}", number >> 16 & 255, number >> 8 & 255, number & 255, 1 + (number >> 24))
}

/// How many nodes a multi-read asks for.
fn asked(request: &[u8]) -> usize {
    let needle = [&GET.to_be_bytes()[..], &[0, 0xff, 0xff, 0xff, 0xff]].concat();
    request.windows(needle.len()).filter(|bytes| *bytes == needle).count()
}

/// Every node that a multi-read asks for has this data.
fn all_hold(data: &[u8], request: &[u8]) -> Vec<u8> {
    let one = [&before_data(data), data, &STAT].concat();
    [one.repeat(asked(request)), end()].concat()
}

/// What stands before a node's data in the answer to a multi-read.
fn before_data(data: &[u8]) -> Vec<u8> {
    [&GET.to_be_bytes()[..], &[0; 5], &length(data.len())].concat()
}

fn all_gone(request: &[u8]) -> Vec<u8> {
    let gone = (-101_i32).to_be_bytes();
    let one = [&(-1_i32).to_be_bytes()[..], &[0], &gone, &gone].concat();
    [one.repeat(asked(request)), end()].concat()
}

/// The end of a multi-read.
fn end() -> Vec<u8> {
    vec![0xff, 0xff, 0xff, 0xff, 1, 0xff, 0xff, 0xff, 0xff]
}

fn reply(number: i32, error: i32, body: &[u8]) -> Vec<u8> {
    [&number.to_be_bytes()[..], &1_i64.to_be_bytes(), &error.to_be_bytes(), body].concat()
}

async fn frame(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = usize::try_from(stream.read_i32().await?).unwrap_or(0);
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame).await?;
    Ok(frame)
}

/// Sends a frame, which is these parts.
async fn send(stream: &mut (impl AsyncWrite + Unpin), parts: &[&[u8]]) -> io::Result<()> {
    stream.write_all(&length(parts.iter().map(|part| part.len()).sum())).await?;
    for part in parts {
        stream.write_all(part).await?;
    }
    Ok(())
}

fn text(text: &str) -> Vec<u8> {
    [&length(text.len())[..], text.as_bytes()].concat()
}

fn length(bytes: usize) -> [u8; 4] {
    i32::try_from(bytes).unwrap_or(i32::MAX).to_be_bytes()
}

/// The number at this place of a request, 0 where it is shorter.
fn int(bytes: &[u8], at: usize) -> i32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_be_bytes)
}
