//! What one node has shown, no other takes back.

use std::time::Duration;

use understudy_tests::{Cluster, crowd, oracle, wait};

use super::ledger::{Came, Ledger, turn};

const LIMIT: Duration = Duration::from_secs(15);
const SESSIONS: usize = 10;
/// So long every byte between the owner and Redis takes, in each direction.
const SLOW: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread")]
async fn a_read_at_the_owner_never_goes_back_behind_one_elsewhere() {
    let _turn = turn().await;
    // The delay is the subject here: commands get the time for it also where the machine stalls.
    let builder = Cluster::builder().nodes(2).proxies();
    let cluster = builder.env("UNDERSTUDY_REDIS_COMMAND_TIMEOUT_MS", "1800").start().await;
    let (owner, other) = (cluster.url(0), cluster.url(1));
    let ledger = Ledger::begin(owner, SESSIONS).await;
    for account in &ledger.accounts {
        wait::until("the other node can look", LIMIT, async || {
            account.read(other).await.0 == Came::Well
        })
        .await;
    }
    // From now on what the owner writes is at Redis, for others to see, long before the owner is told so.
    cluster.proxies[0].redis.delay(SLOW);
    let seen = crowd(SESSIONS, SESSIONS, async |number| {
        let account = &ledger.accounts[number];
        let looks = async {
            let ahead = wait::until("the change is seen elsewhere", LIMIT, async || {
                drop(account.read(other).await);
                account.highest() > 1
            });
            ahead.await;
            let owner_was_told = account.acknowledged() > 1;
            (owner_was_told, account.read(owner).await)
        };
        let (_, (owner_was_told, (came, answer))) = tokio::join!(account.increment(owner), looks);
        if came != Came::Well {
            oracle::note(&format!("{came:?}: {answer:?}"));
        }
        (owner_was_told, came)
    })
    .await;
    cluster.proxies[0].redis.heal().await;
    let ahead = seen.iter().filter(|(owner_was_told, _)| !owner_was_told).count();
    let behind = seen.iter().filter(|(_, came)| *came != Came::Well).count();
    oracle!("changes of 10 seen elsewhere before their owner was told", ahead, >= SESSIONS / 2);
    oracle!("reads at the owner that showed less, or failed", behind, 0);
    ledger.is_exact(other).await;
}
