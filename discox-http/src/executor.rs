//! The tasks of connections, which end with them.

use std::sync::{Arc, OnceLock};

use hyper::rt::Executor;
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinHandle},
};

/// Runs what one HTTP/2 connection needs. The first task is the connection itself: hyper begins it with the handshake.
/// The others are its requests, and end with it by themselves; looking after each of them would cost each request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Http2Tasks(Arc<OnceLock<AbortHandle>>);

impl<F> Executor<F> for Http2Tasks
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, task: F) {
        let running = tokio::spawn(task);
        self.0.get_or_init(|| running.abort_handle());
    }
}

/// An HTTP/2 connection's tasks, which are ended when it is dropped, or told to.
#[derive(Debug)]
pub(crate) struct Running {
    connection: Http2Tasks,
    /// Hands requests to the connection.
    requests: AbortHandle,
}

impl Running {
    pub(crate) fn new(connection: Http2Tasks, requests: &JoinHandle<()>) -> Self {
        Self { connection, requests: requests.abort_handle() }
    }

    pub(crate) fn end(&self) {
        self.requests.abort();
        if let Some(connection) = self.connection.0.get() {
            connection.abort();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Ends the tasks of HTTP/1.1 connections when it is dropped, or told to.
#[derive(Debug, Default)]
pub(crate) struct Alive(watch::Sender<()>);

impl Alive {
    /// Runs a connection.
    pub(crate) fn spawn(&self, connection: impl Future<Output: Send> + Send + 'static) {
        let mut ended = self.0.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                _ = connection => {}
                // An error says that it was dropped.
                _ = ended.changed() => {}
            }
        });
    }

    /// Ends them now.
    pub(crate) fn end(&self) {
        self.0.send_replace(());
    }
}
