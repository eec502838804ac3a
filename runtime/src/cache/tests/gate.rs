//! Values that are forgotten while a call is under way go together with the next one.

use futures_util::future::join_all;
use tokio::task::coop::unconstrained;

use super::*;

const KEYS: usize = 150;

/// How many scripts were called by their hashes so far.
fn calls(server: &RedisServer) -> u64 {
    let counted = server.cli(&["INFO", "commandstats"]);
    let line = counted.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    line.and_then(|rest| rest.split(',').next()).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_what_is_forgotten_while_a_call_is_under_way_goes_with_the_next_ones() {
    let server = RedisServer::start().await;
    // However long this machine takes, the server does not stand still for so long.
    let mut config = server.config();
    config.command_timeout = Duration::from_secs(30);
    let redis = Redis::connect(&config, Role::Data(0), &node("a")).await.unwrap();
    connected(&redis).await;
    let a = Seat::sharing(Seat::shared_over(redis, "a")).await;
    let mut b = Seat::on(&server, "b").await;
    let keys: Vec<String> = (0..KEYS).map(|number| format!("k{number}")).collect();
    for key in &keys {
        assert_eq!((a.get(key, 1).await, b.get(key, 2).await), (1, 1));
    }
    a.cache.forget("other").await.unwrap();
    let before = calls(&server);

    server.freeze();
    let mut gone = Box::pin(a.cache.forget(keys[0].as_str()));
    assert!(futures_util::poll!(gone.as_mut()).is_pending());
    let rest = keys[1..].iter().map(|key| a.cache.forget(key.as_str()));
    let mut all = Box::pin(unconstrained(join_all(rest)));
    assert!(futures_util::poll!(all.as_mut()).is_pending());
    drop(gone);
    server.thaw();
    assert!(all.await.iter().all(Result::is_ok));

    // What was there by then is on its way, so the others need two calls at most: 128 go with one.
    let calls = calls(&server) - before;
    assert!((1..=3).contains(&calls), "{calls} for {KEYS}");
    b.look().await;
    for key in &keys {
        assert_eq!(b.get(key, 3).await, 3, "{key}; also that of which nobody waits to hear");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_with_others_for_a_server_that_is_away_is_told_so_each() {
    let mut server = RedisServer::start().await;
    let a = Seat::on(&server, "a").await;
    a.cache.forget("k").await.unwrap();
    server.kill();
    let told = join_all(["k", "l", "m"].map(|key| a.cache.forget(key))).await;
    for told in &told {
        assert!(matches!(told, Err(error) if error.is_retryable()), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_region_has_in_redis_lasts_while_it_is_used_and_no_longer() {
    let server = RedisServer::start().await;
    let mut a = Seat::on(&server, "a").await;
    a.cache.forget("k").await.unwrap();
    let parts = ["us:t:{cprices}:h", "us:t:{cprices}:l"];
    let left = |part: &str| -> i64 { server.cli(&["PTTL", part]).trim().parse().unwrap() };
    let all: i64 = 7 * 86_400_000;
    let is_whole = |&part: &&str| (all - 60_000..=all).contains(&left(part));
    assert!(parts.iter().all(is_whole), "from the first entry on");
    let most_is_over = || {
        for part in parts {
            server.cli(&["PEXPIRE", part, "1000000"]);
        }
    };
    most_is_over();
    a.look().await;
    assert!(parts.iter().all(is_whole), "by looking");
    most_is_over();
    a.cache.forget("k").await.unwrap();
    assert!(parts.iter().all(is_whole), "by forgetting");
}
