//! What the library logs goes to standard error, as `RUST_LOG` wishes. By default only its warnings; what the
//! registries' clients say of the same losses is left out.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

const WARNINGS: &str = "discox=warn";

/// Without the connection's warnings: a command that fails or watches tells them by itself.
const QUIET: &str = "discox=warn,discox_core::connection=off,discox_core::discovery=off";

/// Begins to log. The returned function is for a command that has nothing more to say by itself: from
/// then on losses of the registry are logged too.
pub(crate) fn begin() -> impl FnOnce() {
    let chosen = EnvFilter::try_from_default_env().ok();
    let is_default = chosen.is_none();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(chosen.unwrap_or_else(|| EnvFilter::new(QUIET)))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_filter_reloading();
    let filter = subscriber.reload_handle();
    subscriber.init();
    move || {
        if is_default {
            // It fails only when nothing logs any more.
            let _ = filter.reload(EnvFilter::new(WARNINGS));
        }
    }
}
