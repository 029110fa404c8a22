//! One side of a comparison: a thread of its own with a runtime of its own, so that what it works can be
//! told from what others work.

use std::{
    future::Future,
    pin::Pin,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::sync::{mpsc, oneshot};

use crate::clock::thread_cpu;

/// What a lane is given to do.
type Job = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// A thread with a runtime. It ends, and everything that was spawned on it, when the lane is dropped.
pub struct Lane {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What something took.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// On the clock on the wall.
    pub wall: Duration,
    /// Of the lane's CPU.
    pub cpu: Duration,
}

impl Lane {
    /// A new lane.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn new(name: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (jobs, mut todo) = mpsc::channel::<Job>(1);
        let work = move || {
            runtime.block_on(async {
                while let Some(job) = todo.recv().await {
                    job().await;
                }
            });
        };
        let thread = thread::Builder::new().name(name.into()).spawn(work)?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Runs this on the lane. What it spawns goes on afterwards.
    ///
    /// # Errors
    /// Its own, or it panicked.
    pub async fn run<T, F>(&self, work: impl FnOnce() -> F + Send + 'static) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move || {
            Box::pin(async move {
                // Nobody waits for it any more: that is no matter of ours.
                let _ = answer.send(work().await);
            })
        });
        let jobs = self.jobs.as_ref().context("the lane has ended")?;
        jobs.send(job).await.ok().context("the lane has ended")?;
        answered.await.context("the lane panicked")?
    }

    /// Runs this on the lane and says what it took, with whatever else goes on on the lane meanwhile.
    ///
    /// # Errors
    /// As [`Lane::run`].
    pub async fn timed<T, F>(&self, work: impl FnOnce() -> F + Send + 'static) -> Result<(T, Taken)>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + 'static,
    {
        self.run(|| async move {
            let (began, cpu) = (Instant::now(), thread_cpu());
            let outcome = work().await?;
            Ok((outcome, Taken { wall: began.elapsed(), cpu: thread_cpu().saturating_sub(cpu) }))
        })
        .await
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // Its panic has been told to whoever gave it the job.
            let _ = thread.join();
        }
    }
}
