//! Redis only: writes of many sessions leave together, and one key that holds no session spoils none of the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use understudy_runtime::ids::NodeId;
use understudy_session::record::{
    Change, Fence, Locator, OpId, RecentOps, Record, Seal, SecretHash, Token,
};
use understudy_session::store::conformance::Fixture as _;
use understudy_session::store::{SharedStore, StoreError, Write, WriteReply};

use crate::fixtures::OnRedis;

const HOUR: Duration = Duration::from_secs(3600);

struct Owned {
    locator: Locator,
    record: Record,
}

async fn session(store: &SharedStore, owner: &NodeId) -> Owned {
    let record = Record {
        owner: Some(Token::new(owner)),
        epoch: 1,
        version: 1,
        last_op: None,
        created_ms: 0,
        absolute_ms: u64::MAX >> 20,
        last_access_ms: 0,
        idle_ms: 3_600_000,
        user: None,
        secret: SecretHash([7; 32]),
        previous_secret: None,
        attributes: Arc::default(),
        recent: RecentOps::default(),
        unknown: BTreeMap::new(),
        seal: Seal::Open,
    };
    let locator = Locator::random();
    store.create(locator, &record, u64::try_from(HOUR.as_millis()).unwrap()).await.unwrap();
    Owned { locator, record }
}

impl Owned {
    /// Sets one attribute upon version 1.
    async fn write(&self, store: &SharedStore, value: &str) -> Result<WriteReply, StoreError> {
        let fence = Fence { token: self.record.owner.clone().unwrap(), epoch: 1 };
        let change = Change { set: vec![("n".into(), value.into())], ..Change::default() };
        let write = Write {
            locator: self.locator,
            fence: &fence,
            base_version: 1,
            op_id: OpId::random(),
            change: &change,
            after: &self.record,
        };
        store.write(write).await
    }
}

async fn sessions(store: &SharedStore, count: usize) -> Vec<Owned> {
    let owner = NodeId::begin("a".parse().unwrap());
    join_all((0..count).map(|_| session(store, &owner))).await
}

#[tokio::test]
async fn writes_that_wait_for_an_answer_leave_together() {
    const SESSIONS: usize = 500;
    let redis = OnRedis::start().await;
    let store = redis.store();
    let sessions = sessions(&store, SESSIONS).await;
    redis.command(&["CONFIG", "RESETSTAT"]).await;
    let replies = join_all(sessions.iter().map(|owned| owned.write(&store, "1"))).await;
    let written = |reply: &&Result<WriteReply, StoreError>| {
        matches!(reply, Ok(WriteReply::Written { version: 2, .. }))
    };
    assert_eq!(replies.iter().filter(written).count(), SESSIONS);
    let stats = redis.command(&["INFO", "commandstats"]).await;
    let calls: usize = stats
        .lines()
        .filter_map(|line| line.strip_prefix("cmdstat_eval"))
        .filter_map(|line| line.split_once("calls=")?.1.split(',').next()?.parse::<usize>().ok())
        .sum();
    println!("{SESSIONS} writes in {calls} script calls");
    assert!(calls <= 20, "64 fit into one flight: {stats}");
}

#[tokio::test]
async fn what_is_no_session_spoils_no_write_beside_it() {
    let redis = OnRedis::start().await;
    let store = redis.store();
    let sessions = sessions(&store, 40).await;
    let garbage = [("HSET", vec!["la", "x"]), ("HDEL", vec!["la"]), ("HSET", vec!["v", "1x"])];
    for (number, (command, fields)) in garbage.iter().enumerate() {
        let key = redis.key(sessions[number].locator);
        redis.command(&[&[*command, &*key], fields.as_slice()].concat()).await;
    }
    let text = redis.key(sessions[3].locator);
    redis.command(&["SET", &text, "no hash"]).await;
    let replies = join_all(sessions.iter().map(|owned| owned.write(&store, "1"))).await;
    for (number, reply) in replies.iter().enumerate() {
        let right = match number {
            0..4 => matches!(reply, Err(StoreError::Unreadable(_))),
            _ => matches!(reply, Ok(WriteReply::Written { version: 2, .. })),
        };
        assert!(right, "session {number}: {reply:?}");
    }
    let left = redis.command(&["HGET", &redis.key(sessions[1].locator), "a:n"]).await;
    assert_eq!(left.trim(), "", "what cannot be read is not half written");
}

#[tokio::test]
async fn a_full_server_refuses_all_writes_and_changes_none() {
    let redis = OnRedis::start().await;
    let store = redis.store();
    let sessions = sessions(&store, 40).await;
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let replies = join_all(sessions.iter().map(|owned| owned.write(&store, "1"))).await;
    for reply in &replies {
        assert!(
            matches!(reply, Err(StoreError::Refused(why)) if why.starts_with("OOM")),
            "{reply:?}"
        );
    }
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let replies = join_all(sessions.iter().map(|owned| owned.write(&store, "2"))).await;
    for reply in &replies {
        assert!(matches!(reply, Ok(WriteReply::Written { version: 2, .. })), "{reply:?}");
    }
}

#[tokio::test]
async fn a_silent_server_is_told_to_all_who_wait_within_the_time_of_a_command() {
    let redis = OnRedis::start().await;
    let store = redis.impatient().await;
    let sessions = sessions(&store, 300).await;
    redis.command(&["CLIENT", "PAUSE", "3000", "ALL"]).await;
    let began = tokio::time::Instant::now();
    let replies = join_all(sessions.iter().map(|owned| owned.write(&store, "1"))).await;
    let took = began.elapsed();
    let away =
        |reply: &&Result<WriteReply, StoreError>| matches!(reply, Err(StoreError::Unavailable(_)));
    assert_eq!(replies.iter().filter(away).count(), 300, "three flights, of which two never left");
    assert!(
        took < Duration::from_millis(1_500),
        "300 ms for a command, not for each flight: {took:?}"
    );
}
