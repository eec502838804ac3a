//! Values that are forgotten while a call is under way go together with the next one.

use futures_util::future::join_all;
use tokio::task::coop::unconstrained;

use super::*;

const KEYS: usize = 150;

/// How many scripts were called by their hashes so far.
pub(super) fn calls(server: &RedisServer) -> u64 {
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

    // What was there by then is on its way; of the others 32 go with each call at least, but for the last.
    let (calls, most) = (calls(&server) - before, 2 + KEYS.div_ceil(32) as u64);
    assert!((2..=most).contains(&calls), "{calls} for {KEYS}");
    b.look().await;
    for key in &keys {
        assert_eq!(b.get(key, 3).await, 3, "{key}; also that of which nobody waits to hear");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c7_a_change_that_cannot_be_noted_is_refused_alone() {
    let server = RedisServer::start().await;
    let (a, mut b) = (Seat::on(&server, "a").await, Seat::on(&server, "b").await);
    for key in ["k", "bad", "good"] {
        assert_eq!((a.get(key, 1).await, b.get(key, 2).await), (1, 1));
    }
    server.cli(&["SET", "us:t:{cprices}:b:bad", "no hash"]);
    let shared = a.cache.core.shared.as_ref().unwrap();
    let begins = (Step::Begin, "word");
    let notices = [("k", (Step::Once, "")), ("bad", begins), ("good", begins), ("bad", begins)]
        .map(|(key, step)| shared.notice(key, step, HOLD));
    let told = shared.forget_all(Vec::from(notices)).await;
    assert!(matches!(&told[..], [Ok(()), Err(_), Ok(()), Err(_)]), "{told:?}");
    assert_eq!(told[1].as_ref().unwrap_err().code(), Some("WRONGTYPE"));
    assert_eq!(server.cli(&["HEXISTS", "us:t:{cprices}:b:good", "word"]).trim(), "1");
    b.look().await;
    for key in ["k", "bad"] {
        assert_eq!(b.get(key, 3).await, 3, "{key} is forgotten all the same");
    }
    let change = |key: &'static str| a.cache.change_with(key, || ready(Ok::<(), Infallible>(())));
    let (bad, other) = tokio::join!(change("bad"), change("other"));
    assert!(matches!(bad, Err(ChangeError::NotBegun(_))), "{bad:?}");
    other.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_never_ended_are_swept_a_few_at_a_time() {
    let server = RedisServer::start().await;
    let shared = Seat::shared(&server, "a").await;
    let writers = "us:t:{cprices}:b:k";
    let mut dead = vec!["HSET".to_owned(), writers.to_owned()];
    dead.extend((0..1_000).flat_map(|number| [format!("dead-{number}"), "1".to_owned()]));
    let dead: Vec<&str> = dead.iter().map(String::as_str).collect();
    server.cli(&dead);
    let left = || -> u64 { server.cli(&["HLEN", writers]).trim().parse().unwrap() };
    assert_eq!(left(), 1_000);
    let ends = || shared.notice("k", (Step::End, "nobody's"), HOLD);
    let told = shared.forget_all((0..20).map(|_| ends()).collect()).await;
    assert!(told.iter().all(Result::is_ok), "{told:?}");
    assert_eq!(left(), 968, "once a call, however often its key is in it");
    shared.forget("k", (Step::Begin, "alive"), LIMIT * 30).await.unwrap();
    assert_eq!(left(), 937, "as many again, and one that lives");
    while left() > 1 {
        shared.forget("k", (Step::End, "nobody's"), HOLD).await.unwrap();
    }
    assert_eq!(server.cli(&["HEXISTS", writers, "alive"]).trim(), "1", "none that lives");
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
