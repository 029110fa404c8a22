//! Which watch of a stream is which to the server, and what the server is to be sent.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use discox_core::Error;
use etcd_client::WatchResponse;

use super::{feed::Feed, watches::Range};

/// The watches of one stream. We number them from 1 on.
pub(crate) struct Table {
    /// Those that are read.
    feeds: HashMap<i64, Arc<Feed>>,
    /// The server's ids of watches, and our numbers.
    numbers: HashMap<i64, i64>,
    /// To be asked for, or to be cancelled.
    requests: VecDeque<Request>,
    /// Asked for and not yet answered.
    asked: VecDeque<i64>,
    /// Whether the server uses our numbers as its ids. If it does not, as etcd's own proxy, one watch is asked for
    /// at a time, so that it is clear which one is answered.
    our_ids: bool,
    last: i64,
    ended: Option<Error>,
}

/// What a server is sent.
pub(crate) enum Request {
    /// A new watch, with the id that it should have.
    Create(i64, Range),
    /// The end of the watch with this id.
    Cancel(i64),
}

/// The answer to a request for a watch.
pub(crate) struct Created {
    pub(crate) revision: i64,
    pub(crate) refused: Option<Error>,
}

impl Table {
    /// The first watch, whose number is [`Table::FIRST`], has been asked for by opening the stream.
    pub(crate) fn begun() -> Self {
        Self {
            feeds: HashMap::new(),
            numbers: HashMap::new(),
            requests: VecDeque::new(),
            asked: VecDeque::from([Self::FIRST]),
            our_ids: false,
            last: Self::FIRST,
            ended: None,
        }
    }

    /// No number that a server would give by itself to its first watch.
    pub(crate) const FIRST: i64 = 7;

    pub(crate) fn ended(&self) -> Option<&Error> {
        self.ended.as_ref()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.feeds.is_empty()
    }

    /// A watch is wanted.
    pub(crate) fn create(&mut self, range: Range, feed: Arc<Feed>) -> i64 {
        self.last += 1;
        if let Some(error) = &self.ended {
            feed.end(error.clone());
        } else {
            self.feeds.insert(self.last, feed);
            self.requests.push_back(Request::Create(self.last, range));
        }
        self.last
    }

    /// A watch is not wanted any more.
    pub(crate) fn leave(&mut self, number: i64) {
        self.feeds.remove(&number);
        self.requests.retain(|request| !matches!(request, Request::Create(unsent, _) if *unsent == number));
        let is_its_id = |id: &i64| self.numbers.get(id) == Some(&number);
        let id = if is_its_id(&number) {
            Some(number)
        } else {
            self.numbers.keys().copied().find(|id| is_its_id(id))
        };
        if let Some(id) = id {
            self.numbers.remove(&id);
            self.requests.push_back(Request::Cancel(id));
        }
    }

    /// The next thing to send.
    pub(crate) fn next_request(&mut self) -> Option<Request> {
        let waits = !self.our_ids && !self.asked.is_empty();
        let next =
            self.requests.iter().position(|request| !waits || matches!(request, Request::Cancel(_)))?;
        let request = self.requests.remove(next)?;
        if let Request::Create(number, _) = request {
            self.asked.push_back(number);
        }
        Some(request)
    }

    /// The server has answered a request for a watch.
    pub(crate) fn created(&mut self, id: i64, Created { revision, refused }: Created) {
        // Of a watch that is refused the server may not say which one it is. It answers in turn.
        let position = self.asked.iter().position(|number| *number == id);
        self.our_ids |= position.is_some();
        let Some(number) = self.asked.remove(position.unwrap_or(0)) else { return };
        match (self.feeds.get(&number), refused) {
            (Some(feed), None) => {
                self.numbers.insert(id, number);
                feed.create(revision);
            }
            (Some(feed), Some(error)) => feed.end(error),
            // Nobody reads it any more.
            (None, None) => self.requests.push_back(Request::Cancel(id)),
            (None, Some(_)) => {}
        }
    }

    /// The server has ended a watch.
    pub(crate) fn cancelled(&mut self, id: i64, error: Error) {
        if let Some(feed) = self.numbers.remove(&id).and_then(|number| self.feeds.get(&number)) {
            feed.end(error);
        }
    }

    /// A watch has events. Those that were cancelled may still have some.
    pub(crate) fn events(&mut self, id: i64, response: WatchResponse) {
        let Some(number) = self.numbers.get(&id).copied() else { return };
        let keeps_up = self.feeds.get(&number).is_none_or(|feed| feed.push(response));
        if !keeps_up {
            self.leave(number);
        }
    }

    /// The stream works.
    pub(crate) fn confirm(&self) {
        self.feeds.values().for_each(|feed| feed.confirm());
    }

    /// The stream has ended.
    pub(crate) fn end(&mut self, error: &Error) {
        if self.ended.is_none() {
            self.ended = Some(error.clone());
            self.requests.clear();
            self.feeds.drain().for_each(|(_, feed)| feed.end(error.clone()));
        }
    }
}
