//! A node stands still, while the world goes on, and wakes up.

use std::time::Duration;

use tokio::time::Instant;
use understudy_tests::{Answer, Cluster, crowd, oracle, wait};

use super::ledger::{Came, Ledger, turn};

const THREE_LEASES: Duration = Duration::from_secs(9);
const SESSIONS: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_owner_that_wakes_up_answers_nothing_old() {
    let _turn = turn().await;
    let cluster = Cluster::builder().nodes(2).start().await;
    let (owner, other) = (cluster.url(0), cluster.url(1));
    let ledger = Ledger::begin(owner, SESSIONS).await;
    // In handlers that have looked at the session and are about to write it.
    #[expect(clippy::async_yields_async, reason = "they are answered after the pause")]
    let sleepers = crowd(SESSIONS, SESSIONS, async |number| {
        let client = ledger.accounts[number].client.clone();
        let url = owner.to_owned();
        tokio::spawn(async move { client.post(&url, "/slow-write?ms=500").await })
    })
    .await;
    wait::until("the owner answers from memory", THREE_LEASES, async || {
        ledger.accounts[0].read(owner).await.0 == Came::Well
    })
    .await;
    cluster.nodes[0].stop();
    let stopped = Instant::now();
    let writes = write_on(&ledger, other, stopped + THREE_LEASES).await;
    oracle!("sessions written elsewhere during the pause", writes, SESSIONS);
    // The first hundred wait in the sockets of the node when it wakes up.
    let (mut stale, mut failed, mut excused, mut asked) = (0, 0, 0, 0);
    let mut count = |answers: Vec<Told>| {
        asked += answers.len();
        stale += answers.iter().filter(|(came, _)| *came == Came::Stale).count();
        let bad: Vec<&Told> = answers.iter().filter(|(came, _)| *came == Came::Failed).collect();
        failed += bad.iter().filter(|(_, answer)| !is_excused(answer)).count();
        excused += bad.len();
    };
    let (waiting, ()) = tokio::join!(ask(&ledger, owner, 100), async {
        wait::until("a hundred requests wait", THREE_LEASES, async || {
            stopped.elapsed() > THREE_LEASES + Duration::from_millis(200)
        })
        .await;
        cluster.nodes[0].cont();
    });
    count(waiting);
    count(ask(&ledger, owner, 1_000).await);
    oracle!("requests to the old owner after it woke up", asked, 1_100);
    oracle!("of these told to come back (408 or 503)", excused, <= 150);
    oracle!("answers older than the last acknowledged write", stale, 0);
    oracle!("requests that failed otherwise than by 408 or 503", failed, 0);
    ledger.is_exact(owner).await;
    ledger.is_exact(other).await;
    let mut late = 0;
    for sleeper in sleepers {
        let answer = sleeper.await.unwrap().unwrap();
        late += usize::from(!matches!(answer.status, 200 | 409 | 503));
    }
    oracle!("writes begun before the pause not answered 200, 409 or 503", late, 0);
}

/// Increments every session at another node until then; returns how many were written.
async fn write_on(ledger: &Ledger, base: &str, until: Instant) -> usize {
    let written = crowd(SESSIONS, SESSIONS, async |number| {
        let mut written = 0;
        let pace = Duration::from_millis(100);
        wait::poll("three leases are over", THREE_LEASES * 2, pace, async || {
            let (came, _) = ledger.accounts[number].increment(base).await;
            written += usize::from(came == Came::Well);
            (Instant::now() >= until).then_some(())
        })
        .await;
        written
    })
    .await;
    written.into_iter().filter(|writes| *writes > 0).count()
}

/// A node that stood still may find that a request took too long to arrive, or that it has no lease yet.
fn is_excused(answer: &Result<Answer, reqwest::Error>) -> bool {
    answer.as_ref().is_ok_and(|answer| matches!(answer.status, 408 | 503))
}

type Told = (Came, Result<Answer, reqwest::Error>);

/// Requests to the node, of which nine in ten read.
async fn ask(ledger: &Ledger, base: &str, requests: usize) -> Vec<Told> {
    crowd(100, requests, async |number| {
        let account = &ledger.accounts[number % SESSIONS];
        if number % 10 == 9 { account.increment(base).await } else { account.read(base).await }
    })
    .await
}
