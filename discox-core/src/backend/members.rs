//! The members of a cluster, and how one of them is chosen.

use std::{
    future::Future,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{sleep, timeout};

use crate::{Error, ErrorKind, Result};

/// A silent member costs this long before the next one is tried beside it (RFC 8305 "happy
/// eyeballs" recommends 250 ms).
const STAGGER: Duration = Duration::from_millis(250);

/// The members of a cluster. Connecting starts at a random one first, so that clients spread, and ever
/// after at the one behind the last that answered, so that a member that was just lost is tried last.
#[derive(Debug)]
pub struct Members<M> {
    all: Vec<M>,
    next: AtomicUsize,
}

impl<M> Members<M> {
    /// The members, in any order.
    pub fn new(all: Vec<M>) -> Self {
        let next = AtomicUsize::new(fastrand::usize(..all.len().max(1)));
        Self { all, next }
    }

    /// All members.
    pub fn all(&self) -> &[M] {
        &self.all
    }

    /// Connects to the first member that answers: they are tried one beside the other, each for at
    /// most `per_member`. A refusal of credentials is the error returned, whatever the others say.
    pub async fn first<'a, T, F>(
        &'a self,
        per_member: Duration,
        mut connect: impl FnMut(&'a M) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
    {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let mut waiting = (start..start + self.all.len())
            .filter_map(|i| Some((i, self.all.get(i % self.all.len())?)))
            .peekable();
        let mut attempts = FuturesUnordered::new();
        let mut worst: Option<Error> = None;
        loop {
            if let Some((i, member)) = waiting.next() {
                let attempt = timeout(per_member, connect(member));
                attempts.push(async move {
                    let answer = attempt.await;
                    (i, answer.unwrap_or_else(|_| Err(Error::timed_out("connect", per_member))))
                });
            }
            tokio::select! {
                biased;
                answer = attempts.next() => match answer {
                    Some((i, Ok(connected))) => {
                        self.next.store(i % self.all.len() + 1, Ordering::Relaxed);
                        return Ok(connected);
                    }
                    Some((_, Err(error))) => worst = Some(more_telling(worst, error)),
                    None => return Err(worst.unwrap_or_else(|| Error::new(ErrorKind::Unavailable, "no member to connect to"))),
                },
                () = sleep(STAGGER), if waiting.peek().is_some() => {}
            }
        }
    }
}

fn more_telling(known: Option<Error>, new: Error) -> Error {
    match known {
        Some(known) if known.kind() == ErrorKind::Denied || new.kind() == ErrorKind::TimedOut => known,
        _ => new,
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_member_costs_only_the_stagger() {
        let members = Members::new(vec!["silent", "silent too", "answers"]);
        for _ in 0..3 {
            let began = tokio::time::Instant::now();
            let connected = members
                .first(Duration::from_secs(2), |member| async move {
                    if *member == "answers" { Ok(*member) } else { pending().await }
                })
                .await;
            assert_eq!(connected.unwrap(), "answers");
            assert!(began.elapsed() <= 2 * STAGGER);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_member_that_answered_last_is_tried_last() {
        let members = Members::new(vec![0, 1, 2]);
        let mut lost = None;
        for _ in 0..9 {
            let mut tried = Vec::new();
            let connected = members
                .first(Duration::from_secs(2), |member| {
                    tried.push(*member);
                    let silent = Some(*member) == lost || tried.len() == 1;
                    async move { if silent { pending().await } else { Ok(*member) } }
                })
                .await;
            if lost.is_some() {
                assert_ne!(tried.first(), lost.as_ref());
            }
            lost = connected.ok();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_denial_is_what_is_told() {
        let members = Members::new(vec![ErrorKind::Unavailable, ErrorKind::Denied, ErrorKind::Unavailable]);
        for _ in 0..3 {
            let refused: Result<()> = members
                .first(Duration::from_secs(2), |kind| async move { Err(Error::new(*kind, "no")) })
                .await;
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Denied);
        }
    }
}
