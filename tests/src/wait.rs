//! Waiting for a state: level-triggered, with a limit and a message.
//!
//! A test never sleeps to give something time to happen. It asks again and again whether it has
//! happened, so that it is as fast as the machine allows and as patient as a slow machine needs.

use std::time::Duration;

use tokio::time::Instant;

const INTERVAL: Duration = Duration::from_millis(5);

/// Asks `condition` every 5 ms until it says yes; returns how long that took.
///
/// Panics with `what` when `limit` is over. An answer that takes longer than the rest of the limit
/// counts as a no, so that a hanging request cannot hold the test.
pub async fn until(
    what: &str,
    limit: Duration,
    mut condition: impl AsyncFnMut() -> bool,
) -> Duration {
    until_some(what, limit, async || condition().await.then_some(())).await.1
}

/// Asks `source` every 5 ms until it has a value; returns the value and how long that took.
///
/// Panics with `what` when `limit` is over, like [`until`].
pub async fn until_some<T>(
    what: &str,
    limit: Duration,
    source: impl AsyncFnMut() -> Option<T>,
) -> (T, Duration) {
    poll(what, limit, INTERVAL, source).await
}

/// The same at another interval, for a question that costs a process or much work.
pub async fn poll<T>(
    what: &str,
    limit: Duration,
    interval: Duration,
    mut source: impl AsyncFnMut() -> Option<T>,
) -> (T, Duration) {
    let start = Instant::now();
    let deadline = start + limit;
    let mut questions = 0_u32;
    loop {
        questions += 1;
        if let Ok(Some(value)) = tokio::time::timeout_at(deadline, source()).await {
            return (value, start.elapsed());
        }
        assert!(
            Instant::now() < deadline,
            "waited {limit:?} in vain until {what} (asked {questions} times)"
        );
        tokio::time::sleep(interval).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_returns_as_soon_as_the_answer_is_yes() {
        let mut left = 3;
        let (value, _) = until_some("the third answer", Duration::from_secs(5), async || {
            left -= 1;
            (left == 0).then_some("here")
        })
        .await;
        assert_eq!(value, "here");
    }

    #[tokio::test]
    #[should_panic(expected = "in vain until pigs fly")]
    async fn it_gives_up_even_when_the_answer_never_comes() {
        until("pigs fly", Duration::from_millis(30), async || std::future::pending().await).await;
    }
}
