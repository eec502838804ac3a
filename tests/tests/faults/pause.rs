//! A node stands still, while the world goes on, and wakes up.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use understudy_tests::{Answer, Client, Cluster, crowd, oracle, wait};

use super::ledger::{Came, Ledger, turn};
use super::traffic::{Pace, Tally, Traffic};

const THREE_LEASES: Duration = Duration::from_secs(9);
const LIMIT: Duration = Duration::from_secs(20);
const SESSIONS: usize = 20;
/// So many requests wait in the sockets of the node when it wakes up, and so many are sent at that moment.
const CROWD: usize = 100;
/// Ten writes a second of each session, as much as two cores bear beside a node that wakes up.
const WRITES: Pace =
    Pace { read_every: Duration::from_millis(250), write_every: Duration::from_millis(100) };

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_owner_that_wakes_up_answers_nothing_old() {
    let _turn = turn().await;
    let cluster = Cluster::builder().start().await;
    let owner = cluster.url(0);
    let ledger = Ledger::begin(owner, SESSIONS).await;
    let sleepers = sleepers(&cluster, &ledger).await;
    cluster.nodes[0].stop();
    let stopped = Instant::now();
    let traffic = Traffic::start(&ledger, &[cluster.url(1), cluster.url(2)], WRITES);
    ledger.mark().await;
    wait::until("three leases are over", LIMIT, async || stopped.elapsed() > THREE_LEASES).await;
    oracle!("sessions written elsewhere during the pause", ledger.written_since_mark(1), SESSIONS);
    let before = Tally::get(&traffic.tally().writes);
    let (waiting, at_once) = tokio::join!(ask(&ledger, owner, CROWD), async {
        wait::until("a hundred requests wait", LIMIT, async || {
            stopped.elapsed() > THREE_LEASES + Duration::from_millis(200)
        })
        .await;
        cluster.nodes[0].cont();
        ask(&ledger, owner, CROWD).await
    });
    wait::until("the woken node is ready", LIMIT, async || {
        Client::new().get(owner, "/readyz").await.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    let awake = ask(&ledger, owner, 1_000).await;
    let writes = Tally::get(&traffic.tally().writes) - before;
    let tally = traffic.stop().await;
    for (what, answers) in [("waited", waiting), ("came at once", at_once)] {
        let come_back = of(&answers, Came::Failed).filter(|answer| is_told_to_come_back(answer));
        oracle::note(&format!("of {CROWD} that {what}, told to come back: {}", come_back.count()));
        is_fresh(what, &answers, |answer| !is_told_to_come_back(answer));
    }
    is_fresh("came when it was ready", &awake, |_| true);
    oracle!("writes elsewhere from its waking up on", writes, >= SESSIONS);
    oracle!("reads elsewhere that were stale", Tally::get(&tally.stale), 0);
    oracle!("reads elsewhere that failed", Tally::get(&tally.failed_reads), 0);
    oracle!("increments elsewhere that failed", Tally::get(&tally.failed_writes), 0);
    for node in &cluster.nodes {
        ledger.is_exact(node.public_url()).await;
    }
    late_writes_are_honest(&cluster, &ledger, sleepers).await;
}

type Told = Result<Answer, reqwest::Error>;

/// Requests to the node, of which nine in ten read.
async fn ask(ledger: &Ledger, base: &str, requests: usize) -> Vec<(Came, Told)> {
    crowd(CROWD, requests, async |number| {
        let account = &ledger.accounts[number % SESSIONS];
        if number % 10 == 9 { account.increment(base).await } else { account.read(base).await }
    })
    .await
}

fn of(answers: &[(Came, Told)], wanted: Came) -> impl Iterator<Item = &Told> {
    answers.iter().filter(move |(came, _)| *came == wanted).map(|(_, answer)| answer)
}

/// A node that stood still has no lease yet, and its HTTP server tells the time by a clock that may still be behind: it
/// takes a request for one that was too long on its way.
fn is_told_to_come_back(answer: &Told) -> bool {
    answer.as_ref().is_ok_and(|answer| matches!(answer.status, 408 | 503))
}

/// Demands that no answer is old, and that none failed in a way that counts.
fn is_fresh(what: &str, answers: &[(Came, Told)], counts: impl Fn(&Told) -> bool) {
    let failed: Vec<&Told> = of(answers, Came::Failed).filter(|answer| counts(answer)).collect();
    if let Some(first) = failed.first() {
        oracle::note(&format!("the first that failed: {first:?}"));
    }
    let (asked, stale) = (answers.len(), of(answers, Came::Stale).count());
    oracle!(&format!("of {asked} that {what}, older than the last acknowledged write"), stale, 0);
    oracle!(&format!("of {asked} that {what}, failed"), failed.len(), 0);
}

/// One request per session in a handler that has looked at it, and writes two seconds later.
async fn sleepers(cluster: &Cluster, ledger: &Arc<Ledger>) -> Vec<JoinHandle<Told>> {
    let owner = cluster.url(0);
    let looks = async || cluster.nodes[0].metric("session_reads_total").await;
    // From now on the owner looks into its memory, which it counts.
    let read = crowd(SESSIONS, SESSIONS, async |at| ledger.accounts[at].read(owner).await.0).await;
    assert!(read.iter().all(|came| *came == Came::Well), "{read:?}");
    let before = looks().await;
    let sleepers = (0..SESSIONS).map(|number| {
        let (client, url) = (ledger.accounts[number].client.clone(), owner.to_owned());
        tokio::spawn(async move { client.post(&url, "/slow-write?ms=2000").await })
    });
    let sleepers: Vec<JoinHandle<Told>> = sleepers.collect();
    let all = SESSIONS as f64;
    wait::until("all have looked", LIMIT, async || looks().await - before >= all).await;
    sleepers
}

/// Writes that were begun before the pause and planned after it: under a lease that the node had to get anew, so they go
/// to the new owner, and 200 is as right as a refusal. (Those that were *planned* before are in `late`.) What counts is
/// that the answer is true on every node.
async fn late_writes_are_honest(
    cluster: &Cluster,
    ledger: &Ledger,
    sleepers: Vec<JoinHandle<Told>>,
) {
    let (mut strange, mut untrue, mut statuses) = (0, 0, Vec::new());
    for (account, sleeper) in ledger.accounts.iter().zip(sleepers) {
        let status = sleeper.await.unwrap().unwrap().status;
        strange += usize::from(!matches!(status, 200 | 409 | 503));
        statuses.push(status);
        for node in &cluster.nodes {
            let slow = account.client.get(node.public_url(), "/get?k=slow").await.unwrap();
            let slow = slow.expect(200).json::<Value>()["value"].clone();
            let is_true = match status {
                200 => slow == json!(1),
                409 => slow.is_null(),
                _ => slow.is_null() || slow == json!(1),
            };
            untrue += usize::from(!is_true);
        }
    }
    statuses.sort_unstable();
    oracle::note(&format!("answers to the writes begun before the pause: {statuses:?}"));
    oracle!("writes begun before the pause not answered 200, 409 or 503", strange, 0);
    oracle!("nodes where the session does not hold what was answered", untrue, 0);
}
