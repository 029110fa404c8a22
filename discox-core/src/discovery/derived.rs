//! Tables that are made of each new list by the task that watches.

use std::{
    fmt,
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, Weak},
};

use arc_swap::{ArcSwap, Guard};
use tracing::warn;

use super::callbacks::message;
use crate::{EndpointCacher, Error, Event, LiteEndpoint, Result, Snapshot, Update, lock::lock};

/// A table of the user's own, made by [`Watching::derive`](crate::Watching::derive). Cheap to clone.
pub struct Derived<T>(Arc<Table<T>>);

struct Table<T> {
    current: ArcSwap<T>,
    make: Box<dyn Fn(&Snapshot) -> T + Send + Sync>,
    /// The list that the table was made of; locked while it is made, so that the newest list comes last.
    made_of: Mutex<Arc<Snapshot>>,
}

impl<T> Derived<T> {
    /// The table of this moment. Takes no lock, and never waits. Keep it for a short time only.
    pub fn load(&self) -> Loaded<T> {
        Loaded(self.0.current.load())
    }

    /// The table of this moment, to keep.
    pub fn load_full(&self) -> Arc<T> {
        self.0.current.load_full()
    }
}

impl<T> Clone for Derived<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: fmt::Debug> fmt::Debug for Derived<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Derived").field(&*self.load()).finish()
    }
}

/// A table that [`Derived::load`] has borrowed.
pub struct Loaded<T>(Guard<Arc<T>>);

impl<T> Deref for Loaded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: fmt::Debug> fmt::Debug for Loaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A table of whatever type.
trait Rebuild: Send + Sync {
    /// Makes it of the newest list, unless it is.
    fn rebuild(&self, endpoints: &LiteEndpoint);
}

impl<T: Send + Sync> Rebuild for Table<T> {
    fn rebuild(&self, endpoints: &LiteEndpoint) {
        let mut made_of = lock(&self.made_of);
        let newest = endpoints.snapshot();
        if !Arc::ptr_eq(&made_of, &newest) {
            self.current.store(Arc::new((self.make)(&newest)));
            *made_of = newest;
        }
    }
}

/// The cacher behind a [`Watching`](crate::Watching): a cache, and the tables that follow it.
#[derive(Default)]
pub(crate) struct Feeder {
    pub(crate) endpoints: Arc<LiteEndpoint>,
    tables: Mutex<Vec<Weak<dyn Rebuild>>>,
}

impl Feeder {
    pub(crate) fn derive<T: Send + Sync + 'static>(
        &self,
        make: impl Fn(&Snapshot) -> T + Send + Sync + 'static,
    ) -> Derived<T> {
        let snapshot = self.endpoints.snapshot();
        let current = ArcSwap::from_pointee(make(&snapshot));
        let table = Arc::new(Table { current, make: Box::new(make), made_of: Mutex::new(snapshot) });
        let weak: Weak<Table<T>> = Arc::downgrade(&table);
        {
            let mut tables = lock(&self.tables);
            tables.retain(|table| table.strong_count() > 0);
            tables.push(weak);
        }
        // The list may have changed in between.
        table.rebuild(&self.endpoints);
        Derived(table)
    }

    fn rebuild(&self) {
        let tables: Vec<_> = lock(&self.tables).iter().filter_map(Weak::upgrade).collect();
        for table in tables {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| table.rebuild(&self.endpoints))) {
                warn!(panic = message(&*panic), "a derived table panicked: the last one stays");
            }
        }
    }
}

impl EndpointCacher for Feeder {
    fn begin(&self) -> Result<Arc<Snapshot>> {
        self.endpoints.begin()
    }

    fn add_or_update(&self, _: &str, _: &[u8]) {}

    fn delete(&self, _: &str) {}

    fn add_error(&self, error: &Error) {
        self.endpoints.add_error(error);
    }

    fn advance(&self, from: &Arc<Snapshot>, to: &Arc<Snapshot>, batch: &[Update]) {
        self.endpoints.advance(from, to, batch);
        self.rebuild();
    }

    fn on_event(&self, event: &Event) {
        self.endpoints.on_event(event);
    }
}
