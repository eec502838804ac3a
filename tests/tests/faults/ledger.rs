//! The book that a test keeps of what was acknowledged, to compare with what is there in the end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;
use understudy_tests::{Answer, Client, crowd, oracle, wait};

static TURN: Mutex<()> = Mutex::const_new(());

/// Waits until no other test of this binary runs: two at a time would measure each other.
pub(super) async fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().await
}

/// Waits until the nodes, ready since then, have known each other for two leases: only then can they tell who else
/// might trust a lease of a server that is replaced, and need not wait for one lease after it was.
pub(super) async fn acquainted(ready: Instant) {
    let enough = Duration::from_secs(8);
    wait::until("the nodes know each other", enough * 2, async || ready.elapsed() >= enough).await;
}

/// One session: its browser, and what it was told.
pub(super) struct Account {
    pub(super) client: Client,
    /// The highest value of an acknowledged increment, or of an answered read; nothing asked from now on may see less.
    highest: AtomicI64,
    acknowledged: AtomicI64,
    unknown: AtomicI64,
    /// How many increments were acknowledged that were sent after the latest [`Account::mark`].
    since_mark: AtomicUsize,
    marked: Mutex<Option<Instant>>,
    told: Mutex<BTreeSet<i64>>,
    told_twice: AtomicUsize,
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// Answered as it should be.
    Well,
    /// A read that was older than what had been told before.
    Stale,
    /// Anything else.
    Failed,
}

impl Account {
    /// Begins a session at the node at `base`, which then owns it.
    pub(super) async fn begin(client: Client, base: &str) -> Self {
        let account = Self {
            client,
            highest: AtomicI64::new(0),
            acknowledged: AtomicI64::new(0),
            unknown: AtomicI64::new(0),
            since_mark: AtomicUsize::new(0),
            marked: Mutex::new(None),
            told: Mutex::default(),
            told_twice: AtomicUsize::new(0),
        };
        let (came, answer) = account.increment(base).await;
        assert!(came == Came::Well, "a session begins: {answer:?}");
        account
    }

    /// Adds one, and notes what was acknowledged.
    pub(super) async fn increment(&self, base: &str) -> (Came, Result<Answer, reqwest::Error>) {
        let sent = Instant::now();
        let answer = self.client.post(base, "/incr").await;
        match &answer {
            Ok(done) if done.status == 200 => {
                self.acknowledge(number(done).expect("an increment tells the number"), sent).await;
                (Came::Well, answer)
            }
            Ok(refused) if is_surely_not_done(refused) => (Came::Failed, answer),
            Ok(_) | Err(_) => {
                self.unknown.fetch_add(1, Ordering::SeqCst);
                (Came::Failed, answer)
            }
        }
    }

    async fn acknowledge(&self, value: i64, sent: Instant) {
        self.acknowledged.fetch_add(1, Ordering::SeqCst);
        self.highest.fetch_max(value, Ordering::SeqCst);
        if !self.told.lock().await.insert(value) {
            self.told_twice.fetch_add(1, Ordering::SeqCst);
        }
        if self.marked.lock().await.is_none_or(|marked| sent >= marked) {
            self.since_mark.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Reads the counter, and compares it with what was acknowledged or shown before the request was sent.
    pub(super) async fn read(&self, base: &str) -> (Came, Result<Answer, reqwest::Error>) {
        let known = self.highest.load(Ordering::SeqCst);
        let answer = self.client.get(base, "/read").await;
        let came = match &answer {
            Ok(read) if read.status == 200 => {
                let value = number(read).unwrap_or(i64::MIN);
                self.highest.fetch_max(value, Ordering::SeqCst);
                if value >= known { Came::Well } else { Came::Stale }
            }
            Ok(_) | Err(_) => Came::Failed,
        };
        (came, answer)
    }

    /// The highest value that anybody was shown or told.
    pub(super) fn highest(&self) -> i64 {
        self.highest.load(Ordering::SeqCst)
    }

    /// How many increments were acknowledged.
    pub(super) fn acknowledged(&self) -> i64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// From now on [`Account::acknowledged_since_mark`] counts.
    async fn mark(&self, now: Instant) {
        *self.marked.lock().await = Some(now);
        self.since_mark.store(0, Ordering::SeqCst);
    }

    fn acknowledged_since_mark(&self) -> usize {
        self.since_mark.load(Ordering::SeqCst)
    }
}

fn number(answer: &Answer) -> Option<i64> {
    answer.json::<serde_json::Map<String, Value>>()["value"].as_i64()
}

/// The product says of these that nothing was changed.
fn is_surely_not_done(answer: &Answer) -> bool {
    matches!(answer.status, 401 | 409) || answer.text.contains("\"session_busy\"")
}

/// Many sessions.
pub(super) struct Ledger {
    pub(super) accounts: Vec<Account>,
}

impl Ledger {
    /// Begins this many sessions at the node at `base`.
    pub(super) async fn begin(base: &str, sessions: usize) -> Arc<Self> {
        let http = Client::new();
        let accounts =
            crowd(32, sessions, async |_| Account::begin(http.stranger(), base).await).await;
        Arc::new(Self { accounts })
    }

    /// Begins to count acknowledgements anew in all accounts.
    pub(super) async fn mark(&self) -> Instant {
        let now = Instant::now();
        for account in &self.accounts {
            account.mark(now).await;
        }
        now
    }

    /// How many accounts had this many increments acknowledged that were sent after the mark.
    pub(super) fn written_since_mark(&self, times: usize) -> usize {
        let written = self.accounts.iter().filter(|it| it.acknowledged_since_mark() >= times);
        written.count()
    }

    /// Whether all had.
    pub(super) fn all_written_since_mark(&self, times: usize) -> bool {
        self.written_since_mark(times) == self.accounts.len()
    }

    /// Compares what is there with what was acknowledged: nothing lost, nothing done twice.
    pub(super) async fn is_exact(&self, base: &str) {
        let found = crowd(16, self.accounts.len(), async |number| {
            let account = &self.accounts[number];
            let (_, answer) = account.read(base).await;
            (account, self::number(&answer.unwrap().expect(200)).unwrap_or(0))
        })
        .await;
        let (mut acknowledged, mut unknown, mut lost, mut extra, mut twice) = (0, 0, 0, 0, 0);
        for (account, value) in found {
            let told = account.told.lock().await.last().copied().unwrap_or(0);
            let (acks, open) = (&account.acknowledged, &account.unknown);
            let (acks, open) = (acks.load(Ordering::SeqCst), open.load(Ordering::SeqCst));
            acknowledged += acks;
            unknown += open;
            lost += (acks.max(told) - value).max(0);
            extra += (value - acks - open).max(0);
            twice += account.told_twice.load(Ordering::SeqCst);
        }
        oracle::note(&format!(
            "increments: {acknowledged} acknowledged, {unknown} of unknown outcome"
        ));
        oracle!("acknowledged increments that are lost", lost, 0);
        oracle!("increments done twice", extra, 0);
        oracle!("values told to two increments", twice, 0);
    }
}
