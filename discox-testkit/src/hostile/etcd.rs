//! An etcd that means no good, by HTTP/2 and gRPC. Probes are answered, so that the connection counts as good;
//! whoever wants to write is sent away.

use std::{
    future::poll_fn,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use h2::{RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::{net::TcpStream, task::JoinSet, time::sleep};

use super::server::Script;

/// What it answers to who wants to list or to watch.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// Pages without end, each with more records and the promise of another.
    EndlessPages,
    /// Pages without end, of records with values of 1 MiB.
    HugeValues,
    /// Keys without end that lie somewhere else.
    ForeignPages,
    /// One page, of nothing but empty records.
    EmptyRecords,
    /// A message that is said to have this length, and never ends.
    Length(u32),
    /// A message that comes byte by byte.
    Slow,
    /// A good list, and then ever more records.
    EndlessWatch,
    /// A good list, and then messages of nothing but empty events.
    EmptyEvents,
    /// A long explanation that commands the terminal.
    LongStatus,
    /// Not gRPC: ask somewhere else.
    Redirect,
    /// Messages that are no protobuf.
    NoProtobuf,
}

/// It, and how many records it has made up.
#[derive(Clone, Debug)]
pub(super) struct Mischief(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    what: What,
    records: AtomicUsize,
}

/// The directory that the suite's service has, and the record that is really there.
const DIRECTORY: &str = "/discox/hostile/demo";
const RECORD: &str = "/discox/hostile/demo/10.0.0.1:80";

/// Records of a page, and events of a message.
const BATCH: usize = 1_000;
const PAGE_OF_HUGE: usize = 5;
static HUGE: [u8; 1 << 20] = [b'x'; 1 << 20];
/// What all messages say first: revision 1.
const HEADER: [u8; 4] = [0x0a, 2, 0x18, 1];
/// What a message about the second watch says, and what the answer to a new watch does.
const OF_WATCH_1: [u8; 2] = [0x10, 1];
const CREATED: [u8; 2] = [0x18, 1];
/// How a request for a watch begins.
const CREATE: u8 = 0x0a;
/// What a page says last: there are more.
const MORE: [u8; 2] = [0x18, 1];

type Outcome = Result<(), h2::Error>;

impl Mischief {
    pub(super) fn new(what: What) -> Self {
        Self(Arc::new(Inner { what, records: AtomicUsize::new(0) }))
    }
}

#[async_trait]
impl Script for Mischief {
    async fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let mut connection = h2::server::handshake(stream).await.map_err(io::Error::other)?;
        let mut calls = JoinSet::new();
        loop {
            tokio::select! {
                call = connection.accept() => match call {
                    Some(call) => {
                        let (request, respond) = call.map_err(io::Error::other)?;
                        let own = self.0.clone();
                        calls.spawn(async move { own.call(request, respond).await });
                    }
                    None => return Ok(()),
                },
                Some(_) = calls.join_next() => {}
            }
        }
    }
}

impl Inner {
    async fn call(&self, request: Request<RecvStream>, respond: SendResponse<Bytes>) -> Outcome {
        let path = request.uri().path().to_owned();
        let mut messages = Messages { body: request.into_body(), bytes: Vec::new() };
        let message = messages.next().await?;
        match path.rsplit('/').next() {
            Some("Range") if is_list(&message) => self.list(respond).await,
            Some("Range") => good(respond, &HEADER).await,
            Some("Watch") => self.watch(messages, respond).await,
            _ => refused(respond, "not now"),
        }
    }

    async fn list(&self, mut respond: SendResponse<Bytes>) -> Outcome {
        match self.what {
            What::EndlessPages => good(respond, &self.page(DIRECTORY)).await,
            What::ForeignPages => good(respond, &self.page("/discox/hostile/demo/deeper")).await,
            What::HugeValues => good_parts(respond, self.page_of_huge()).await,
            What::EmptyRecords => {
                good_parts(respond, vec![Bytes::from_static(&HEADER), [0x12, 0].repeat(3 << 20).into()]).await
            }
            What::Length(bytes) => {
                let mut to = begun(&mut respond)?;
                send(&mut to, [&[0][..], &bytes.to_be_bytes()].concat()).await?;
                loop {
                    send(&mut to, vec![0; 64 * 1024]).await?;
                }
            }
            What::Slow => {
                let mut to = begun(&mut respond)?;
                send(&mut to, vec![0, 0, 1, 0, 0]).await?;
                loop {
                    send(&mut to, vec![0]).await?;
                    // The slowness is what this is.
                    sleep(Duration::from_millis(100)).await;
                }
            }
            What::EndlessWatch | What::EmptyEvents => {
                good(respond, &[&HEADER[..], &field(0x12, &record(RECORD, b"a"))].concat()).await
            }
            What::LongStatus => refused(respond, &"%1B[2J%0A".repeat(1_000)),
            What::Redirect => {
                let elsewhere = Response::builder().status(302).header("location", "http://127.0.0.1:9/");
                respond.send_response(elsewhere.body(()).unwrap_or_default(), true).map(drop)
            }
            What::NoProtobuf => good(respond, &[0xff; 1_000]).await,
        }
    }

    /// A page of records, and the promise of more.
    fn page(&self, directory: &str) -> Vec<u8> {
        let records = (0..BATCH).flat_map(|_| field(0x12, &record(&self.key(directory), b"xxxxxxxxxx")));
        HEADER.into_iter().chain(records).chain(MORE).collect()
    }

    /// The same of records with huge values: in parts, all of which share the one value that there is, since what
    /// this takes is measured as if the victim took it.
    fn page_of_huge(&self) -> Vec<Bytes> {
        let mut parts = vec![Bytes::from_static(&HEADER)];
        for _ in 0..PAGE_OF_HUGE {
            let before = [keyed(&self.key(DIRECTORY)), head(0x2a, HUGE.len())].concat();
            parts.push([head(0x12, before.len() + HUGE.len()), before].concat().into());
            parts.push(Bytes::from_static(&HUGE));
        }
        parts.push(Bytes::from_static(&MORE));
        parts
    }

    /// Confirms two watches, the one that opens the stream and the one that somebody reads, and sends events of the
    /// latter without end.
    async fn watch(&self, mut messages: Messages, mut respond: SendResponse<Bytes>) -> Outcome {
        let mut to = begun(&mut respond)?;
        send(&mut to, message(&[&HEADER[..], &CREATED].concat())).await?;
        while messages.next().await?.first().is_some_and(|kind| *kind != CREATE) {}
        send(&mut to, message(&[&HEADER[..], &OF_WATCH_1, &CREATED].concat())).await?;
        loop {
            let events = match self.what {
                What::EmptyEvents => [0x5a, 0].repeat(1 << 20),
                _ => (0..BATCH).flat_map(|_| self.event()).collect(),
            };
            send(&mut to, message(&[&HEADER[..], &OF_WATCH_1, &events].concat())).await?;
        }
    }

    /// The creation of another record.
    fn event(&self) -> Vec<u8> {
        field(0x5a, &field(0x12, &record(&self.key(DIRECTORY), b"x")))
    }

    /// A key after all before.
    fn key(&self, directory: &str) -> String {
        format!("{directory}/h{:012}:80", self.records.fetch_add(1, Relaxed))
    }
}

/// Whether a request for a range has an end: a key, and then field 2.
fn is_list(request: &[u8]) -> bool {
    let key = request.get(1).map_or(0, |length| usize::from(*length));
    request.get(2 + key) == Some(&0x12)
}

/// The messages of a call.
struct Messages {
    body: RecvStream,
    bytes: Vec<u8>,
}

impl Messages {
    /// The next one, empty where there is none.
    async fn next(&mut self) -> Result<Vec<u8>, h2::Error> {
        while self.bytes.len() < 5 || self.bytes.len() < 5 + usize::from(self.bytes[4]) {
            let Some(data) = self.body.data().await else { return Ok(Vec::new()) };
            let data = data?;
            self.body.flow_control().release_capacity(data.len())?;
            self.bytes.extend_from_slice(&data);
        }
        let end = 5 + usize::from(self.bytes[4]);
        let message = self.bytes.drain(..end).skip(5).collect();
        Ok(message)
    }
}

fn begun(respond: &mut SendResponse<Bytes>) -> Result<SendStream<Bytes>, h2::Error> {
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap_or_default();
    respond.send_response(head, false)
}

async fn good(respond: SendResponse<Bytes>, body: &[u8]) -> Outcome {
    good_parts(respond, vec![Bytes::copy_from_slice(body)]).await
}

/// The same of a body in parts.
async fn good_parts(mut respond: SendResponse<Bytes>, body: Vec<Bytes>) -> Outcome {
    let mut to = begun(&mut respond)?;
    send(&mut to, prefix(body.iter().map(Bytes::len).sum())).await?;
    for part in body {
        send(&mut to, part).await?;
    }
    to.send_trailers(status("0", ""))
}

fn refused(mut respond: SendResponse<Bytes>, why: &str) -> Outcome {
    begun(&mut respond)?.send_trailers(status("14", why))
}

fn status(code: &'static str, said: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(code));
    if let Ok(said) = said.parse() {
        trailers.insert("grpc-message", said);
    }
    trailers
}

/// Sends as much as the other side takes, as it takes it.
async fn send(to: &mut SendStream<Bytes>, bytes: impl Into<Bytes>) -> Outcome {
    let mut bytes = bytes.into();
    while !bytes.is_empty() {
        to.reserve_capacity(bytes.len());
        let Some(room) = poll_fn(|context| to.poll_capacity(context)).await else {
            return Err(h2::Reason::CANCEL.into());
        };
        let room = room?.min(bytes.len());
        to.send_data(bytes.split_to(room), false)?;
    }
    Ok(())
}

/// As gRPC sends it.
fn message(body: &[u8]) -> Vec<u8> {
    [prefix(body.len()), body.to_vec()].concat()
}

/// What goes before a message of this length.
fn prefix(length: usize) -> Vec<u8> {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    [&[0][..], &length.to_be_bytes()].concat()
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    [keyed(key), field(0x2a, value)].concat()
}

/// A record but for its value: of version 1.
fn keyed(key: &str) -> Vec<u8> {
    [field(0x0a, key.as_bytes()), vec![0x20, 1]].concat()
}

/// A field of bytes.
fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    [head(tag, bytes.len()), bytes.to_vec()].concat()
}

/// What goes before a field of that many bytes.
fn head(tag: u8, mut length: usize) -> Vec<u8> {
    let mut head = vec![tag];
    while length > 0x7f {
        head.push(0x80 | (length & 0x7f) as u8);
        length >>= 7;
    }
    head.push(length as u8);
    head
}
