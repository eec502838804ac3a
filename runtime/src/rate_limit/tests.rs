use std::sync::Arc;

use actix_web::ResponseError as _;

use super::*;
use crate::clock::{ManualClock, SystemClock};
use crate::redis::Role;
use crate::redis::testing::{RedisServer, node};

const THREE: Rate = Rate::new(3, Duration::from_secs(30));

fn alone() -> (RateLimits, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    clock.advance(Duration::from_secs(10));
    let shared: SharedClock = clock.clone();
    (RateLimits::new(None, &shared), clock)
}

async fn on_redis(server: &RedisServer, name: &str) -> RateLimits {
    let redis = server.connect(Role::Data(0), &node(name)).await;
    let keys = Arc::new(KeySpace::new(&"t".parse().unwrap(), 1));
    RateLimits::new(Some((redis, keys)), &SystemClock::shared())
}

fn wait(refused: Result<Taken, RateLimitError>) -> Duration {
    match refused {
        Err(RateLimitError::Exceeded { retry_after }) => retry_after,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn as_many_as_may_pass_and_then_one_after_the_other() {
    let (limits, clock) = alone();
    for left in [2, 1, 0] {
        assert_eq!(limits.take("x", "mary", THREE).await.unwrap().left, left);
    }
    assert_eq!(wait(limits.take("x", "mary", THREE).await), Duration::from_secs(10));
    assert_eq!(wait(limits.take("x", "mary", THREE).await), Duration::from_secs(10), "not counted");
    assert_eq!(limits.take("x", "john", THREE).await.unwrap().left, 2);
    assert_eq!(limits.take("y", "mary", THREE).await.unwrap().left, 2);
    clock.advance(Duration::from_millis(9_999));
    assert_eq!(wait(limits.take("x", "mary", THREE).await), Duration::from_millis(1));
    clock.advance(Duration::from_millis(1));
    let taken = limits.take("x", "mary", THREE).await.unwrap();
    assert_eq!(taken, Taken { left: 0, reset: Duration::from_secs(30) });
    clock.advance(Duration::from_secs(30));
    assert_eq!(limits.take("x", "mary", THREE).await.unwrap().left, 2);
}

#[tokio::test]
async fn a_limit_that_becomes_smaller_holds_nobody_up_for_longer_than_it_says() {
    let (limits, _clock) = alone();
    let day = Rate::new(1, Duration::from_secs(86_400));
    limits.take("x", "mary", day).await.unwrap();
    assert_eq!(wait(limits.take("x", "mary", THREE).await), Duration::from_secs(10));
}

#[tokio::test]
async fn memory_is_bounded_and_those_who_are_counted_stay_counted() {
    let (limits, clock) = alone();
    for number in 0..100_001 {
        limits.take("x", &number.to_string(), Rate::per_second(1)).await.unwrap();
    }
    assert!(limits.inner.memory.len() <= 100_000);
    assert!(limits.take("x", "0", Rate::per_second(1)).await.is_err(), "still counted");
    clock.advance(Duration::from_secs(2));
    limits.take("x", "new", Rate::per_second(1)).await.unwrap();
    assert_eq!(limits.inner.memory.len(), 1, "what is over makes room");
}

#[tokio::test(flavor = "multi_thread")]
async fn x5_three_nodes_count_together() {
    let server = RedisServer::start().await;
    let rate = Rate::new(50, Duration::from_secs(3_600));
    let mut all = Vec::new();
    for name in ["a", "b", "c"] {
        let limits = on_redis(&server, name).await;
        all.extend((0..40).map(|_| {
            let limits = limits.clone();
            tokio::spawn(async move { limits.take("x", "mary", rate).await.is_ok() })
        }));
    }
    let mut passed = 0;
    for one in all {
        passed += usize::from(one.await.unwrap());
    }
    assert_eq!(passed, 50, "of 120 on three nodes");
    let limits = on_redis(&server, "d").await;
    let retry_after = wait(limits.take("x", "mary", rate).await);
    assert!(retry_after <= Duration::from_secs(72), "{retry_after:?}");
    let ttl: i64 = server.cli(&["pttl", &only_key(&server)]).trim().parse().unwrap();
    assert!((1..=3_600_000).contains(&ttl), "{ttl}");
}

fn only_key(server: &RedisServer) -> String {
    let keys = server.cli(&["keys", "*"]);
    let mut keys = keys.lines();
    let key = keys.next().unwrap().to_owned();
    assert_eq!(keys.next(), None);
    assert!(key.starts_with("us:t:{r") && !key.contains("mary"), "{key}");
    key
}

#[tokio::test(flavor = "multi_thread")]
async fn x5_without_redis_a_node_counts_on_its_own() {
    let mut server = RedisServer::start().await;
    let limits = on_redis(&server, "a").await;
    limits.take("x", "mary", THREE).await.unwrap();
    server.kill();
    let mut passed = 0;
    for _ in 0..10 {
        passed += usize::from(limits.take("x", "mary", THREE).await.is_ok());
    }
    assert_eq!(passed, 3, "as many as this node alone lets through");
}

#[test]
fn what_is_refused_says_when_to_come_again() {
    let refused = RateLimitError::Exceeded { retry_after: Duration::from_millis(1_200) };
    let answer = refused.error_response();
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers().get("retry-after").unwrap(), "2");
}
