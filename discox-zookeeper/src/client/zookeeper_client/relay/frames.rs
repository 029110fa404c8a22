//! The frames of ZooKeeper's protocol (`zookeeper.jute`), as far as a server can do harm by them.

use std::{
    collections::HashMap,
    io,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::{Buf, TryGetError};
use discox_core::backend::lock;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Number, transaction and error of an answer.
const HEADER: usize = 16;

/// The number of what a server tells without being asked.
const EVENT: i32 = -1;

/// The error that stands for an answer that is too long: a server itself says it only of requests that it cannot read,
/// and the crate makes none.
const MARSHALLING: i32 = -5;

/// What can be asked, and what stands in front of each part of a multi-read.
const GET_DATA: i32 = 4;
const GET_CHILDREN: i32 = 8;
const GET_CHILDREN_2: i32 = 12;
const MULTI_READ: i32 = 22;
const ERROR: i32 = -1;

/// What a node's stat takes.
const STAT: usize = 68;

/// The least that a name takes, in a list of names: its length.
const NAME: usize = 4;

/// A frame's capacity that is kept for the next one.
const KEPT: usize = 64 * 1024;

/// Requests that a server may leave unanswered, and events that it may tell while it reads none.
const MOST: usize = 100_000;

/// What was read.
#[derive(Debug, PartialEq)]
pub(super) enum Frame {
    /// The connection has ended, perhaps within a frame.
    End,
    Whole,
    /// Only the header; so many bytes are to come.
    TooLong(u64),
}

/// Reads a frame without its length. Memory is taken as bytes come, not as they are announced. Not cancel-safe.
pub(super) async fn read(
    from: &mut (impl AsyncRead + Unpin),
    frame: &mut Vec<u8>,
    longest: usize,
) -> io::Result<Frame> {
    frame.clear();
    frame.shrink_to(KEPT);
    let length = match from.read_i32().await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Frame::End),
        length => length?,
    };
    let length = usize::try_from(length).map_err(|_| harm("a frame of negative length"))?;
    let wanted = if length > longest { HEADER.min(length) } else { length };
    if from.take(wanted as u64).read_to_end(frame).await? < wanted {
        return Ok(Frame::End);
    }
    Ok(if wanted < length { Frame::TooLong((length - wanted) as u64) } else { Frame::Whole })
}

/// Whether there is a whole frame in what was read beyond the last one.
pub(super) fn is_there(rest: &[u8]) -> bool {
    rest.len() >= 4 && usize::try_from(int(rest, 0)).is_ok_and(|length| rest.len() - 4 >= length)
}

/// What has been asked and not yet been answered.
#[derive(Debug, Default)]
pub(super) struct Asked {
    open: Mutex<HashMap<i32, i32>>,
    /// A request is on its way.
    sending: AtomicBool,
    /// Events that came meanwhile, one after the other.
    events: AtomicUsize,
}

impl Asked {
    /// A request is sent from now on.
    pub(super) fn sends(&self, request: &[u8]) -> io::Result<()> {
        self.sending.store(true, Ordering::Relaxed);
        let (number, operation) = (int(request, 0), int(request, 4));
        // Others are pings and logins, of which there is one at a time.
        if number > 0 {
            let mut open = self.open();
            open.insert(number, operation);
            if open.len() > MOST {
                return Err(harm("too many requests are left unanswered"));
            }
        }
        Ok(())
    }

    /// It is the server's now.
    pub(super) fn sent(&self) {
        self.sending.store(false, Ordering::Relaxed);
    }

    /// Looks at what a server says, and takes down what is answered by it.
    pub(super) fn is_answered(&self, answer: &[u8]) -> io::Result<()> {
        let number = int(answer, 0);
        if number == EVENT {
            return self.hears();
        }
        let operation = self.open().remove(&number);
        let body = answer.get(HEADER..).unwrap_or_default();
        match operation {
            _ if int(answer, 12) != 0 => Ok(()),
            Some(GET_CHILDREN | GET_CHILDREN_2) => names(body),
            Some(MULTI_READ) => nodes(body),
            _ => Ok(()),
        }
    }

    /// What is passed on in the place of an answer that is too long. `header` is its beginning.
    pub(super) fn is_answered_too_long(&self, header: &[u8]) -> io::Result<Vec<u8>> {
        let number = int(header, 0);
        let is_open = self.open().remove(&number).is_some();
        let refusal = [&header[..12.min(header.len())], &MARSHALLING.to_be_bytes()].concat();
        if is_open { Ok(refusal) } else { Err(harm("what nobody has asked for is too long")) }
    }

    /// Of events the crate may owe requests, which pile up where the server does not read.
    fn hears(&self) -> io::Result<()> {
        if !self.sending.load(Ordering::Relaxed) {
            self.events.store(0, Ordering::Relaxed);
        } else if self.events.fetch_add(1, Ordering::Relaxed) > MOST {
            return Err(harm("the server tells much and reads nothing"));
        }
        Ok(())
    }

    fn open(&self) -> MutexGuard<'_, HashMap<i32, i32>> {
        lock(&self.open)
    }
}

/// The crate makes room for as many names as are claimed.
fn names(mut body: &[u8]) -> io::Result<()> {
    let claimed = body.try_get_i32().ok().and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    let is_true = claimed <= body.len() / NAME;
    if is_true { Ok(()) } else { Err(harm("a list claims to have more names than fit in it")) }
}

/// Only nodes are asked for in a multi-read. What ends too early the crate finds out itself.
fn nodes(mut body: &[u8]) -> io::Result<()> {
    let mut next = || -> Result<Option<i32>, TryGetError> {
        let (operation, done, _error) = (body.try_get_i32()?, body.try_get_u8()?, body.try_get_i32()?);
        let length = match operation {
            _ if done != 0 => return Ok(None),
            GET_DATA => STAT + usize::try_from(body.try_get_i32()?).unwrap_or(0),
            ERROR => 4,
            _ => 0,
        };
        body.advance(length.min(body.len()));
        Ok(Some(operation))
    };
    while let Ok(Some(operation)) = next() {
        if !matches!(operation, GET_DATA | ERROR) {
            return Err(harm("a multi-read answers what was not asked"));
        }
    }
    Ok(())
}

/// What a server does that is passed on to nobody.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Harm(&'static str);

fn harm(what: &'static str) -> io::Error {
    io::Error::other(Harm(what))
}

/// The number at this place, 0 where there is none.
fn int(bytes: &[u8], at: usize) -> i32 {
    bytes.get(at..).and_then(|mut bytes| bytes.try_get_i32().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(number: i32, operation: i32) -> Vec<u8> {
        [number.to_be_bytes(), operation.to_be_bytes()].concat()
    }

    fn answer(number: i32, body: &[u8]) -> Vec<u8> {
        [&number.to_be_bytes()[..], &[0; 12], body].concat()
    }

    fn asked(operation: i32) -> Asked {
        let asked = Asked::default();
        asked.sends(&request(7, operation)).unwrap();
        asked
    }

    #[tokio::test]
    async fn frames_are_read_to_their_end_and_not_beyond() {
        let bytes = [&3_i32.to_be_bytes()[..], b"abc", &100_i32.to_be_bytes(), &[1; 100]].concat();
        let (mut from, mut frame) = (&bytes[..], Vec::new());
        assert_eq!(read(&mut from, &mut frame, 20).await.unwrap(), Frame::Whole);
        assert_eq!(frame, b"abc");
        assert_eq!(read(&mut from, &mut frame, 20).await.unwrap(), Frame::TooLong(84));
        assert_eq!((frame.len(), from.len()), (HEADER, 84));
        for ends in [&bytes[..2], &bytes[..6]] {
            assert_eq!(read(&mut &ends[..], &mut frame, 20).await.unwrap(), Frame::End);
        }
        assert!(is_there(&bytes) && is_there(&bytes[..7]) && !is_there(&bytes[..6]) && !is_there(b""));
        assert!(read(&mut &(-1_i32).to_be_bytes()[..], &mut frame, 20).await.is_err());
    }

    #[test]
    fn a_list_has_no_more_names_than_fit_in_it() {
        let list = |count: i32, names: &[u8]| answer(7, &[&count.to_be_bytes()[..], names].concat());
        for operation in [GET_CHILDREN, GET_CHILDREN_2] {
            assert!(asked(operation).is_answered(&list(2, &[0; 8])).is_ok());
            assert!(asked(operation).is_answered(&list(-1, b"")).is_ok());
            assert!(asked(operation).is_answered(&list(3, &[0; 8])).is_err());
            assert!(asked(operation).is_answered(&list(i32::MAX, b"")).is_err());
        }
        assert!(asked(GET_DATA).is_answered(&list(i32::MAX, b"")).is_ok(), "it is a length there");
    }

    #[test]
    fn a_multi_read_is_answered_by_nodes_alone() {
        let part = |operation: i32, body: &[u8]| [&operation.to_be_bytes()[..], &[0; 5], body].concat();
        let node = part(GET_DATA, &[&2_i32.to_be_bytes()[..], b"ab", &[0; STAT]].concat());
        let gone = part(ERROR, &[0; 4]);
        let end = [0xff, 0xff, 0xff, 0xff, 1, 0xff, 0xff, 0xff, 0xff];
        let children = part(GET_CHILDREN, &i32::MAX.to_be_bytes());
        let ends = [&node[..], &gone, &end].concat();
        assert!(asked(MULTI_READ).is_answered(&answer(7, &ends)).is_ok());
        assert!(asked(MULTI_READ).is_answered(&answer(7, &ends[..30])).is_ok());
        for spoilt in [&[&children[..], &end].concat(), &[&node[..], &children].concat()] {
            assert!(asked(MULTI_READ).is_answered(&answer(7, spoilt)).is_err());
        }
    }

    /// Whatever is answered: what is passed on claims no more than there is, and a multi-read begins with a node.
    #[test]
    fn answers() {
        let node = [&GET_DATA.to_be_bytes()[..], &[0; 5], &1_i32.to_be_bytes(), b"a", &[0; STAT]].concat();
        let names =
            [&2_i32.to_be_bytes()[..], &1_i32.to_be_bytes(), b"a", &1_i32.to_be_bytes(), b"b"].concat();
        let examples = [answer(7, &node.repeat(3)), answer(7, &names), answer(EVENT, &names)];
        discox_testkit::fuzz::fuzz(&examples.each_ref().map(Vec::as_slice), |answer| {
            let is_about_7 = int(answer, 0) == 7 && int(answer, 12) == 0 && answer.len() >= HEADER + 9;
            let (first, rest) = (int(answer, HEADER), answer.len().saturating_sub(HEADER + 4));
            if asked(GET_CHILDREN).is_answered(answer).is_ok() && is_about_7 {
                assert!(usize::try_from(first).unwrap_or(0) <= rest / NAME);
            }
            if asked(MULTI_READ).is_answered(answer).is_ok() && is_about_7 && answer[HEADER + 4] == 0 {
                assert!(first == GET_DATA || first == ERROR);
            }
            let _ = Asked::default().is_answered_too_long(answer);
            is_there(answer);
        });
    }

    #[test]
    fn what_is_too_long_is_refused_by_its_number() {
        let asked = asked(GET_DATA);
        let header = answer(7, b"");
        let refusal = asked.is_answered_too_long(&header).unwrap();
        assert_eq!((refusal.len(), int(&refusal, 0), int(&refusal, 12)), (HEADER, 7, MARSHALLING));
        assert!(asked.is_answered_too_long(&header).is_err(), "it has been answered");
    }

    #[test]
    fn what_a_server_owes_is_bounded() {
        let asked = Asked::default();
        let number = |i: usize| i32::try_from(i).unwrap();
        for i in 1..=MOST {
            asked.sends(&request(number(i), GET_DATA)).unwrap();
        }
        assert!(asked.sends(&request(number(MOST + 1), GET_DATA)).is_err());
        let event = answer(EVENT, b"");
        let told = (0..MOST + 2).filter(|_| asked.is_answered(&event).is_ok()).count();
        assert_eq!(told, MOST + 1, "while a request is on its way");
        asked.sent();
        assert!(asked.is_answered(&event).is_ok());
    }
}
