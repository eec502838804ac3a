//! Many requests at a time.

use futures_util::stream::{self, StreamExt as _};

/// Runs `job` for each number below `count`, at most `at_once` of them at the same time; returns
/// what they gave, in the order in which they ended.
pub async fn crowd<T>(at_once: usize, count: usize, job: impl AsyncFn(usize) -> T) -> Vec<T> {
    stream::iter(0..count).map(|number| job(number)).buffer_unordered(at_once).collect().await
}

#[cfg(test)]
mod tests {
    use super::crowd;

    #[tokio::test]
    async fn every_number_gets_its_turn_and_not_all_at_once() {
        let (running, most) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
        let mut numbers = crowd(3, 10, async |number| {
            running.set(running.get() + 1);
            most.set(running.get().max(most.get()));
            tokio::task::yield_now().await;
            running.set(running.get() - 1);
            number
        })
        .await;
        numbers.sort_unstable();
        assert_eq!(numbers, (0..10).collect::<Vec<_>>());
        assert_eq!(most.get(), 3);
    }
}
