//! A node that clients reach and Redis does not.

use std::time::Duration;

use tokio::time::Instant;
use understudy_tests::{Cluster, Fault, crowd, oracle, wait};

use super::ledger::{Came, Ledger, turn};

const LIMIT: Duration = Duration::from_secs(15);
const LEASE_MS: u128 = 3_000;

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
            let (came, _) = ledger.accounts[round % 10].read(owner).await;
            match came {
                Came::Well => last_answer = cut.elapsed(),
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
    oracle!("last answer from memory after the cut, ms", last_answer.as_millis(), <= LEASE_MS);
    oracle!("all 10 sessions written elsewhere after the cut, ms", taken_over.as_millis(), <= LEASE_MS + 500);
    oracle!("stale answers while cut off", stale, 0);
    cluster.proxies[0].redis.heal().await;
    let healed = Instant::now();
    let (mut stale, mut good, mut first) = (0, 0, None);
    wait::until("the old owner serves again", LIMIT, async || {
        for account in &ledger.accounts {
            let (came, _) = account.read(owner).await;
            stale += usize::from(came == Came::Stale);
            good += usize::from(came == Came::Well);
        }
        if good > 0 {
            first.get_or_insert(healed.elapsed());
        }
        good >= 100
    })
    .await;
    oracle!("stale answers after the network was healed", stale, 0);
    oracle::note(&format!("the old owner serves again after {first:?}"));
    oracle!("the old owner gave 100 answers after, ms", healed.elapsed().as_millis(), <= 10_000);
    ledger.is_exact(owner).await;
}
