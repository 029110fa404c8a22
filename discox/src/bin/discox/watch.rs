//! `discox watch`: prints every change of a service as it happens.

use std::{
    collections::HashSet,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use discox::{Discover, DiscoverConfig, EndpointCacher, Error, Event, History, Update};
use tokio::{sync::watch, time::timeout};

use crate::{
    failure::Failure,
    output::{Format, Line, print_lines},
    signals::Signals,
    why,
};

/// Runs until a signal comes, nobody reads any more, or discovery ends by an error.
pub(crate) async fn run(config: DiscoverConfig, output: Format, why: bool) -> Result<u8, Failure> {
    follow(discox::new_discover(config)?, Subject::Endpoints, output, why).await
}

/// Prints what a discovery tells, and where `why` is set its history.
pub(crate) async fn follow(
    discover: Arc<dyn Discover>,
    subject: Subject,
    output: Format,
    why: bool,
) -> Result<u8, Failure> {
    /// A callback may hang in a write to a full pipe.
    const STOPPING: Duration = Duration::from_secs(1);

    let mut signals = Signals::catch()?;
    let printer = Arc::new(Printer::new(subject, output));
    let mut unwritten = printer.unwritten.subscribe();
    let watching = tokio::spawn({
        let (discover, printer) = (discover.clone(), printer.clone());
        async move { discover.start(printer).await }
    });
    let history = if why { discover.history() } else { History::default() };
    let outcome = tokio::select! {
        error = why::print(&history, output) => Err(Failure::output(error.kind())),
        ended = watching => ended.map_err(io::Error::other)?.map_err(Failure::from),
        _ = signals.next() => Ok(()),
        Ok(why) = unwritten.wait_for(Option::is_some) => Err(Failure::output((*why).unwrap_or(io::ErrorKind::Other))),
    };
    let _ = timeout(STOPPING, discover.stop()).await;
    outcome.map(|()| 0)
}

/// What a discovery tells of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject {
    /// Endpoints of a service.
    Endpoints,
    /// Names of services.
    Services,
}

/// Prints what discovery tells.
struct Printer {
    subject: Subject,
    output: Format,
    told: Mutex<Told>,
    /// Why nothing can be printed any more.
    unwritten: watch::Sender<Option<io::ErrorKind>>,
}

/// What has been told so far.
#[derive(Default)]
struct Told {
    endpoints: HashSet<Arc<str>>,
    synced: bool,
    away: bool,
}

impl Printer {
    fn new(subject: Subject, output: Format) -> Self {
        Self { subject, output, told: Mutex::default(), unwritten: watch::Sender::new(None) }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of the whole.
    fn event<'a>(&self, event: &'static str, message: Option<String>) -> Line<'a> {
        match self.subject {
            Subject::Endpoints => Line::event(event, message),
            Subject::Services => Line::event(event, message).service(None),
        }
    }

    fn print(&self, lines: &[Line<'_>]) {
        if self.unwritten.borrow().is_some() {
            return;
        }
        if let Err(error) = print_lines(lines, self.output) {
            self.unwritten.send_replace(Some(error.kind()));
        }
    }
}

impl Told {
    fn line<'a>(&mut self, subject: Subject, update: &'a Update) -> Option<Line<'a>> {
        let (event, endpoint, attr) = match update {
            Update::Put(endpoint, attr) => {
                let event = if self.endpoints.insert(endpoint.clone()) { "add" } else { "update" };
                (event, endpoint, Some(&attr[..]))
            }
            Update::Delete(endpoint) => {
                self.endpoints.remove(endpoint);
                ("delete", endpoint, None)
            }
            _ => return None,
        };
        Some(match subject {
            Subject::Endpoints => Line::event(event, None).endpoint(endpoint, attr),
            Subject::Services => Line::event(event, None).service(Some(endpoint)),
        })
    }
}

impl EndpointCacher for Printer {
    fn add_or_update(&self, endpoint: &str, attribute: &[u8]) {
        self.apply(&[Update::Put(endpoint.into(), attribute.to_vec().into())]);
    }

    fn delete(&self, endpoint: &str) {
        self.apply(&[Update::Delete(endpoint.into())]);
    }

    /// Told when an outage begins, where `lost` says it all, and when the registry begins to refuse us
    /// in the middle of one.
    fn add_error(&self, error: &Error) {
        let Told { synced, away, .. } = *self.told();
        if (away || !synced) && error.kind().is_retryable() {
            let message =
                if synced { error.to_string() } else { format!("{error}; waiting for the registry") };
            self.print(&[self.event("error", Some(message))]);
        }
    }

    fn apply(&self, batch: &[Update]) {
        let lines: Vec<_> = {
            let mut told = self.told();
            batch.iter().filter_map(|update| told.line(self.subject, update)).collect()
        };
        self.print(&lines);
    }

    fn on_event(&self, event: &Event) {
        let line = match event {
            Event::Synced => self.event("synced", None),
            Event::Recovered => self.event("recovered", None),
            // There is nothing to lose before the first list.
            Event::Lost(error) if self.told().synced => self.event("lost", Some(error.to_string())),
            _ => return,
        };
        {
            let mut told = self.told();
            told.synced = true;
            told.away = matches!(event, Event::Lost(_));
        }
        self.print(&[line]);
    }
}
