//! What `zookeeper-async` tells only in its log: which session it has and what was granted. The same
//! line shows the session's password, so the log of its threads is kept from everybody else.

use std::{fmt, time::Duration};

use tokio::sync::watch;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::{LevelFilter, STATIC_MAX_LEVEL},
    span,
};

use crate::client::Session;

/// Whether the lines are compiled in: tracing's feature `release_max_level_warn`, say, takes them out.
pub(super) fn is_compiled_in() -> bool {
    STATIC_MAX_LEVEL >= LevelFilter::INFO
}

/// Listens to one client.
pub(super) struct Told(pub(super) watch::Sender<Option<Session>>);

impl Subscriber for Told {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::INFO && metadata.target() == "zookeeper_async::io"
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Line(&self.0));
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// One line of the log.
struct Line<'a>(&'a watch::Sender<Option<Session>>);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message"
            && let Some(session) = parse(&format!("{value:?}"))
        {
            self.0.send_replace(Some(session));
        }
    }
}

/// `Connected: ConnectResponse { protocol_version: 0, timeout: 6000, session_id: 7205, … }`
fn parse(line: &str) -> Option<Session> {
    let granted = line.strip_prefix("Connected: ")?;
    let number = |name: &str| {
        let (_, rest) = granted.split_once(name)?;
        rest.split([',', ' ']).next()?.parse().ok()
    };
    let timeout = u64::try_from(number(" timeout: ")?).ok()?;
    Some(Session { id: number(" session_id: ")?, timeout: Duration::from_millis(timeout) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_is_read_from_the_line_that_tells_it() {
        let line = "Connected: ConnectResponse { protocol_version: 0, timeout: 6000, \
                    session_id: -72057594, passwd: [1, 2], read_only: false }";
        let session = parse(line).unwrap();
        assert_eq!((session.id, session.timeout), (-72_057_594, Duration::from_secs(6)));
        assert!(parse("Connecting to new server 127.0.0.1:2181").is_none());
        assert!(parse("Connected: something else").is_none());
    }
}
