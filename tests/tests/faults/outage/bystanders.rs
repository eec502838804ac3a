//! Requests that need no session: what they take while Redis is there, and while it is away.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use understudy_tests::{Client, Cluster, oracle};

/// Enough for a p99 that is not one request.
const ROUNDS: usize = 60;
/// The first ones open connections and touch code for the first time.
const WARM_UP: usize = 10;
/// So often each of them is asked.
const EVERY: Duration = Duration::from_millis(50);

/// Who asks what where.
pub(super) struct Bystanders(Vec<(Client, String, &'static str)>);

/// What came of it.
pub(super) struct Figures {
    failed: usize,
    p99: Duration,
    asked: usize,
}

impl Bystanders {
    /// With a cookie and without at the first two nodes, and the page of the third.
    pub(super) fn of(cluster: &Cluster, known: &Client) -> Self {
        let stranger = known.stranger();
        let mut all = vec![(stranger.clone(), cluster.url(2).to_owned(), "/")];
        for base in [cluster.url(0), cluster.url(1)] {
            for (client, path) in
                [(known, "/nothing"), (&stranger, "/nothing"), (&stranger, "/read")]
            {
                all.push((client.clone(), base.to_owned(), path));
            }
        }
        Self(all)
    }

    /// The figures to compare with.
    pub(super) async fn usual(&self) -> Figures {
        self.ask(|round| round < WARM_UP).await;
        self.ask(|round| round < ROUNDS).await
    }

    /// The figures until something is over.
    pub(super) async fn until(&self, over: &watch::Receiver<bool>) -> Figures {
        self.ask(|_| !*over.borrow()).await
    }

    async fn ask(&self, go_on: impl Fn(usize) -> bool) -> Figures {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut failed, mut times, mut round) = (0, Vec::new(), 0);
        while go_on(round) {
            ticks.tick().await;
            for (client, base, path) in &self.0 {
                let sent = Instant::now();
                let answer = client.get(base, path).await;
                times.push(sent.elapsed());
                let well = answer.is_ok_and(|answer| answer.status == 200);
                failed += usize::from(!well);
            }
            round += 1;
        }
        times.sort_unstable();
        let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
        Figures { failed, p99, asked: times.len() }
    }
}

impl Figures {
    /// Demands that the outage was not felt: no failure, and no more than twice the time; 20 ms are for the few slowest on a
    /// machine of two processors, which the clients share.
    pub(super) fn is_like(&self, before: &Self) {
        let (p99, limit) = (self.p99.as_millis(), 2 * before.p99.as_millis() + 20);
        oracle!("requests without a session before the outage that failed", before.failed, 0);
        oracle!("requests without a session during the outage", self.asked, >= before.asked / 2);
        oracle!("of these failed", self.failed, 0);
        oracle!("their p99 (twice what it was, and 20 ms), ms", p99, within limit);
    }
}
