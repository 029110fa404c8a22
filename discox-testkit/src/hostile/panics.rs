//! Panics of tasks, which their runtime would catch and nobody would see.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use anyhow::{Result, ensure};

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// From now on panics are counted, wherever they are caught.
pub(super) fn count() {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Relaxed);
        told(panic);
    }));
}

/// How many there were.
pub(super) fn so_far() -> usize {
    PANICS.load(Relaxed)
}

/// That there have been no more since then.
pub(super) fn none_since(before: usize) -> Result<()> {
    let panics = so_far() - before;
    ensure!(panics == 0, "{panics} panics, see above");
    Ok(())
}
