use super::record::Entry;
use super::*;
use crate::clock::{Clock as _, SystemClock};
use crate::redis::Role;
use crate::redis::testing::{RedisServer, eventually, node};

fn spec() -> MembershipSpec {
    MembershipSpec {
        heartbeat: Duration::from_millis(200),
        ttl: Duration::from_millis(800),
        clock: SystemClock::shared(),
    }
}

async fn join(server: &RedisServer, name: &str) -> Result<Membership, JoinError> {
    let id = node(name);
    let redis = server.connect(Role::Data(0), &id).await;
    let keys = KeySpace::new(&"t".parse().unwrap(), 1);
    Membership::join(redis, &keys, record_for_test(id), spec()).await
}

fn live(membership: &Membership) -> Vec<String> {
    membership.live().iter().map(|id| id.name().to_string()).collect()
}

#[tokio::test]
async fn t2_nodes_find_each_other_by_redis_alone() {
    let server = RedisServer::start().await;
    let (a, b) = (join(&server, "a").await.unwrap(), join(&server, "b").await.unwrap());
    assert_eq!(live(&b), ["a", "b"], "who joins sees the others at once");
    eventually("a sees b", || live(&a) == ["a", "b"]).await;
    assert!(
        a.is_live(&b.own().id) && !a.is_live(&node("b")),
        "another life of the name is another node"
    );
    assert_eq!(a.members()[1].record, *b.own());
    assert!(!a.others_ready());
    b.set_state(MemberState::Ready);
    eventually("a sees the state", || a.others_ready()).await;
    assert!(!b.others_ready());
    b.leave().await;
    eventually("a sees that b left", || live(&a) == ["a"]).await;
}

#[tokio::test]
async fn a_node_knows_when_the_list_shows_what_it_has_told_and_when_it_does_not() {
    let mut server = RedisServer::start().await;
    let a = join(&server, "a").await.unwrap();
    a.set_state(MemberState::Draining);
    assert!(a.told(Duration::from_secs(10)).await);
    assert_eq!(a.members()[0].record.state, MemberState::Draining);
    server.kill();
    a.set_state(MemberState::Ready);
    assert!(!a.told(Duration::from_millis(300)).await, "there is no list that could show it");
    let alone = Membership::single(record_for_test(node("a")));
    alone.set_state(MemberState::Ready);
    assert!(alone.told(Duration::ZERO).await, "it is its own list");
}

#[tokio::test]
async fn t9_a_second_process_with_a_living_name_does_not_get_in_and_hears_who_has_it() {
    let server = RedisServer::start().await;
    let first = join(&server, "a").await.unwrap();
    let Err(JoinError::Duplicate { host, pid, since_ms }) = join(&server, "a").await else {
        panic!("it got in")
    };
    assert_eq!((host.as_str(), pid, since_ms), ("host-1", 42, 1_700_000_000_000));
    assert_eq!((live(&first), first.rival()), (vec!["a".to_owned()], None));
}

#[tokio::test]
async fn t9_before_it_joins_a_node_sees_whether_its_name_is_free() {
    let server = RedisServer::start().await;
    let (first, _other) = (join(&server, "a").await.unwrap(), join(&server, "b").await.unwrap());
    let (id, keys) = (node("a"), KeySpace::new(&"t".parse().unwrap(), 1));
    let redis = server.connect(Role::Data(0), &id).await;
    let mut holder = Holder::default();
    let error = loop {
        match Membership::look(&redis, &keys, (&id, spec().ttl), &mut holder).await {
            Ok(Some(others)) => panic!("it is not free: {others:?}"),
            Ok(None) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, JoinError::Duplicate { pid: 42, .. }), "{error}");
    drop(first); // as by kill -9: nobody leaves
    let mut holder = Holder::default();
    let others = loop {
        match Membership::look(&redis, &keys, (&id, spec().ttl), &mut holder).await {
            Ok(Some(others)) => break others,
            Ok(None) => tokio::time::sleep(Duration::from_millis(20)).await,
            // Its last report was under way.
            Err(_) => holder = Holder::default(),
        }
    };
    let others: Vec<&str> = others.iter().map(|it| it.record.id.name().as_str()).collect();
    assert_eq!(others, ["b"]);
}

#[tokio::test]
async fn t9_a_note_of_who_did_not_get_in_is_read_by_all_and_kept_once() {
    let server = RedisServer::start().await;
    let (a, b) = (join(&server, "a").await.unwrap(), join(&server, "b").await.unwrap());
    assert_eq!(a.notes(), []);
    let note = |why: &str| Note::about(&a.own(), NoteKind::DuplicateNode, why);
    for why in ["first", "second"] {
        a.leave_note(&note(why)).await;
    }
    a.leave_note(&Note { node: "c|d".to_owned(), ..note("x|{\"id\"}") }).await;
    eventually("b reads them", || b.notes().len() == 2).await;
    let notes = b.notes();
    let read = notes.iter().find(|read| read.node == "a").unwrap();
    assert_eq!((read.why.as_str(), read.pid, read.host.as_str()), ("second", 42, "host-1"));
    assert!(read.at_ms > 1_700_000_000_000);
    assert_eq!(live(&b), ["a", "b"], "a note is no node");
    // One that is too old counts no more, and is swept when the next is written.
    let old = format!("{}|0|{}", read.at_ms - 600_001, r#"{"note":{}}"#);
    server.cli(&["hset", "us:t:{m}:nodes", "!wrong_secret:z", &old]);
    a.leave_note(&note("third")).await;
    assert!(!server.cli(&["hkeys", "us:t:{m}:nodes"]).contains("!wrong_secret:z"));
}

#[tokio::test]
async fn k12_notes_are_bounded() {
    let server = RedisServer::start().await;
    let a = join(&server, "a").await.unwrap();
    for number in 0..70 {
        let note = Note::about(&a.own(), NoteKind::ConfigDrift, "why");
        a.leave_note(&Note { node: format!("n{number}"), ..note }).await;
    }
    assert_eq!(server.cli(&["hlen", "us:t:{m}:nodes"]).trim(), "65", "64 and the node itself");
}

#[tokio::test]
async fn the_clock_of_the_server_is_known_from_the_reports() {
    let server = RedisServer::start().await;
    let a = join(&server, "a").await.unwrap();
    let (server_ms, _) = a.server_time().unwrap();
    assert!(server_ms.abs_diff(SystemClock.wall_ms()) < 5_000);
    assert_eq!(Membership::single(record_for_test(node("a"))).server_time(), None);
}

#[tokio::test]
async fn o4_the_name_of_a_process_that_died_is_free_after_its_time_to_live() {
    let server = RedisServer::start().await;
    let dead = join(&server, "a").await.unwrap();
    let watcher = join(&server, "b").await.unwrap();
    let id = dead.own().id.clone();
    drop(dead); // as by kill -9: nobody leaves
    let begin = tokio::time::Instant::now();
    let next = join(&server, "a").await.unwrap();
    assert!(begin.elapsed() < Duration::from_millis(1500), "{:?}", begin.elapsed());
    assert_ne!(next.own().id, id);
    eventually("others see the new life", || {
        watcher.is_live(&next.own().id) && !watcher.is_live(&id)
    })
    .await;
}

#[tokio::test]
async fn who_left_is_replaced_at_once() {
    let server = RedisServer::start().await;
    join(&server, "a").await.unwrap().leave().await;
    let begin = tokio::time::Instant::now();
    join(&server, "a").await.unwrap();
    assert!(begin.elapsed() < Duration::from_millis(400), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_node_whose_name_was_taken_while_it_stood_still_says_so_and_takes_nothing_back() {
    let server = RedisServer::start().await;
    let slow = join(&server, "a").await.unwrap();
    let rival = format!(
        "{}|0|{}",
        u64::MAX / 4,
        serde_json::to_string(&record_for_test(node("a"))).unwrap()
    );
    server.cli(&["hset", "us:t:{m}:nodes", "a", &rival]);
    eventually("it says so", || slow.rival().is_some_and(|rival| rival.contains("pid 42"))).await;
    slow.leave().await;
    assert_eq!(server.cli(&["hget", "us:t:{m}:nodes", "a"]).trim(), rival);
}

#[tokio::test]
async fn k5_the_list_ages_during_an_outage_and_comes_back_after_it() {
    let mut server = RedisServer::start().await;
    let (a, b) = (join(&server, "a").await.unwrap(), join(&server, "b").await.unwrap());
    a.set_state(MemberState::Ready);
    eventually("b sees a ready", || b.others_ready()).await;
    server.kill();
    eventually("b does not count on a any more", || !b.others_ready() && live(&b) == ["b"]).await;
    server.launch().await;
    eventually("both are there again", || live(&b) == ["a", "b"] && b.others_ready()).await;
}

#[tokio::test]
async fn a_node_knows_when_all_others_know_it() {
    let server = RedisServer::start().await;
    let a = join(&server, "a").await.unwrap();
    eventually("there is nobody else", || a.known_to_all()).await;
    let b = join(&server, "b").await.unwrap();
    let knows = |text: &str| {
        // a's entry says of which moment the list is that a knows
        let entry = Entry::parse(text.trim()).unwrap();
        entry.view_ms
    };
    eventually("b is known", || b.known_to_all()).await;
    let joined = b.shared.cluster.as_ref().unwrap().joined_ms;
    assert!(knows(&server.cli(&["hget", "us:t:{m}:nodes", "a"])) >= joined);
    assert_eq!(b.others(), None, "too new to be sure that it knows all");
    eventually("b is sure", || b.others() == Some(vec![a.own().id.clone()])).await;
}

#[tokio::test]
async fn k12_nodes_that_are_long_gone_are_swept() {
    let server = RedisServer::start().await;
    let old = format!("1|0|{}", serde_json::to_string(&record_for_test(node("old"))).unwrap());
    server.cli(&["hset", "us:t:{m}:nodes", "old", &old, "garbage", "from a later version"]);
    let a = join(&server, "a").await.unwrap();
    eventually("only a is left", || server.cli(&["hkeys", "us:t:{m}:nodes"]).trim() == "a").await;
    assert_eq!(live(&a), ["a"]);
}

#[test]
fn a_node_that_is_alone_is_its_only_member() {
    let alone = Membership::single(record_for_test(node("a")));
    assert_eq!(live(&alone), ["a"]);
    assert!(!alone.others_ready() && alone.known_to_all() && alone.rival().is_none());
    alone.set_state(MemberState::Draining);
    assert_eq!(alone.members()[0].record.state, MemberState::Draining);
}
