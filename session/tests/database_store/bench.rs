//! A store on a database of its own, and records to put in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::ConnectionTrait as _;
use understudy_runtime::config::{
    DatabaseUrl, EncryptionConfig, EncryptionKey, EncryptionWrites, MigrateMode,
};
use understudy_runtime::database::Database;
use understudy_runtime::database::test_postgres::{TestPostgres, test_config};
use understudy_runtime::ids::{Bucket, NodeId};
use understudy_runtime::lease::database::DatabaseLeases;
use understudy_runtime::secret::Secret;
use understudy_session::record::{
    Attributes, Change, Locator, OpId, RecentOps, Record, Seal, SecretHash, Token,
};
use understudy_session::sealing::SealRing;
use understudy_session::store::database::{DatabaseStore, migrations};
use understudy_session::store::{ReadReply, SealedStore, SessionStore};

pub(crate) const LEASE: Duration = Duration::from_secs(3);
pub(crate) const HOUR_MS: u64 = 3_600_000;
pub(crate) const BUCKET: Bucket = Bucket(0);

#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) store: DatabaseStore,
    pub(crate) leases: DatabaseLeases,
    pub(crate) database: Database,
    _server: Option<TestPostgres>,
    _folder: tempfile::TempDir,
}

impl Bench {
    pub(crate) async fn run(&self, sql: &str) {
        let statement = self.database.backend().statement(sql, []);
        self.database.connection().execute_raw(statement).await.unwrap();
    }

    /// Asks again and again, for at most ten seconds, until a question has rows.
    pub(crate) async fn until(&self, what: &str, sql: &str) {
        for _ in 0..1_000 {
            let statement = self.database.backend().statement(sql, []);
            if self.database.connection().query_one_raw(statement).await.unwrap().is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not within 10 s: {what}");
    }
}

pub(crate) async fn open(url: DatabaseUrl) -> (Database, DatabaseStore, DatabaseLeases) {
    let database = Database::connect(&test_config(url)).await.unwrap();
    database.migrate(MigrateMode::Auto, &migrations(), &|_| {}).await.unwrap();
    let store = DatabaseStore::new(database.clone(), LEASE, Duration::ZERO);
    let leases = DatabaseLeases::new(database.clone());
    (database, store, leases)
}

pub(crate) async fn sqlite() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let url = DatabaseUrl::Sqlite(folder.path().join("sessions.sqlite3"));
    let (database, store, leases) = open(url).await;
    Bench { store, leases, database, _server: None, _folder: folder }
}

pub(crate) async fn postgres() -> Bench {
    let server = TestPostgres::start();
    let (database, store, leases) = open(server.config().url).await;
    let folder = tempfile::tempdir().unwrap();
    Bench { store, leases, database, _server: Some(server), _folder: folder }
}

/// A layer over `store` that seals with a key called `id`.
pub(crate) fn sealed(store: DatabaseStore, id: &str) -> SealedStore {
    let key = EncryptionKey { id: id.to_owned(), key: Secret::new([7; 32]) };
    let config = EncryptionConfig { keys: vec![key], writes: EncryptionWrites::Sealed };
    let ring = SealRing::new(&config, "shop");
    SealedStore::new(Arc::new(store.opening(ring.known())), ring)
}

pub(crate) fn node(name: &str) -> NodeId {
    format!("{name}#0000000000000001").parse().unwrap_or_else(|_| panic!("a node called {name}"))
}

pub(crate) fn record(owner: &Token) -> Record {
    let values =
        [("weird \"name\"\u{0}", "{\"a\" : 1.50, \"b\":[1e2,\"\\u00e9\\u0000\"]}"), ("n", "0")];
    Record {
        owner: Some(owner.clone()),
        epoch: 1,
        version: 1,
        last_op: Some(OpId(u64::MAX)),
        created_ms: 0,
        absolute_ms: 0,
        last_access_ms: 0,
        idle_ms: HOUR_MS,
        user: Some("Zoë \"x\" 'y'".into()),
        secret: SecretHash([7; 32]),
        previous_secret: Some((SecretHash([8; 32]), 12)),
        attributes: Arc::new(values.map(|(name, value)| (name.into(), value.into())).into()),
        recent: RecentOps::default(),
        unknown: BTreeMap::from([("from the future".into(), "kept".into())]),
        seal: Seal::Open,
    }
}

pub(crate) fn set(record: &Record, name: &str, value: &str) -> (Change, Record) {
    let change = Change { set: vec![(name.into(), value.into())], ..Change::default() };
    let mut after = record.clone();
    let attributes: &mut Attributes = Arc::make_mut(&mut after.attributes);
    attributes.insert(name.into(), value.into());
    (change, after)
}

pub(crate) async fn found(store: &dyn SessionStore, locator: Locator) -> Record {
    match store.read(locator).await.unwrap() {
        ReadReply::Found(record) => *record,
        other @ (ReadReply::Missing | ReadReply::Revoked) => panic!("{other:?}"),
    }
}
