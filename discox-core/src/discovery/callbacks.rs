//! Calls the cacher. A panic of the cacher ends its own discovery, and no call follows it.

use std::{
    any::Any,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tracing::error;

use crate::{EndpointCacher, Error, ErrorKind, Result, record::Service};

thread_local! {
    /// The discovery that is calling back on this thread, if one is.
    static INSIDE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The calls of one discovery to its cacher.
pub(crate) struct Callbacks<'a> {
    cacher: Arc<dyn EndpointCacher>,
    discovery: usize,
    service: &'a Service,
    /// Its state is unknown since then: it is not called again.
    has_panicked: AtomicBool,
}

impl<'a> Callbacks<'a> {
    pub(crate) fn new(cacher: Arc<dyn EndpointCacher>, discovery: usize, service: &'a Service) -> Self {
        Self { cacher, discovery, service, has_panicked: AtomicBool::new(false) }
    }

    /// Calls the cacher.
    ///
    /// # Errors
    /// [`ErrorKind::CacherPanicked`] when it panics, or has panicked before: then it is not called.
    pub(crate) fn call<T>(&self, callback: impl FnOnce(&dyn EndpointCacher) -> T) -> Result<T> {
        if self.has_panicked.load(Ordering::Relaxed) {
            return Err(panicked());
        }
        let outer = INSIDE.replace(Some(self.discovery));
        let outcome = catch_unwind(AssertUnwindSafe(|| callback(&*self.cacher)));
        INSIDE.set(outer);
        outcome.map_err(|panic| {
            self.has_panicked.store(true, Ordering::Relaxed);
            error!(
                service = %self.service,
                panic = message(&*panic),
                "the cacher panicked: its discovery ends, and what it shows does not change any more"
            );
            panicked()
        })
    }
}

fn panicked() -> Error {
    Error::new(ErrorKind::CacherPanicked, "the cacher panicked; its discovery has ended")
}

/// What a panic said.
pub(crate) fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or(panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// Whether this thread runs a callback of this discovery.
pub(crate) fn inside(discovery: usize) -> bool {
    INSIDE.get() == Some(discovery)
}
