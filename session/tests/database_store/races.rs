//! Nodes at the same session at the same time.

use std::collections::BTreeMap;
use std::time::Duration;

use sea_orm::{ConnectionTrait as _, DatabaseTransaction, TransactionTrait as _};
use understudy_runtime::lease::LeaseStore as _;
use understudy_session::record::{Fence, Locator, Token};
use understudy_session::store::{ClaimReply, SessionStore as _, ValidateReply};

use crate::bench::{BUCKET, Bench, HOUR_MS, LEASE, found, node, postgres, record, sqlite};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_claims_at_once_each_gets_an_epoch_of_its_own() {
    for bench in [sqlite().await, postgres().await] {
        let locator = Locator::random();
        let mut free = record(&Token::new(&node("gone")));
        free.owner = None;
        bench.store.create(locator, &free, HOUR_MS).await.unwrap();
        let tasks: Vec<_> = (0..30)
            .map(|_| {
                let store = bench.store.clone();
                let token = Token::new(&node("a"));
                tokio::spawn(async move { (store.claim(locator, &token, Some(1)).await, token) })
            })
            .collect();
        let mut owners = BTreeMap::new();
        for task in tasks {
            let (reply, token) = task.await.unwrap();
            let ClaimReply::Claimed { epoch, record: None, .. } = reply.unwrap() else { panic!() };
            assert!(owners.insert(epoch, token).is_none(), "epoch {epoch} was given twice");
        }
        let stored = found(&bench.store, locator).await;
        assert_eq!(stored.owner, owners.remove(&stored.epoch));
        assert_eq!(stored.epoch, 31);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_claim_and_the_renewal_of_a_lapsing_lease_never_both_win() {
    let bench = postgres().await;
    let owner = node("a");
    let (mut claimed, mut kept) = (0, 0);
    for round in 0..150_u64 {
        let locator = Locator::random();
        bench.leases.renew(BUCKET, &owner, Duration::from_millis(8)).await.unwrap();
        let first = Token::new(&owner);
        bench.store.create(locator, &record(&first), HOUR_MS).await.unwrap();
        // Not to wait for anything: the two are to meet the end of the lease, once before and once after it.
        tokio::time::sleep(Duration::from_micros(3_000 + round * 37 % 5_000)).await;
        let (leases, store, renewer) = (bench.leases.clone(), bench.store.clone(), owner.clone());
        let renewal =
            tokio::spawn(
                async move { leases.renew(BUCKET, &renewer, Duration::from_secs(60)).await },
            );
        let claim =
            tokio::spawn(async move { store.claim(locator, &Token::new(&node("b")), None).await });
        let (renewed, reply) = (renewal.await.unwrap().unwrap(), claim.await.unwrap().unwrap());
        let fence = Fence { token: first, epoch: 1 };
        let confirmed = bench.store.validate(locator, &fence, 1).await.unwrap();
        match reply {
            ClaimReply::Claimed { .. } => {
                assert!(!renewed.continuous, "round {round}: two nodes own one session");
                assert_eq!(confirmed, ValidateReply::Fenced);
                claimed += 1;
            }
            ClaimReply::Owned { .. } => kept += 1,
            other @ (ClaimReply::Grace { .. }
            | ClaimReply::Missing
            | ClaimReply::Revoked
            | ClaimReply::Expired) => panic!("{other:?}"),
        }
        bench.leases.drop_node(BUCKET, &owner).await.unwrap();
    }
    assert!(claimed > 0 && kept > 0, "the race was never close: {claimed} claimed, {kept} kept");
}

/// Begins what another node would be in the middle of.
async fn begin(bench: &Bench, sql: &str) -> DatabaseTransaction {
    let transaction = bench.database.connection().begin().await.unwrap();
    transaction.execute_unprepared(sql).await.unwrap();
    transaction
}

/// Waits until a statement is held up by what another one has locked. One that is not made to wait never is.
async fn held_up(bench: &Bench) {
    bench.until("a statement waits for a lock", "SELECT 1 FROM pg_locks WHERE NOT granted").await;
}

#[tokio::test]
async fn a_renewal_that_waited_for_a_claim_looks_at_the_clock_afterwards() {
    let bench = postgres().await;
    bench.leases.renew(BUCKET, &node("a"), Duration::from_millis(100)).await.unwrap();
    let claim = begin(&bench, "SELECT * FROM us_node_lease FOR UPDATE").await;
    let leases = bench.leases.clone();
    let renewal = tokio::spawn(async move { leases.renew(BUCKET, &node("a"), LEASE).await });
    held_up(&bench).await;
    let now = bench.database.backend().now_ms();
    let lapsed = format!("SELECT 1 FROM us_node_lease WHERE deadline_ms <= {now}");
    bench.until("the lease is over", &lapsed).await;
    claim.commit().await.unwrap();
    assert!(!renewal.await.unwrap().unwrap().continuous, "the claim found the lease lapsed");
}

#[tokio::test]
async fn a_claim_waits_for_a_renewal_that_is_under_way() {
    let bench = postgres().await;
    let (locator, token) = (Locator::random(), Token::new(&node("a")));
    bench.store.create(locator, &record(&token), HOUR_MS).await.unwrap();
    bench.leases.renew(BUCKET, &node("a"), LEASE).await.unwrap();
    bench.run("UPDATE us_node_lease SET deadline_ms = deadline_ms - 30000").await;
    let later = "UPDATE us_node_lease SET deadline_ms = deadline_ms + 60000";
    let renewal = begin(&bench, later).await;
    let store = bench.store.clone();
    let claim =
        tokio::spawn(async move { store.claim(locator, &Token::new(&node("b")), None).await });
    held_up(&bench).await;
    renewal.commit().await.unwrap();
    let reply = claim.await.unwrap().unwrap();
    assert!(matches!(reply, ClaimReply::Owned { .. }), "{reply:?}");
}

#[tokio::test]
async fn a_validation_waits_for_a_claim_that_is_under_way() {
    let bench = postgres().await;
    let (locator, token) = (Locator::random(), Token::new(&node("a")));
    bench.store.create(locator, &record(&token), HOUR_MS).await.unwrap();
    let claim = begin(&bench, "UPDATE us_session SET owner = 'b#1|2', epoch = 2").await;
    let (store, fence) = (bench.store.clone(), Fence { token, epoch: 1 });
    let validation = tokio::spawn(async move { store.validate(locator, &fence, 1).await });
    held_up(&bench).await;
    claim.commit().await.unwrap();
    assert_eq!(validation.await.unwrap().unwrap(), ValidateReply::Fenced);
}
