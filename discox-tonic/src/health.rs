//! Health watching (gRFC A17): a server that says that it is not serving gets no calls, though it is connected.

use std::time::Duration;

use bytes::{Buf, BufMut};
use discox_http::{Direct, Health};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use http::uri::PathAndQuery;
use tokio::time::sleep;
use tonic::{
    Code, Request, Status, Streaming,
    body::Body,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// `ServingStatus::SERVING` in `grpc.health.v1`.
const SERVING: u64 = 1;

/// The pause before a watch that has failed is begun again; it doubles.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// Watches the health of one service of the server: its name in `grpc.health.v1`, "" for the server as a whole.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub(crate) service: String,
}

/// What the endpoint says of itself.
type Said = Result<(), String>;

impl Health<Body> for Watch {
    fn watch(&self, connection: Direct<Body>) -> BoxStream<'static, Said> {
        let watching =
            Watching { service: self.service.clone(), connection, words: None, failed: 0, is_unknown: false };
        stream::unfold(watching, |mut watching| async move { Some((watching.next().await?, watching)) })
            .boxed()
    }
}

struct Watching {
    service: String,
    connection: Direct<Body>,
    /// None before the first watch, and after one that has failed.
    words: Option<Streaming<u64>>,
    /// Watches in a row that have failed.
    failed: u32,
    /// The server does not know of health.
    is_unknown: bool,
}

impl Watching {
    /// The next word. None when there will be none.
    async fn next(&mut self) -> Option<Said> {
        if self.is_unknown {
            return None;
        }
        match self.word().await {
            Ok(SERVING) => Some(Ok(())),
            Ok(status) => Some(Err(format!("its health is {}", name(status)))),
            // gRFC A17: then it is well.
            Err(status) if status.code() == Code::Unimplemented => {
                self.is_unknown = true;
                Some(Ok(()))
            }
            Err(_) if self.connection.is_closed() => None,
            Err(status) => Some(Err(format!("its health is not told: {}", status.message()))),
        }
    }

    async fn word(&mut self) -> Result<u64, Status> {
        let words = match &mut self.words {
            Some(words) => words,
            None => {
                sleep(pause(self.failed)).await;
                let words = self.begin().await.inspect_err(|_| self.failed += 1)?;
                self.words.insert(words)
            }
        };
        let word = words.message().await;
        if let Ok(Some(status)) = word {
            self.failed = 0;
            return Ok(status);
        }
        self.words = None;
        self.failed += 1;
        word?.ok_or_else(|| Status::unknown("the watch has ended"))
    }

    async fn begin(&self) -> Result<Streaming<u64>, Status> {
        let mut grpc = Grpc::new(self.connection.clone());
        grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
        let path = PathAndQuery::from_static("/grpc.health.v1.Health/Watch");
        let answer = grpc.server_streaming(Request::new(self.service.clone()), path, HealthCodec).await?;
        Ok(answer.into_inner())
    }
}

/// With jitter: a server that comes back is not asked by all its clients at once.
fn pause(failed: u32) -> Duration {
    let Some(doublings) = failed.checked_sub(1) else { return Duration::ZERO };
    SHORTEST.saturating_mul(2_u32.pow(doublings.min(10))).min(LONGEST).mul_f64(0.8 + 0.4 * fastrand::f64())
}

/// A status as `grpc.health.v1` names it.
fn name(status: u64) -> String {
    match status {
        0 => "UNKNOWN".into(),
        2 => "NOT_SERVING".into(),
        3 => "SERVICE_UNKNOWN".into(),
        other => other.to_string(),
    }
}

/// The two messages of `grpc.health.v1`: `HealthCheckRequest { string service = 1; }`, and
/// `HealthCheckResponse { ServingStatus status = 1; }`.
struct HealthCodec;

impl Codec for HealthCodec {
    type Encode = String;
    type Decode = u64;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for HealthCodec {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, service: String, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        if !service.is_empty() {
            to.put_u8(1 << 3 | LENGTH);
            put_varint(to, service.len() as u64);
            to.put_slice(service.as_bytes());
        }
        Ok(())
    }
}

impl Decoder for HealthCodec {
    type Item = u64;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<u64>, Status> {
        status(from).map(Some).ok_or_else(|| Status::internal("not a HealthCheckResponse"))
    }
}

/// How a field is written (Protocol Buffers, "Message structure").
const VARINT: u8 = 0;
const EIGHT_BYTES: u8 = 1;
const LENGTH: u8 = 2;
const FOUR_BYTES: u8 = 5;

/// The status in a message. None if it is none.
fn status(from: &mut impl Buf) -> Option<u64> {
    let mut status = 0;
    while from.has_remaining() {
        let tag = varint(from)?;
        let skipped = match (tag >> 3, (tag & 7) as u8) {
            (1, VARINT) => {
                status = varint(from)?;
                0
            }
            (_, VARINT) => {
                varint(from)?;
                0
            }
            (_, EIGHT_BYTES) => 8,
            (_, LENGTH) => usize::try_from(varint(from)?).ok()?,
            (_, FOUR_BYTES) => 4,
            _ => return None,
        };
        if skipped > from.remaining() {
            return None;
        }
        from.advance(skipped);
    }
    Some(status)
}

fn varint(from: &mut impl Buf) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = from.has_remaining().then(|| from.get_u8())?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn put_varint(to: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        to.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    to.put_u8(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_among_fields_that_are_not_known_and_garbage_is_none() {
        for (bytes, expected) in [
            (&b""[..], Some(0)),
            (b"\x08\x01", Some(1)),
            (b"\x12\x02ab\x08\x02", Some(2)),
            (b"\x10\xff\x01\x19abcdefgh\x25abcd\x08\x03", Some(3)),
            (b"\x08", None),
            (b"\x12\x03ab", None),
            (b"\x0b", None),
            (&[0xff; 11], None),
        ] {
            assert_eq!(status(&mut &*bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn varints_are_read_as_they_are_written() {
        for value in [0, 1, 127, 128, 300, u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            assert_eq!(varint(&mut &bytes[..]), Some(value));
        }
    }

    #[test]
    fn pauses_double_to_their_limit() {
        assert_eq!(pause(0), Duration::ZERO);
        for (failed, seconds) in [(1, 1.0), (3, 4.0), (6, 30.0), (u32::MAX, 30.0)] {
            let pause = pause(failed).as_secs_f64();
            assert!((0.79 * seconds..=1.21 * seconds).contains(&pause), "{failed}: {pause}");
        }
    }
}
