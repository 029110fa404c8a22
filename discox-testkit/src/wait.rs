//! Waiting for a condition with a deadline, instead of sleeping and hoping.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep, timeout_at};

/// Time between two questions: short against everything the tests wait for, long against their cost.
const PAUSE: Duration = Duration::from_millis(20);

/// What a condition may say: `bool`, or `Option` to hand out what was waited for.
pub trait Answer {
    /// What the wait returns once the condition holds.
    type Value;

    /// The value, or `None` for "not yet".
    fn answered(self) -> Option<Self::Value>;
}

impl Answer for bool {
    type Value = ();

    fn answered(self) -> Option<()> {
        self.then_some(())
    }
}

impl<T> Answer for Option<T> {
    type Value = T;

    fn answered(self) -> Option<T> {
        self
    }
}

/// Asks until the answer is `true` or `Some`, at least once and every 20 ms; `what` completes the sentence
/// "waited 5s for …" of the error when `within` has passed. A question that hangs is given up with the rest.
///
/// ```
/// # use discox_testkit::wait::eventually;
/// # use std::time::Duration;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> anyhow::Result<()> {
/// let mut asked = 0;
/// let third = eventually(Duration::from_secs(5), "the third question", async || {
///     asked += 1;
///     (asked == 3).then_some(asked)
/// })
/// .await?;
/// assert_eq!(third, 3);
/// # Ok(()) }
/// ```
pub async fn eventually<A: Answer>(
    within: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> A,
) -> Result<A::Value> {
    let wait = Wait::new(within, what);
    loop {
        if let Some(value) = wait.answer(ask()).await? {
            return Ok(value);
        }
    }
}

/// [`eventually`] for futures that are spawned: this one can be `Send`, which the compiler cannot prove of one
/// that holds an async closure. The question must not change what it captures.
pub async fn eventually_send<A: Answer, F: Future<Output = A>>(
    within: Duration,
    what: &str,
    ask: impl Fn() -> F,
) -> Result<A::Value> {
    let wait = Wait::new(within, what);
    loop {
        if let Some(value) = wait.answer(ask()).await? {
            return Ok(value);
        }
    }
}

struct Wait<'a> {
    within: Duration,
    deadline: Instant,
    what: &'a str,
}

impl Wait<'_> {
    fn new(within: Duration, what: &str) -> Wait<'_> {
        Wait { within, deadline: Instant::now() + within, what }
    }

    /// The answer to one question, and the pause before the next.
    async fn answer<A: Answer>(&self, question: impl Future<Output = A>) -> Result<Option<A::Value>> {
        let Wait { within, deadline, what } = *self;
        match timeout_at(deadline, question).await {
            Ok(answer) => {
                if let Some(value) = answer.answered() {
                    return Ok(Some(value));
                }
            }
            Err(_) => bail!("waited {within:?} for {what}, and the last question was not answered"),
        }
        if Instant::now() + PAUSE > deadline {
            bail!("waited {within:?} for {what}");
        }
        sleep(PAUSE).await;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hands_out_what_was_waited_for() {
        let mut left = 3;
        let value = eventually(Duration::from_secs(5), "zero", async || {
            left -= 1;
            (left == 0).then_some("here")
        })
        .await;
        assert_eq!(value.unwrap(), "here");
    }

    #[tokio::test(start_paused = true)]
    async fn says_what_it_waited_for() {
        let error = eventually(Duration::from_secs(5), "a miracle", async || false).await.unwrap_err();
        assert_eq!(error.to_string(), "waited 5s for a miracle");
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_a_hanging_question() {
        let error =
            eventually(Duration::from_secs(5), "an answer", async || std::future::pending::<bool>().await)
                .await
                .unwrap_err();
        assert!(error.to_string().starts_with("waited 5s for an answer"), "{error}");
    }
}
