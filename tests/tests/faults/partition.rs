//! A node that clients reach and Redis does not.

use std::time::Duration;

use tokio::time::Instant;
use understudy_tests::{Cluster, Fault, crowd, oracle, wait};

use super::ledger::{Account, Came, Ledger, turn};

const LIMIT: Duration = Duration::from_secs(15);
const LEASE_MS: u128 = 3_000;
/// The server is looked for every 250 ms, two attempts to connect are half a second apart, and what was sent into the
/// silence may have to time out first: a second for a connection, half of one for a command. The rest is for the lease.
const HEALED_MS: u128 = 3_000;

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_cut_off_from_redis_stops_answering_before_others_take_over() {
    let _turn = turn().await;
    let cluster = Cluster::builder().nodes(2).proxies().start().await;
    let (owner, other) = (cluster.url(0), cluster.url(1));
    let ledger = Ledger::begin(owner, 10).await;
    let cut = Instant::now();
    cluster.proxies[0].redis.cut(Fault::Silent).await;
    let reads = async {
        let (mut last_answer, mut stale, mut refused) = (Duration::ZERO, 0, 0);
        for round in 0.. {
            let asked = cut.elapsed();
            let (came, _) = ledger.accounts[round % 10].read(owner).await;
            match came {
                Came::Well => last_answer = asked,
                Came::Stale => stale += 1,
                Came::Failed => refused += 1,
            }
            if refused >= 20 {
                break;
            }
        }
        (last_answer, stale)
    };
    let writes = async {
        crowd(10, 10, async |number| {
            wait::until("the other node writes", LIMIT, async || {
                ledger.accounts[number].increment(other).await.0 == Came::Well
            })
            .await;
        })
        .await;
        cut.elapsed()
    };
    let ((last_answer, stale), taken_over) = tokio::join!(reads, writes);
    oracle!("last question after the cut that was answered from memory, ms", last_answer.as_millis(), <= LEASE_MS);
    oracle!("all 10 sessions written elsewhere after the cut, ms", taken_over.as_millis(), within LEASE_MS + 500);
    oracle!("stale answers while cut off", stale, 0);
    cluster.proxies[0].redis.heal().await;
    let healed = Instant::now();
    let again =
        crowd(10, 10, async |number| serves_again(&ledger.accounts[number], owner, healed).await);
    let again = again.await;
    for (number, account) in again.iter().enumerate() {
        let (first, refused) = (account.first.as_millis(), account.refused);
        oracle::note(&format!(
            "session {number}: first answer after {first} ms, {refused} refused"
        ));
    }
    let last = again.iter().map(|account| account.all.as_millis()).max().unwrap();
    oracle!(
        "stale answers after the network was healed",
        again.iter().map(|it| it.stale).sum::<usize>(),
        0
    );
    oracle!("the old owner gave 100 answers after, ms", last, within HEALED_MS);
    ledger.is_exact(owner).await;
}

/// How one session came back at its old owner, in times since the network was healed.
struct Again {
    first: Duration,
    all: Duration,
    stale: usize,
    refused: usize,
}

/// Reads the session until ten reads were answered as they should be.
async fn serves_again(account: &Account, owner: &str, healed: Instant) -> Again {
    let (mut first, mut good, mut stale, mut refused) = (None, 0, 0, 0);
    wait::until("the old owner serves the session again", LIMIT, async || {
        match account.read(owner).await.0 {
            Came::Well => {
                good += 1;
                first.get_or_insert(healed.elapsed());
            }
            Came::Stale => stale += 1,
            Came::Failed => refused += 1,
        }
        good >= 10
    })
    .await;
    Again { first: first.unwrap(), all: healed.elapsed(), stale, refused }
}
