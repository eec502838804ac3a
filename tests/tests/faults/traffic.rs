//! Reads and increments that go on while something goes wrong.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use understudy_tests::{Answer, oracle};

use super::ledger::{Account, Came, Ledger};

/// How often each session is used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) read_every: Duration,
    pub(super) write_every: Duration,
}

/// Nine reads to one increment, as much as two cores bear in a development build with a dozen sessions.
pub(super) const STEADY: Pace =
    Pace { read_every: Duration::from_millis(25), write_every: Duration::from_millis(225) };

/// Traffic that runs until it is stopped.
pub(super) struct Traffic {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    tally: Arc<Tally>,
}

/// What came of the requests so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) reads: AtomicUsize,
    pub(super) writes: AtomicUsize,
    pub(super) stale: AtomicUsize,
    pub(super) failed_reads: AtomicUsize,
    pub(super) failed_writes: AtomicUsize,
    slowest_read_ms: AtomicU64,
    slowest_write_ms: AtomicU64,
    first_failure: OnceLock<String>,
    first_stale: OnceLock<String>,
}

impl Tally {
    fn count(&self, what: &[&AtomicUsize]) {
        for counter in what {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn read(&self, came: Came, took: Duration, answer: &Result<Answer, reqwest::Error>) {
        self.count(&[&self.reads]);
        self.slowest_read_ms.fetch_max(ms(took), Ordering::SeqCst);
        match came {
            Came::Well => {}
            Came::Stale => {
                self.count(&[&self.stale]);
                self.first_stale.get_or_init(|| format!("read after {took:?}: {answer:?}"));
            }
            Came::Failed => {
                self.count(&[&self.failed_reads]);
                self.first_failure.get_or_init(|| format!("read after {took:?}: {answer:?}"));
            }
        }
    }

    fn write(&self, came: Came, took: Duration, answer: &Result<Answer, reqwest::Error>) {
        self.count(&[&self.writes]);
        self.slowest_write_ms.fetch_max(ms(took), Ordering::SeqCst);
        if came != Came::Well {
            self.count(&[&self.failed_writes]);
            self.first_failure.get_or_init(|| format!("write after {took:?}: {answer:?}"));
        }
    }

    /// Prints what the oracles do not say.
    pub(super) fn tell(&self) {
        let load = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        oracle::note(&format!(
            "traffic: {} reads ({} failed, slowest {} ms), {} increments ({} failed, slowest {} ms)",
            load(&self.reads),
            load(&self.failed_reads),
            self.slowest_read_ms.load(Ordering::SeqCst),
            load(&self.writes),
            load(&self.failed_writes),
            self.slowest_write_ms.load(Ordering::SeqCst),
        ));
        if let Some(failure) = self.first_failure.get() {
            oracle::note(&format!("first failure: {failure}"));
        }
        if let Some(stale) = self.first_stale.get() {
            oracle::note(&format!("first stale answer: {stale}"));
        }
    }

    /// Begins to look for the slowest requests anew. A cluster that has just begun on an empty Redis waits out one
    /// lease in which nobody can take over, and so do reads of others' sessions.
    pub(super) fn forget_slowest(&self) {
        self.slowest_read_ms.store(0, Ordering::SeqCst);
        self.slowest_write_ms.store(0, Ordering::SeqCst);
    }

    /// How long the slowest read took, ms.
    pub(super) fn slowest_read_ms(&self) -> u64 {
        self.slowest_read_ms.load(Ordering::SeqCst)
    }

    /// How long the slowest increment took, ms.
    pub(super) fn slowest_write_ms(&self) -> u64 {
        self.slowest_write_ms.load(Ordering::SeqCst)
    }

    /// The figure of a counter.
    pub(super) fn get(counter: &AtomicUsize) -> usize {
        counter.load(Ordering::SeqCst)
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Traffic {
    /// Begins: each session is read and written at its own pace, by turns at each of `bases`.
    pub(super) fn start(ledger: &Arc<Ledger>, bases: &[&str], pace: Pace) -> Self {
        let (stop, stopped) = watch::channel(false);
        let tally = Arc::new(Tally::default());
        let mut tasks = JoinSet::new();
        let bases: Arc<[String]> = bases.iter().map(|base| (*base).to_owned()).collect();
        for number in 0..ledger.accounts.len() {
            for reads in [true, false] {
                let line = Line {
                    ledger: Arc::clone(ledger),
                    number,
                    bases: Arc::clone(&bases),
                    tally: Arc::clone(&tally),
                    stopped: stopped.clone(),
                };
                let every = if reads { pace.read_every } else { pace.write_every };
                tasks.spawn(async move { line.run(reads, every).await });
            }
        }
        Self { stop, tasks, tally }
    }

    /// Ends when the requests under way are answered.
    pub(super) async fn stop(mut self) -> Arc<Tally> {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        self.tally.tell();
        self.tally
    }

    /// What came of the requests so far.
    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }
}

/// One stream of requests.
struct Line {
    ledger: Arc<Ledger>,
    number: usize,
    bases: Arc<[String]>,
    tally: Arc<Tally>,
    stopped: watch::Receiver<bool>,
}

impl Line {
    async fn run(self, reads: bool, every: Duration) {
        let account: &Account = &self.ledger.accounts[self.number];
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for turn in self.number.. {
            ticks.tick().await;
            if *self.stopped.borrow() {
                return;
            }
            let base = &self.bases[turn % self.bases.len()];
            let sent = Instant::now();
            if reads {
                let (came, answer) = account.read(base).await;
                self.tally.read(came, sent.elapsed(), &answer);
            } else {
                let (came, answer) = account.increment(base).await;
                self.tally.write(came, sent.elapsed(), &answer);
            }
        }
    }
}
