//! A connection's bytes, for two things that the HTTP/2 library keeps to itself: when the connection has ended, and
//! how many streams the server allows.

use std::{
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use discox_core::{Error, ErrorKind};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
};

/// The head of an HTTP/2 frame, and one setting (RFC 9113, sections 4.1 and 6.5.1).
const HEAD: usize = 9;
const SETTING: usize = 6;
const SETTINGS_FRAME: u8 = 4;
const MAX_CONCURRENT_STREAMS: u16 = 3;

/// The longest first frame that is looked at: many times the settings that there are.
const LONGEST_FRAME: usize = 64 * SETTING;

/// What the bytes have told.
#[derive(Debug, Default)]
pub(crate) struct WireNews {
    ended: watch::Sender<Option<String>>,
    most_streams: OnceLock<Option<u32>>,
}

impl WireNews {
    /// Resolves when the connection has ended: closed, reset, or given up by the HTTP/2 library. Cancel-safe.
    pub(crate) async fn ended(&self) -> Error {
        let mut ended = self.ended.subscribe();
        let reason = ended.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        Error::new(ErrorKind::Unavailable, reason.unwrap_or_default())
    }

    /// How many streams the server allows at once; none is no limit, or not told yet.
    pub(crate) fn most_streams(&self) -> Option<u32> {
        self.most_streams.get().copied().flatten()
    }

    fn end(&self, reason: &str) {
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert_with(|| reason.to_owned());
            first
        });
    }
}

/// TCP, or TLS over it.
pub(crate) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Bytes for S {}

/// A stream of bytes that is listened to.
pub(crate) struct Wire<S> {
    stream: S,
    news: Arc<WireNews>,
    first_frame: Option<Vec<u8>>,
}

impl<S> Wire<S> {
    pub(crate) fn new(stream: S, news: Arc<WireNews>) -> Self {
        Self { stream, news, first_frame: Some(Vec::new()) }
    }

    /// A server begins with its settings (RFC 9113, section 3.4).
    fn listen(&mut self, bytes: &[u8]) {
        let Some(mut frame) = self.first_frame.take() else { return };
        frame.extend(bytes.iter().take(HEAD + LONGEST_FRAME - frame.len().min(HEAD + LONGEST_FRAME)));
        match most_streams(&frame) {
            Some(most) => drop(self.news.most_streams.set(most)),
            None if frame.len() < HEAD + LONGEST_FRAME => self.first_frame = Some(frame),
            None => {}
        }
    }
}

impl<S> Drop for Wire<S> {
    fn drop(&mut self) {
        self.news.end("the connection was given up");
    }
}

/// The limit in a frame of settings, if it is whole and has one.
fn most_streams(frame: &[u8]) -> Option<Option<u32>> {
    let [a, b, c, kind, ..] = *frame else { return None };
    if kind != SETTINGS_FRAME {
        return Some(None);
    }
    let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?;
    let settings = frame.get(HEAD..HEAD + length)?;
    let limit = settings.chunks_exact(SETTING).find_map(|setting| match setting {
        [a, b, value @ ..] if u16::from_be_bytes([*a, *b]) == MAX_CONCURRENT_STREAMS => {
            Some(u32::from_be_bytes(*value.first_chunk()?))
        }
        _ => None,
    });
    Some(limit)
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        match &read {
            Ok(()) if buffer.filled().len() == before && buffer.remaining() > 0 => {
                self.news.end("the server has closed the connection");
            }
            Ok(()) => self.listen(buffer.filled().get(before..).unwrap_or_default()),
            Err(error) => self.news.end(&error.to_string()),
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[test]
    fn whatever_a_server_begins_with_is_read_without_harm() {
        let limit = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 16];
        let other = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 5, 0, 0, 64, 0];
        assert_eq!(most_streams(&limit), Some(Some(16)));
        assert_eq!(most_streams(&other), Some(None));
        assert_eq!(most_streams(&limit[..14]), None);
        assert_eq!(most_streams(b"HTTP/1.1 400"), Some(None));
        discox_testkit::fuzz::fuzz(&[&limit[..], &other], |frame| {
            let _ = most_streams(frame);
        });
    }

    #[tokio::test]
    async fn the_limit_is_heard_in_pieces_and_the_end_at_once() {
        let (near, mut far) = duplex(64);
        let news = Arc::new(WireNews::default());
        let mut wire = Wire::new(near, news.clone());
        for byte in [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 16, 1, 2, 3] {
            far.write_u8(byte).await.unwrap();
            assert_eq!(wire.read_u8().await.unwrap(), byte);
        }
        assert_eq!(news.most_streams(), Some(16));
        drop(far);
        assert!(wire.read_u8().await.is_err());
        assert!(news.ended().await.to_string().contains("closed the connection"));
    }
}
