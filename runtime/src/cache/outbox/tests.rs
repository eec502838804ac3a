//! Transactions on a real PostgreSQL, told through a real Redis; relays are stepped by hand.

use std::convert::Infallible;
use std::future::ready;

use sea_orm::{DatabaseExecutor, TransactionTrait as _};

use super::relay::{Look, Relay};
use super::*;
use crate::bus::{Bus, LocalHub, Targets};
use crate::cache::{Caches, Caught, Region};
use crate::clock::SystemClock;
use crate::config::{DatabaseUrl, MigrateMode};
use crate::database::Backend;
use crate::database::test_postgres::{TestPostgres, test_config};
use crate::keys::KeySpace;
use crate::redis::Role;
use crate::redis::testing::{RedisServer, node};
use crate::service::Health;

/// Nothing ends by itself while a test runs.
const PRICES: Region = Region::new("prices").lives(Duration::from_secs(600));
const LIMIT: Duration = Duration::from_secs(10);

struct Node {
    caches: Caches,
    cache: Cache<str, i64>,
    relay: Relay,
}

impl Node {
    async fn on(server: &RedisServer, database: &Database, name: &str) -> Self {
        let redis = server.connect(Role::Data(0), &node(name)).await;
        let keys = Arc::new(KeySpace::new(&"t".parse().unwrap(), redis.buckets()));
        let bus = Bus::local(&LocalHub::new(), node(name));
        let nodes: Targets = Arc::new(Vec::new);
        let caches = Caches::among(Some((redis, keys)), (&bus, nodes), &SystemClock::shared());
        let one = Self::of(caches, database);
        assert!(matches!(one.caches.caught_up("prices", LIMIT).await, Caught::Up(_)));
        one
    }

    fn of(caches: Caches, database: &Database) -> Self {
        let cache: Cache<str, i64> = caches.open(PRICES).unwrap();
        let relay = Relay::new(&caches, database);
        Self { caches, cache, relay }
    }

    /// Asks for a value, when all that was told has been heard; what is given is what is loaded if it has to be.
    async fn get(&self, key: &str, loaded: i64) -> i64 {
        assert_ne!(self.caches.caught_up("prices", LIMIT).await, Caught::Unopened);
        *self.cache.get_with(key, || ready(Ok::<i64, Infallible>(loaded))).await.unwrap()
    }

    /// Looks what transactions left behind; returns how much was told.
    async fn look(&mut self) -> usize {
        let Look { told, left, .. } = self.relay.look().await.unwrap();
        assert_eq!(left, 0, "something could not be told");
        told
    }
}

struct Stage {
    redis: RedisServer,
    _postgres: TestPostgres,
    database: Database,
    a: Node,
    b: Node,
}

impl Stage {
    async fn start() -> Self {
        let (redis, postgres) = (RedisServer::start().await, TestPostgres::start());
        let database = Database::connect(&postgres.config()).await.unwrap();
        database.migrate(MigrateMode::Auto, &[], &|_| {}).await.unwrap();
        let a = Node::on(&redis, &database, "a").await;
        let b = Node::on(&redis, &database, "b").await;
        Self { redis, _postgres: postgres, database, a, b }
    }

    /// Fills both memories, and finds that they give it.
    async fn fill(&self, key: &str, value: i64) {
        assert_eq!(self.a.get(key, value).await, value);
        assert_eq!(self.b.get(key, value + 1_000).await, value);
    }

    /// How many things were forgotten so far.
    fn entries(&self) -> u64 {
        self.redis.cli(&["HGET", "us:t:{cprices}:h", "seq"]).trim().parse().unwrap()
    }

    /// Does something as another program does: with its own rights, which reach no table of ours.
    async fn elsewhere(&self, sql: &str, end: &str) {
        let sql = format!("BEGIN; SET LOCAL ROLE other; {sql}; {end}");
        self.database.connection().execute_unprepared(&sql).await.unwrap();
    }

    async fn with_a_table_of_another_program(&self) {
        let sql = "CREATE TABLE price (article text PRIMARY KEY, cents bigint NOT NULL); \
            INSERT INTO price VALUES ('k', 1), ('l', 1), ('m', 1); \
            CREATE TRIGGER price_changed AFTER INSERT OR UPDATE OR DELETE ON price \
            FOR EACH ROW EXECUTE FUNCTION understudy_cache_changed('prices', 'article'); \
            CREATE TRIGGER price_emptied AFTER TRUNCATE ON price \
            FOR EACH STATEMENT EXECUTE FUNCTION understudy_cache_changed('prices'); \
            CREATE ROLE other; GRANT ALL ON price TO other";
        self.database.connection().execute_unprepared(sql).await.unwrap();
    }

    /// Ends the connection of whoever listens, as soon as there is one.
    async fn cut_off_the_listener(&self) {
        let cut_off = async {
            let sql = format!("SELECT count(pg_terminate_backend(pid)) {LISTENERS}");
            while count(&self.database, &sql).await == 0 {}
        };
        tokio::time::timeout(LIMIT, cut_off).await.expect("somebody listens");
    }

    /// Waits until so many listen: one looks every 5 s whether it need do so.
    async fn listeners(&self, wanted: i64) {
        let sql = format!("SELECT count(*) {LISTENERS}");
        let are_so_many = async {
            while count(&self.database, &sql).await != wanted {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LIMIT * 3, are_so_many).await.expect("as many as that listen");
    }
}

/// The connections of those who listen.
const LISTENERS: &str = "FROM pg_stat_activity \
    WHERE query LIKE 'LISTEN %' OR query = 'SELECT ''listens'''";

async fn count(database: &Database, sql: &str) -> i64 {
    let query = database.backend().statement(sql, []);
    database.connection().query_one_raw(query).await.unwrap().unwrap().try_get_by(0).unwrap()
}

async fn waiting(database: &Database) -> i64 {
    count(database, "SELECT CAST(count(*) AS bigint) FROM us_cache_outbox").await
}

#[tokio::test(flavor = "multi_thread")]
async fn c7_what_a_transaction_changed_is_forgotten_if_it_is_committed_and_only_then() {
    let mut stage = Stage::start().await;
    stage.fill("k", 1).await;
    let before = stage.entries();
    let transaction = stage.database.connection().begin().await.unwrap();
    let written = stage.a.cache.forget_in(&transaction, "k").await.unwrap();
    assert_eq!(stage.b.look().await, 0, "it may still be rolled back");
    transaction.rollback().await.unwrap();
    drop(written);
    assert_eq!((stage.a.look().await, stage.b.look().await), (0, 0));
    assert_eq!(stage.entries(), before, "a transaction that was rolled back forgot something");
    assert_eq!((stage.a.get("k", 2).await, stage.b.get("k", 2).await), (1, 1));
    let transaction = stage.database.connection().begin().await.unwrap();
    let written = stage.a.cache.forget_in(&transaction, "k").await.unwrap();
    transaction.commit().await.unwrap();
    written.committed().await.unwrap();
    assert_eq!((stage.a.get("k", 3).await, stage.b.get("k", 4).await), (3, 3));
    assert_eq!(stage.entries(), before + 1);
    assert_eq!(waiting(&stage.database).await, 0, "it was told");
}

#[tokio::test(flavor = "multi_thread")]
async fn c7_what_a_writer_that_died_has_committed_is_told_by_others_once() {
    let mut stage = Stage::start().await;
    let before = stage.entries();
    let transaction = stage.database.connection().begin().await.unwrap();
    for key in 0..50 {
        stage.fill(&key.to_string(), key).await;
        let written = stage.a.cache.forget_in(&transaction, &key.to_string()).await.unwrap();
        // As who dies leaves it: nobody is told.
        std::mem::forget(written);
    }
    transaction.commit().await.unwrap();
    assert_eq!(waiting(&stage.database).await, 50);
    let (a, b) = tokio::join!(stage.a.look(), stage.b.look());
    assert_eq!(a + b, 50);
    assert_eq!(stage.entries(), before + 50, "nobody told what another one had in hand");
    assert_eq!(waiting(&stage.database).await, 0);
    for key in 0..50 {
        assert_eq!(stage.b.get(&key.to_string(), key + 100).await, key + 100);
    }
    assert_eq!((stage.a.look().await, stage.entries()), (0, before + 50));
}

#[tokio::test(flavor = "multi_thread")]
async fn c7_rows_in_the_hand_of_a_node_that_dies_are_told_by_another() {
    let mut stage = Stage::start().await;
    stage.fill("k", 1).await;
    for forget in ["k", "other"] {
        let on = stage.database.connection();
        drop(stage.a.cache.forget_in(on, forget).await.unwrap());
    }
    let dying = stage.database.connection().begin().await.unwrap();
    let all = table::Pick::AllBut(Vec::new());
    let picked = table::pick(&DatabaseExecutor::Transaction(&dying), Backend::Postgres, &all).await;
    assert_eq!(picked.unwrap().len(), 2);
    assert_eq!(stage.b.look().await, 0, "somebody has them in hand");
    dying.rollback().await.unwrap();
    assert_eq!(stage.b.look().await, 2);
    assert_eq!((stage.a.get("k", 2).await, stage.b.get("k", 3).await), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn c7_what_cannot_be_told_waits_until_it_can() {
    let mut stage = Stage::start().await;
    stage.fill("k", 1).await;
    stage.redis.kill();
    let database = stage.database.clone();
    let written = stage.a.cache.forget_in(database.connection(), "k").await.unwrap();
    let untold = written.committed().await;
    assert!(matches!(untold, Err(ForgetError::Untold(_))), "{untold:?}");
    let look = stage.b.relay.look().await.unwrap();
    assert!(look.told == 0 && look.left > 0, "{look:?}");
    assert_eq!(waiting(&database).await, 1);
    assert!(stage.b.caches.inner.outbox.stuck.load(Ordering::Relaxed) > 0);
    stage.redis.launch().await;
    let (redis, _) = stage.b.caches.inner.redis.clone().unwrap();
    tokio::time::timeout(LIMIT, redis.connects().wait_for(|connects| *connects > 1))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stage.b.look().await, 1);
    assert_eq!((waiting(&database).await, stage.b.look().await), (0, 0));
    assert_eq!(stage.b.caches.inner.outbox.stuck.load(Ordering::Relaxed), 0);
    assert!(stage.b.caches.findings().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn c7_a_region_that_cannot_be_told_holds_up_no_other() {
    let mut stage = Stage::start().await;
    stage.fill("k", 1).await;
    // As by a shard of a Redis Cluster that is out of order: whatever is asked of that region is refused.
    let head = "us:t:{codd}:h";
    stage.redis.cli(&["SET", head, "no hash"]);
    let many = "INSERT INTO us_cache_outbox (region, kind, key, keep_ms, at_ms) \
        SELECT 'odd', 'k', n, 0, 0 FROM generate_series(1, 1100) AS n";
    stage.database.connection().execute_unprepared(many).await.unwrap();
    let on = stage.database.connection();
    drop(stage.a.cache.forget_in(on, "k").await.unwrap());
    let look = stage.b.relay.look().await.unwrap();
    assert_eq!((look.told, look.is_part), (0, true), "those that have waited for longer: {look:?}");
    let look = stage.b.relay.look().await.unwrap();
    assert!(look.told == 1 && look.left > 0, "{look:?}");
    let outbox = &stage.b.caches.inner.outbox;
    assert_eq!(**outbox.regions.load(), ["odd"], "it is named");
    assert_eq!((stage.a.get("k", 2).await, stage.b.get("k", 3).await), (2, 2));
    assert_eq!(waiting(&stage.database).await, 1_100, "nothing of it is lost");
    stage.redis.cli(&["DEL", head]);
    let (mut told, database) = (0, stage.database.clone());
    let is_told = async {
        while waiting(&database).await > 0 {
            // It answers again, slowly, but in time.
            stage.redis.cli(&["CLIENT", "PAUSE", "400", "WRITE"]);
            told += stage.b.relay.look().await.unwrap().told;
        }
    };
    tokio::time::timeout(LIMIT, is_told).await.expect("it is told when it can be");
    assert_eq!((told, stage.b.look().await), (1_100, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn c7_tags_and_regions_are_forgotten_by_transactions_too() {
    let mut stage = Stage::start().await;
    let tagged = async |node: &Node, loaded: i64| {
        let load = || ready(Ok::<i64, Infallible>(loaded));
        assert_ne!(node.caches.caught_up("prices", LIMIT).await, Caught::Unopened);
        *node.cache.get_tagged("t", &["x"], load).await.unwrap()
    };
    stage.fill("k", 1).await;
    assert_eq!((tagged(&stage.a, 1).await, tagged(&stage.b, 2).await), (1, 1));
    let on = stage.database.connection();
    drop(stage.a.cache.forget_tag_in(on, "x").await.unwrap());
    assert_eq!(stage.b.look().await, 1);
    assert_eq!((tagged(&stage.b, 3).await, tagged(&stage.a, 4).await), (3, 3));
    assert_eq!(stage.a.get("k", 5).await, 1, "it carries no tag");
    let on = stage.database.connection();
    drop(stage.a.cache.clear_in(on).await.unwrap());
    assert_eq!(stage.b.look().await, 1);
    assert_eq!((stage.b.get("k", 6).await, tagged(&stage.a, 7).await), (6, 7));
    let on = stage.database.connection();
    let bad = stage.a.cache.forget_in(on, "").await;
    assert!(matches!(bad, Err(OutboxError::BadKey(BadKey { bytes: 0 }))), "{bad:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c6_what_another_program_changes_is_forgotten_by_the_trigger() {
    let mut stage = Stage::start().await;
    stage.with_a_table_of_another_program().await;
    for key in ["k", "l", "m"] {
        stage.fill(key, 1).await;
    }
    let update = "UPDATE price SET cents = 2 WHERE article = 'k'";
    stage.elsewhere(update, "ROLLBACK").await;
    assert_eq!((waiting(&stage.database).await, stage.b.look().await), (0, 0));
    stage.elsewhere(update, "COMMIT").await;
    assert_eq!(stage.b.look().await, 1);
    assert_eq!((stage.a.get("k", 2).await, stage.b.get("k", 3).await), (2, 2));
    assert_eq!(stage.a.get("l", 3).await, 1, "nobody changed it");
    stage.elsewhere("UPDATE price SET article = 'n' WHERE article = 'l'", "COMMIT").await;
    assert_eq!(stage.a.look().await, 2, "what it was, and what it is");
    assert_eq!((stage.a.get("l", 4).await, stage.a.get("m", 4).await), (4, 1));
    stage.elsewhere("TRUNCATE price", "COMMIT").await;
    assert_eq!(stage.a.look().await, 1);
    assert_eq!((stage.b.get("m", 5).await, stage.b.get("k", 5).await), (5, 5));
    // As many as are not worth telling one by one.
    let before = stage.entries();
    let many = "INSERT INTO price SELECT 'n' || n, n FROM generate_series(1, 900) AS n";
    stage.elsewhere(many, "COMMIT").await;
    assert_eq!((stage.a.look().await, stage.entries()), (900, before + 1));
    assert_eq!(stage.a.get("k", 6).await, 6, "all of the region was emptied");
    let wrong = "CREATE TABLE odd (a bigint); CREATE TRIGGER odd AFTER INSERT ON odd \
        FOR EACH ROW EXECUTE FUNCTION understudy_cache_changed('prices', 'no_such_column'); \
        GRANT ALL ON odd TO other";
    stage.database.connection().execute_unprepared(wrong).await.unwrap();
    stage.elsewhere("INSERT INTO odd VALUES (1)", "COMMIT").await;
    assert_eq!(stage.a.look().await, 1);
    assert_eq!(stage.a.get("k", 7).await, 7, "all of the region, rather than nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn c6_who_listens_hears_at_once_and_who_was_cut_off_finds_it_all_the_same() {
    let stage = Stage::start().await;
    stage.with_a_table_of_another_program().await;
    let _tasks = stage.b.caches.relay(&stage.database);
    for round in 1..=3 {
        stage.fill("k", round).await;
        stage.cut_off_the_listener().await;
        let update = format!("UPDATE price SET cents = {round} WHERE article = 'k'");
        stage.elsewhere(&update, "COMMIT").await;
        let is_told = async { while waiting(&stage.database).await > 0 {} };
        tokio::time::timeout(LIMIT, is_told).await.expect("it is found without being heard of");
        assert_eq!(stage.a.get("k", round + 1).await, round + 1);
        stage.a.cache.forget("k").await.unwrap();
    }
    stage.cut_off_the_listener().await;
    assert!(stage.b.caches.findings().is_empty(), "it was mended before anybody had to know");
    stage.listeners(1).await;
    stage.database.connection().execute_unprepared("DROP TABLE price").await.unwrap();
    stage.listeners(0).await;
    let deaf = stage.b.caches.inner.outbox.deaf.load(Ordering::Relaxed);
    assert_eq!(deaf, 0, "there is nothing that it would have to hear");
}

#[tokio::test]
async fn a_problem_is_told_when_something_was_wrong_for_long_and_only_while_it_is() {
    let (mark, second) = (AtomicU64::new(0), Duration::from_secs(1));
    let at = |seconds: u32| BootInstant::default() + second * (100 + seconds);
    assert!(!Outbox::is_since(&mark, second, at(9)));
    Outbox::since(&mark, at(0));
    Outbox::since(&mark, at(5));
    assert!(!Outbox::is_since(&mark, second * 6, at(5)));
    assert!(Outbox::is_since(&mark, second * 6, at(6)), "the first time counts");
    mark.store(0, Ordering::Relaxed);
    assert!(!Outbox::is_since(&mark, second, at(9)));
    let bus = Bus::local(&LocalHub::new(), node("a"));
    let nodes: Targets = Arc::new(Vec::new);
    let caches = Caches::among(None, (&bus, nodes), &SystemClock::shared());
    let codes = || -> Vec<String> {
        caches.findings().iter().map(|finding| finding.code.to_string()).collect()
    };
    assert!(codes().is_empty());
    assert_eq!(caches.health(), Health::Ready);
    let outbox = &caches.inner.outbox;
    // Since the machine began.
    outbox.stuck.store(1, Ordering::Relaxed);
    outbox.deaf.store(1, Ordering::Relaxed);
    outbox.regions.store(Arc::new(vec!["prices".to_owned()]));
    assert_eq!(codes(), ["cache_outbox_stuck", "cache_bridge_lost"]);
    let text = caches.findings().remove(0).text;
    assert!(text.contains("regions: prices"), "{text}");
    outbox.stuck.store(0, Ordering::Relaxed);
    assert_eq!(codes(), ["cache_bridge_lost"]);
    let health = caches.health();
    let is_degraded = matches!(&health, Health::Degraded(why) if why.contains("once a second"));
    assert!(
        is_degraded,
        "what other programs change is found later, which stops no node: {health:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn c7_on_a_node_without_a_cluster_transactions_forget_in_its_memory() {
    let folder = tempfile::tempdir().unwrap();
    let url = DatabaseUrl::Sqlite(folder.path().join("understudy.sqlite3"));
    let database = Database::connect(&test_config(url)).await.unwrap();
    database.migrate(MigrateMode::Auto, &[], &|_| {}).await.unwrap();
    let bus = Bus::local(&LocalHub::new(), node("a"));
    let nodes: Targets = Arc::new(Vec::new);
    let caches = Caches::among(None, (&bus, nodes), &SystemClock::shared());
    let mut alone = Node::of(caches, &database);
    let change = |fails: bool| {
        let cache = alone.cache.clone();
        database.transaction(move |on| {
            let cache = cache.clone();
            Box::pin(async move {
                let written = cache.forget_in(on, "k").await?;
                if fails {
                    Err(DbErr::Custom("as a test wants it".to_owned()))
                } else {
                    Ok(written)
                }
            })
        })
    };
    assert_eq!(alone.get("k", 1).await, 1);
    assert!(change(true).await.is_err());
    assert_eq!((waiting(&database).await, alone.get("k", 2).await), (0, 1));
    change(false).await.unwrap().committed().await.unwrap();
    assert_eq!((waiting(&database).await, alone.get("k", 3).await), (0, 3));
    drop(change(false).await.unwrap());
    assert_eq!(alone.look().await, 1, "nobody said that it was committed");
    assert_eq!((waiting(&database).await, alone.get("k", 4).await), (0, 4));
}
