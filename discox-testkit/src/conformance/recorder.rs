//! A cacher that writes down every callback, and lets a test wait for what it wants to see.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Result, bail};
use bytes::Bytes;
use discox_core::{EndpointCacher, Error, Event};
use serde_json::Value;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

/// Whether this is what was registered. In the layouts of some systems a record also says what the endpoint speaks, which
/// discovery adds to the attr.
pub(super) fn says(shown: &[u8], attr: &str) -> bool {
    let object = |text: &[u8]| serde_json::from_slice::<serde_json::Map<String, Value>>(text).ok();
    let without_scheme = |mut shown: serde_json::Map<String, Value>| shown.remove("scheme").map(|_| shown);
    shown == attr.as_bytes()
        || object(shown).and_then(without_scheme).is_some_and(|shown| object(attr.as_bytes()) == Some(shown))
}

/// One callback.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When.
    pub at: Instant,
    /// What.
    pub what: What,
}

/// What a callback told. [`Event::Confirmed`] is left out: it says that nothing happened.
#[derive(Clone, Debug)]
pub enum What {
    /// `add_or_update`.
    Put(String, Bytes),
    /// `delete`.
    Delete(String),
    /// `add_error`.
    Error(Error),
    /// [`Event::Synced`].
    Synced,
    /// [`Event::Lost`].
    Lost(Error),
    /// [`Event::Recovered`].
    Recovered,
    /// [`Event::Ended`].
    Ended,
}

impl What {
    /// Whether it adds, changes or removes this endpoint.
    pub fn is_about(&self, endpoint: &str) -> bool {
        matches!(self, Self::Put(about, _) | Self::Delete(about) if about == endpoint)
    }

    /// Whether it removes any endpoint.
    pub fn is_delete(&self) -> bool {
        matches!(self, Self::Delete(_))
    }
}

/// Writes down every callback, with its time.
pub struct Recorder {
    log: Mutex<Vec<Seen>>,
    length: watch::Sender<usize>,
    hook: Option<Hook>,
}

type Hook = Box<dyn Fn(&What) + Send + Sync>;

impl Default for Recorder {
    fn default() -> Self {
        Self { log: Mutex::default(), length: watch::Sender::new(0), hook: None }
    }
}

impl Recorder {
    /// One that also calls `hook` inside each callback, after it was written down.
    pub fn with_hook(hook: impl Fn(&What) + Send + Sync + 'static) -> Self {
        Self { hook: Some(Box::new(hook)), ..Self::default() }
    }

    /// Everything so far.
    pub fn log(&self) -> Vec<Seen> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How much there is so far, for [`Recorder::since`].
    pub fn mark(&self) -> usize {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// What came after a mark.
    pub fn since(&self, mark: usize) -> Vec<What> {
        self.log().into_iter().skip(mark).map(|seen| seen.what).collect()
    }

    /// The endpoints, as a cache would have them.
    pub fn endpoints(&self) -> BTreeMap<String, Bytes> {
        let mut endpoints = BTreeMap::new();
        for seen in self.log() {
            match seen.what {
                What::Put(endpoint, attr) => drop(endpoints.insert(endpoint, attr)),
                What::Delete(endpoint) => drop(endpoints.remove(&endpoint)),
                _ => {}
            }
        }
        endpoints
    }

    /// The fewest endpoints that a reader saw since the first was there.
    pub fn fewest(&self) -> usize {
        let (mut now, mut fewest) = (std::collections::BTreeSet::new(), usize::MAX);
        for seen in self.log() {
            match seen.what {
                What::Put(endpoint, _) => drop(now.insert(endpoint)),
                What::Delete(endpoint) => drop(now.remove(&endpoint)),
                _ => continue,
            }
            fewest = fewest.min(now.len());
        }
        fewest
    }

    /// Waits until something that came after `mark` is `wanted`, and returns when it came.
    ///
    /// # Errors
    /// It did not come in time; with everything that did.
    pub async fn wait_for(
        &self,
        mark: usize,
        what: &str,
        within: Duration,
        wanted: impl Fn(&What) -> bool,
    ) -> Result<Instant> {
        let mut length = self.length.subscribe();
        let found = async {
            loop {
                length.borrow_and_update();
                if let Some(seen) = self.log().into_iter().skip(mark).find(|seen| wanted(&seen.what)) {
                    return seen.at;
                }
                // The sender lives as long as self, so that this cannot fail.
                let _ = length.changed().await;
            }
        };
        match timeout(within, found).await {
            Ok(at) => Ok(at),
            Err(_) => bail!("{what} was not seen within {within:?}; seen:{self:?}"),
        }
    }

    /// Waits until the endpoint is shown with this attr.
    ///
    /// # Errors
    /// It was not in time.
    pub async fn shows(&self, endpoint: &str, attr: &str, within: Duration) -> Result<()> {
        self.agrees(&format!("{endpoint} with {}", shorten(attr)), within, |endpoints| {
            endpoints.get(endpoint).is_some_and(|shown| says(shown, attr))
        })
        .await
    }

    /// Waits until the endpoint is not shown any more.
    ///
    /// # Errors
    /// It was still there.
    pub async fn misses(&self, endpoint: &str, within: Duration) -> Result<()> {
        self.agrees(&format!("the end of {endpoint}"), within, |endpoints| !endpoints.contains_key(endpoint))
            .await
    }

    /// Waits until exactly these endpoints are shown.
    ///
    /// # Errors
    /// They were not in time.
    pub async fn lists(&self, wanted: &[&str], within: Duration) -> Result<()> {
        self.agrees(&format!("the list {wanted:?}"), within, |endpoints| {
            endpoints.len() == wanted.len() && wanted.iter().all(|endpoint| endpoints.contains_key(*endpoint))
        })
        .await
    }

    /// Watches for a while that nothing comes after `mark` that is `unwanted`.
    ///
    /// # Errors
    /// It came.
    pub async fn stays_free_of(
        &self,
        mark: usize,
        what: &str,
        during: Duration,
        unwanted: impl Fn(&What) -> bool,
    ) -> Result<()> {
        match self.wait_for(mark, what, during, unwanted).await {
            Ok(_) => bail!("{what} was seen and must not be; seen:{self:?}"),
            Err(_) => Ok(()),
        }
    }

    async fn agrees(
        &self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&BTreeMap<String, Bytes>) -> bool,
    ) -> Result<()> {
        let mut length = self.length.subscribe();
        let agreed = length.wait_for(|_| wanted(&self.endpoints()));
        let agreed = timeout(within, agreed).await.is_ok();
        if agreed { Ok(()) } else { bail!("{what} was not seen within {within:?}; seen:{self:?}") }
    }

    fn record(&self, what: What) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push(Seen { at: Instant::now(), what: what.clone() });
        let length = log.len();
        drop(log);
        self.length.send_replace(length);
        if let Some(hook) = &self.hook {
            hook(&what);
        }
    }
}

impl EndpointCacher for Recorder {
    fn add_or_update(&self, endpoint: &str, attribute: &[u8]) {
        self.record(What::Put(endpoint.to_owned(), Bytes::copy_from_slice(attribute)));
    }

    fn delete(&self, endpoint: &str) {
        self.record(What::Delete(endpoint.to_owned()));
    }

    fn add_error(&self, error: &Error) {
        self.record(What::Error(error.clone()));
    }

    fn on_event(&self, event: &Event) {
        match event {
            Event::Synced => self.record(What::Synced),
            Event::Lost(error) => self.record(What::Lost(error.clone())),
            Event::Recovered => self.record(What::Recovered),
            Event::Ended => self.record(What::Ended),
            _ => {}
        }
    }
}

impl fmt::Debug for Recorder {
    /// One line a callback, with the time since the first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let log = self.log();
        let Some(first) = log.first().map(|seen| seen.at) else { return f.write_str(" nothing") };
        for seen in log {
            write!(f, "\n  {:8.3} s  ", (seen.at - first).as_secs_f64())?;
            match seen.what {
                What::Put(endpoint, attr) => {
                    write!(f, "put {endpoint} {}", shorten(&String::from_utf8_lossy(&attr)))?
                }
                what => write!(f, "{what:?}")?,
            }
        }
        write!(f, "\n  {:8.3} s  now", first.elapsed().as_secs_f64())
    }
}

fn shorten(attr: &str) -> String {
    const LONGEST: usize = 60;
    match attr.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}… ({} bytes)", &attr[..end], attr.len()),
        None => format!("{attr:?}"),
    }
}
