//! Builds what the services of a node stand on, in the order in which one part needs the other.
//!
//! Nothing here gives up because a server is away: it waits, tells readiness what for, and goes on. Only what an
//! operator must put right ends the start.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sea_orm_migration::MigrationTrait;
use tracing::{info, warn};

use super::error::{connect_error, database_error, join_error};
use super::{Lifecycle, NodeError};
use crate::actors::Actors;
use crate::admin::{AdminPort, Audit};
use crate::broadcast::Broadcast;
use crate::bus::{BUS, Bus, LocalHub};
use crate::cache::Caches;
use crate::clock::{SharedClock, SystemClock};
use crate::config::{Config, MigrateMode, RedisConfig, StoreKind};
use crate::database::{
    Backend, DataDirLock, Database, DatabaseError, MigrateProgress, Migrations, Presence,
    PresenceLock,
};
use crate::duty::Duties;
use crate::error::chain;
use crate::events::Events;
use crate::http::Maintenance;
use crate::ids::NodeId;
use crate::keys::KeySpace;
use crate::lease::database::DatabaseLeases;
use crate::lease::{LEASE, LeaseHandle, LeaseSpec, LeaseStore, RedisLeases};
use crate::lock::ClusterLocks;
use crate::membership::{
    Holder, JoinError, MemberRecord, Membership, MembershipSpec, Note, NoteKind,
};
use crate::problems::judge_admission;
use crate::problems::options::Comparing;
use crate::rate_limit::RateLimits;
use crate::redis::{Redis, Role};
use crate::service::NodeContext;
use crate::settings::{Settings, SettingsTools};
use crate::supervise::Backoff;

/// What is known of a node before anything is connected; a cheap clone.
#[derive(Clone)]
pub(super) struct Base {
    pub(super) config: Arc<Config>,
    pub(super) node_id: NodeId,
    pub(super) clock: SharedClock,
    pub(super) lifecycle: Lifecycle,
    pub(super) admin: AdminPort,
    pub(super) events: Events,
    pub(super) maintenance: Maintenance,
    pub(super) migrations: Migrations,
    pub(super) actors: Actors,
}

/// What the services stand on, and what must be held for as long as they run.
pub(super) struct Assembled {
    pub(super) context: NodeContext,
    pub(super) held: Held,
}

/// Locks that end with the node.
#[derive(Debug)]
pub(super) struct Held {
    _data_dir: Option<DataDirLock>,
    pub(super) presence: PresenceLock,
}

impl Base {
    /// Begins a life of the node.
    pub(super) fn new(config: Config) -> Self {
        let clock = SystemClock::shared();
        Self {
            node_id: NodeId::begin(config.node.id.clone()),
            admin: AdminPort::new(&config, Audit::unwritten(), Arc::clone(&clock)),
            events: Events::new(Arc::clone(&clock)),
            maintenance: Maintenance::new(&config, Arc::clone(&clock)),
            actors: Actors::new(&clock),
            config: Arc::new(config),
            clock,
            lifecycle: Lifecycle::starting(),
            migrations: Migrations::default(),
        }
    }

    /// Connects, migrates, joins: everything but the services.
    pub(super) async fn assemble(
        &self,
        record: MemberRecord,
        migrations: &[Box<dyn MigrationTrait>],
    ) -> Result<Assembled, NodeError> {
        if self.config.cluster.enabled {
            Box::pin(self.assemble_in_cluster(record, migrations)).await
        } else {
            Box::pin(self.assemble_embedded(record, migrations)).await
        }
    }

    async fn assemble_embedded(
        &self,
        record: MemberRecord,
        migrations: &[Box<dyn MigrationTrait>],
    ) -> Result<Assembled, NodeError> {
        let lock = DataDirLock::acquire(&self.config.node.data_dir)
            .map_err(|error| database_error(&error))?;
        let (database, presence) =
            Box::pin(self.open_database(Presence::Alone, migrations)).await?;
        let membership = Membership::single(record);
        let bus = Bus::local(&LocalHub::new(), self.node_id.clone());
        bus.count_for(self.actors.probe(&BUS));
        let locks = ClusterLocks::new(&database, &bus, &membership, &self.clock);
        if database.backend() == Backend::Sqlite {
            // The lock says that nobody else lives; what an earlier life left behind can be taken at once.
            let leases = DatabaseLeases::new(database.clone());
            leases.clear_all().await.map_err(|error| NodeError::Failed(chain(&error)))?;
            locks.free_all().await.map_err(|error| NodeError::Failed(chain(&error)))?;
        }
        let settings = self.settings(&database, (&bus, &membership));
        let caches = Caches::new(None, (&bus, &membership), &self.clock);
        let context = NodeContext {
            config: Arc::clone(&self.config),
            node_id: self.node_id.clone(),
            clock: Arc::clone(&self.clock),
            keys: Arc::new(KeySpace::new(&self.config.cluster.name, 1)),
            redis: None,
            lease_redis: None,
            lease: LeaseHandle::always(),
            membership,
            bus,
            database,
            locks,
            rate_limits: RateLimits::new(None, &self.clock),
            caches,
            duties: Duties::default(),
            settings,
            events: self.events.clone(),
            maintenance: self.maintenance.clone(),
            actors: self.actors.clone(),
            lifecycle: self.lifecycle.clone(),
            admin: self.admin.clone(),
        };
        Ok(Assembled { context, held: Held { _data_dir: Some(lock), presence } })
    }

    async fn assemble_in_cluster(
        &self,
        record: MemberRecord,
        migrations: &[Box<dyn MigrationTrait>],
    ) -> Result<Assembled, NodeError> {
        // The options were checked: a cluster has a Redis.
        let missing =
            || NodeError::Configuration("UNDERSTUDY_REDIS_URL is required in a cluster".to_owned());
        let redis_config = self.config.redis.as_ref().ok_or_else(missing)?;
        let redis = self.connect(redis_config, Role::Data(0)).await?;
        let lease_redis = self.lease_redis(redis_config, &redis).await?;
        let buckets = lease_redis.as_ref().map_or(1, Redis::buckets);
        let keys = KeySpace::new(&self.config.cluster.name, buckets);
        let (bus, members) = self.start_bus(redis_config, &keys).await?;
        // Before anything is changed for those who are there: one that must not join has not migrated either.
        Box::pin(self.ask_to_join((&redis, &keys), &bus, &record)).await?;
        let (database, presence) =
            Box::pin(self.open_database(Presence::Cluster, migrations)).await?;
        let membership = self.join(redis.clone(), &keys, record).await?;
        members.get_or_init(|| membership.clone());
        let lease = self.start_leases(&keys, &membership, &database).await?;
        let locks = ClusterLocks::new(&database, &bus, &membership, &self.clock);
        let settings = self.settings(&database, (&bus, &membership));
        let keys = Arc::new(keys);
        let shared = Some((redis.clone(), Arc::clone(&keys)));
        let caches = Caches::new(shared.clone(), (&bus, &membership), &self.clock);
        let context = NodeContext {
            config: Arc::clone(&self.config),
            node_id: self.node_id.clone(),
            clock: Arc::clone(&self.clock),
            keys,
            redis: Some(redis),
            lease_redis,
            lease,
            membership,
            bus,
            database,
            locks,
            rate_limits: RateLimits::new(shared, &self.clock),
            caches,
            duties: Duties::default(),
            settings,
            events: self.events.clone(),
            maintenance: self.maintenance.clone(),
            actors: self.actors.clone(),
            lifecycle: self.lifecycle.clone(),
            admin: self.admin.clone(),
        };
        Ok(Assembled { context, held: Held { _data_dir: None, presence } })
    }

    fn settings(&self, database: &Database, (bus, membership): (&Bus, &Membership)) -> Settings {
        let timeout = self.config.cluster.broadcast_timeout;
        let tools = SettingsTools {
            node: self.node_id.clone(),
            clock: Arc::clone(&self.clock),
            database: database.clone(),
            broadcast: Broadcast::new(bus.clone(), membership.clone(), timeout),
            events: self.events.clone(),
        };
        Settings::new(&self.config, tools)
    }

    /// Makes a connection, and waits until the server answers on it.
    async fn connect(&self, config: &RedisConfig, role: Role) -> Result<Redis, NodeError> {
        self.lifecycle.waits_for("redis", "waiting for Redis");
        let redis = Redis::connect(config, role, &self.node_id)
            .await
            .map_err(|error| connect_error(&error))?;
        if !redis.is_connected() {
            // The sender lives as long as the connection.
            redis.connects().wait_for(|connects| *connects > 0).await.ok();
        }
        Ok(redis)
    }

    /// Connects to the Redis of the sessions, where the leases must be too; none when sessions are not in Redis.
    async fn lease_redis(
        &self,
        main: &RedisConfig,
        redis: &Redis,
    ) -> Result<Option<Redis>, NodeError> {
        let session = &self.config.session;
        match &session.redis {
            Some(config) if session.store == StoreKind::Redis => {
                if is_same_server(config, main) {
                    return Ok(Some(redis.clone()));
                }
                self.connect(config, Role::Data(0)).await.map(Some)
            }
            Some(_) | None => Ok(None),
        }
    }

    async fn open_database(
        &self,
        presence: Presence,
        migrations: &[Box<dyn MigrationTrait>],
    ) -> Result<(Database, PresenceLock), NodeError> {
        let config = &self.config.database;
        self.lifecycle.waits_for("database", "connecting to the database");
        let database = self.again("database", || Database::connect(config)).await?;
        let place = self.again("database", || database.take_place(presence)).await?;
        self.lifecycle.waits_for("migrating", "looking for migrations");
        let (lifecycle, word, configured) =
            (self.lifecycle.clone(), self.migrations.clone(), config.migrate);
        let progress = move |progress: MigrateProgress<'_>| match progress {
            MigrateProgress::Applying(name) => {
                lifecycle.waits_for("migrating", format!("applying {name}"))
            }
            MigrateProgress::Waiting(name) if word.mode(configured) == MigrateMode::Wait => {
                let until = format!(
                    "{name} is missing: waiting until it is applied, here by `understudy migrate`"
                );
                lifecycle.waits_for("migrating", until);
            }
            MigrateProgress::Waiting(name) => {
                lifecycle.waits_for("migrating", format!("another process applies {name}"));
            }
        };
        let names = migrations.iter().map(|migration| migration.name().to_owned());
        self.migrations.are_of(&database, names.collect());
        self.migrations.wait(config.migrate == MigrateMode::Wait);
        let mode = || self.migrations.mode(config.migrate);
        let migrate = || database.migrate_as(&mode, migrations, &progress);
        self.again("migrating", migrate).await?;
        self.migrations.wait(false);
        Ok((database, place))
    }

    /// Tries for ever, until it works or waiting cannot help.
    async fn again<T, F>(&self, code: &str, mut attempt: impl FnMut() -> F) -> Result<T, NodeError>
    where
        F: Future<Output = Result<T, DatabaseError>>,
    {
        let mut backoff = Backoff::default();
        let mut told = String::new();
        loop {
            match Box::pin(attempt()).await {
                Ok(value) => {
                    if !told.is_empty() {
                        info!("the database is there");
                    }
                    return Ok(value);
                }
                Err(error) if error.is_retryable() => {
                    let why = chain(&error);
                    if why != told {
                        warn!(error = why, "waiting for the database");
                    }
                    self.lifecycle.waits_for(code, why.clone());
                    told = why;
                    tokio::time::sleep(backoff.pause()).await;
                }
                Err(error) => return Err(database_error(&error)),
            }
        }
    }

    /// Looks whether the name of this node is free, and whether those who are there would let it stay, without joining them.
    async fn ask_to_join(
        &self,
        (redis, keys): (&Redis, &KeySpace),
        bus: &Bus,
        record: &MemberRecord,
    ) -> Result<(), NodeError> {
        self.lifecycle.waits_for("joining", "looking who is there");
        let (ttl, heartbeat) = (self.config.cluster.node_ttl, self.config.cluster.heartbeat);
        let (mut holder, mut backoff) = (Holder::default(), Backoff::default());
        let members = loop {
            let pause = match Membership::look(redis, keys, (&record.id, ttl), &mut holder).await {
                Ok(Some(members)) => break members,
                Ok(None) => {
                    let why = "the name of this node is held, waiting whether its holder is alive";
                    self.lifecycle.waits_for("joining", why);
                    heartbeat.min(ttl / 10)
                }
                // What an operator must change is told when the node joins.
                Err(JoinError::Redis(error))
                    if matches!(error.code(), Some("NOPERM" | "ERR" | "WRONGTYPE")) =>
                {
                    return Ok(());
                }
                Err(JoinError::Redis(error)) => {
                    self.lifecycle.waits_for("redis", chain(&error));
                    backoff.pause()
                }
                Err(error @ JoinError::Duplicate { .. }) => {
                    return Err(self.not_joined((redis, keys), record, &error).await);
                }
            };
            tokio::time::sleep(pause).await;
        };
        let comparing = Comparing::new(&self.config, bus);
        let judging = judge_admission(record, &members, (&self.config, &comparing));
        let Err(refusal) = Box::pin(judging).await else { return Ok(()) };
        if let Err(error) = refusal.note(record).leave(redis, &keys.members()).await {
            warn!(%error, "the other nodes will not hear of this one");
        }
        Err(NodeError::Configuration(refusal.told))
    }

    async fn join(
        &self,
        redis: Redis,
        keys: &KeySpace,
        record: MemberRecord,
    ) -> Result<Membership, NodeError> {
        self.lifecycle.waits_for("joining", "joining the cluster");
        let spec = MembershipSpec {
            heartbeat: self.config.cluster.heartbeat,
            ttl: self.config.cluster.node_ttl,
            clock: Arc::clone(&self.clock),
        };
        match Membership::join(redis.clone(), keys, record.clone(), spec).await {
            Ok(membership) => Ok(membership),
            Err(error) => Err(self.not_joined((&redis, keys), &record, &error).await),
        }
    }

    /// Says why this node cannot join; also to the others, when its name is another's.
    async fn not_joined(
        &self,
        (redis, keys): (&Redis, &KeySpace),
        record: &MemberRecord,
        error: &JoinError,
    ) -> NodeError {
        if let JoinError::Duplicate { host, pid, .. } = error {
            let why = format!("process {pid} on {host} has the name and is alive");
            let note = Note::about(record, NoteKind::DuplicateNode, why);
            if let Err(error) = note.leave(redis, &keys.members()).await {
                warn!(%error, "the other nodes will not hear of this one");
            }
        }
        join_error(&self.node_id, error)
    }

    async fn start_leases(
        &self,
        keys: &KeySpace,
        membership: &Membership,
        database: &Database,
    ) -> Result<LeaseHandle, NodeError> {
        let mut spec = LeaseSpec {
            node_id: self.node_id.clone(),
            clock: Arc::clone(&self.clock),
            ttl: self.config.cluster.node_ttl,
            buckets: keys.buckets(),
            knowledge: Some(Arc::new(membership.clone())),
            probe: self.actors.probe(&LEASE),
        };
        let config = self
            .config
            .session
            .redis
            .clone()
            .filter(|_| self.config.session.store == StoreKind::Redis);
        let Some(config) = config else {
            // A database forgets nothing: there is no grace that somebody would have to be known for.
            spec.knowledge = None;
            let store: Arc<dyn LeaseStore> = Arc::new(DatabaseLeases::new(database.clone()));
            let started = LeaseHandle::start(spec, move || async move { Ok(store) }).await;
            return started.map_err(|never: std::convert::Infallible| match never {});
        };
        let (keys, node_id) = (keys.clone(), self.node_id.clone());
        let connect = move || async move {
            let redis = Redis::connect(&config, Role::Lease, &node_id).await?;
            let store: Arc<dyn LeaseStore> = Arc::new(RedisLeases::new(redis, keys));
            Ok(store)
        };
        LeaseHandle::start(spec, connect).await.map_err(|error| connect_error(&error))
    }

    /// Starts the bus; also gives the place for the list of nodes that its broadcasts go to, once there is one.
    async fn start_bus(
        &self,
        config: &RedisConfig,
        keys: &KeySpace,
    ) -> Result<(Bus, Arc<OnceLock<Membership>>), NodeError> {
        let publisher = self.connect(config, Role::Bus);
        let (publisher, subscriber) =
            tokio::try_join!(publisher, self.connect(config, Role::Subscriber))?;
        let members: Arc<OnceLock<Membership>> = Arc::default();
        let known = Arc::clone(&members);
        let targets = Arc::new(move || known.get().map(Membership::live).unwrap_or_default());
        let bus = Bus::redis(publisher, &subscriber, keys.clone(), self.node_id.clone(), targets);
        bus.count_for(self.actors.probe(&BUS));
        Ok((bus, members))
    }
}

/// How long to wait for the first lease and for hearing oneself, before a node is called ready all the same.
const FIRST_SIGNS: Duration = Duration::from_secs(10);

/// Waits until the node holds its leases and hears messages; says what it waits for.
pub(super) async fn first_signs(node: &NodeContext) {
    node.lifecycle.waits_for("lease", "waiting for the first lease");
    node.lease.first_renewal(&node.clock).await;
    node.lifecycle.waits_for("bus", "waiting to hear messages");
    if tokio::time::timeout(FIRST_SIGNS, node.bus.listening()).await.is_err() {
        warn!("messages of other nodes do not arrive yet; the node starts without");
    }
}

fn is_same_server(one: &RedisConfig, other: &RedisConfig) -> bool {
    let (one, other) = (&one.targets, &other.targets);
    one.hosts == other.hosts
        && one.topology == other.topology
        && one.db == other.db
        && one.tls == other.tls
}
