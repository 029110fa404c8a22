//! Secrets and certificates are read off the runtime's threads.

use std::{sync::Arc, thread, time::Duration};

use tokio::{
    sync::{Mutex, oneshot},
    time::timeout,
};

use crate::{Error, ErrorKind, Result};

/// Reads files on a thread of their own, for at most so long, one read at a time: a file that hangs (a FIFO that
/// nobody writes to, a network file system) holds one thread, however often it is tried.
///
/// Not by `spawn_blocking`: a runtime waits at its end for all that runs there.
#[derive(Clone, Debug)]
pub struct Files {
    limit: Duration,
    turn: Arc<Mutex<()>>,
}

impl Files {
    /// Each read may take this long.
    pub fn new(limit: Duration) -> Self {
        Self { limit, turn: Arc::default() }
    }

    /// Runs `read`, which may block. `which` names the files, for the error.
    ///
    /// # Errors
    /// What `read` returns; [`Denied`](ErrorKind::Denied) when it takes too long, as for a file that cannot be
    /// read: it may be put right at any time.
    pub async fn read<T: Send + 'static>(
        &self,
        which: &str,
        read: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let unusable = |why: &str| Error::new(ErrorKind::Denied, format!("{which} cannot be used: {why}"));
        let reading = async {
            let turn = self.turn.clone().lock_owned().await;
            let (done, answer) = oneshot::channel();
            let on_its_own = thread::Builder::new().name("discox-files".into());
            let started = on_its_own.spawn(move || {
                // Nobody waits any more when it took too long.
                let _ = done.send(read());
                drop(turn);
            });
            started.map_err(|error| unusable(&format!("no thread to read it: {error}")))?;
            answer.await.unwrap_or_else(|_| Err(unusable("the thread that read it has panicked")))
        };
        let in_time = timeout(self.limit, reading).await;
        in_time.unwrap_or_else(|_| Err(unusable(&format!("not read within {:?}", self.limit))))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn a_file_that_hangs_stops_neither_the_runtime_nor_a_second_thread() {
        let files = Files::new(LIMIT);
        let (write, fifo) = mpsc::channel::<()>();
        // On a runtime of one thread: were it read there, nothing would come of this.
        let stuck = files.read("`password`", move || fifo.recv().map_err(|_| Error::timed_out("", LIMIT)));
        let error = stuck.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.to_string().contains("`password` cannot be used: not read within 50ms"), "{error}");
        let waits = files.read("`password`", || Ok(())).await;
        assert!(waits.is_err(), "read beside one that hangs");
        drop(write);
        while files.read("`password`", || Ok(())).await.is_err() {}
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let panicked: Result<()> = Files::new(Duration::from_secs(5)).read("`ca`", || panic!("oh")).await;
        assert!(panicked.unwrap_err().to_string().contains("panicked"));
    }
}
