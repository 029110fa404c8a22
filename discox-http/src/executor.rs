//! The tasks of one connection, which end with it.

use std::future::Future;

use hyper::rt::Executor;
use tokio::sync::watch;

/// Ends the tasks of a connection when it is dropped, or told to.
#[derive(Debug, Default)]
pub(crate) struct Alive(watch::Sender<()>);

impl Alive {
    pub(crate) fn tasks(&self) -> Tasks {
        Tasks(self.0.subscribe())
    }

    /// Ends them now.
    pub(crate) fn end(&self) {
        self.0.send_replace(());
    }
}

/// Runs tasks as long as their connection is alive.
#[derive(Clone, Debug)]
pub(crate) struct Tasks(watch::Receiver<()>);

impl Tasks {
    /// Resolves when the connection is to end.
    pub(crate) async fn ended(mut self) {
        // An error says that it was dropped.
        let _ = self.0.changed().await;
    }
}

impl<F> Executor<F> for Tasks
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, task: F) {
        let ended = self.clone().ended();
        tokio::spawn(async move {
            tokio::select! {
                _ = task => {}
                () = ended => {}
            }
        });
    }
}
