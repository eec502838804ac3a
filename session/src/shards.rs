//! The threads that sessions live on, each with its own connection to the store.
//!
//! Two kinds. Every HTTP worker is one for the sessions that its own requests touch first: a request then finds its
//! session without leaving its thread. A few threads of their own serve what comes from other nodes, and whatever a
//! worker cannot serve yet; they outlive the workers, so that a node that stops can still hand over in order.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::{Arbiter, ArbiterHandle};
use tokio::sync::oneshot;
use understudy_runtime::actors::{Actors, Probe};
use understudy_runtime::config::{Durability, PersistMode, RedisConfig, SessionConfig, StoreKind};
use understudy_runtime::redis::{Redis, Role};
use understudy_runtime::service::{NodeContext, ServiceError};

use crate::actor::SESSION;
use crate::handle::Shard;
use crate::packing::Packing;
use crate::sealing::SealRing;
use crate::service::failed;
use crate::store::database::DatabaseStore;
use crate::store::memory::MemoryStore;
use crate::store::redis::RedisStore;
use crate::store::sealed::SealedStore;
use crate::store::{Estate, PersistedStore, Saver, SharedStore};

/// How much longer than any session an end is kept: the clocks of Redis and of the database may differ.
const LONGER: Duration = Duration::from_secs(3_600);

/// What an HTTP worker has for itself. A counter that all share would travel between processors with every request.
#[derive(Default)]
pub(crate) struct Worker {
    /// There as soon as its connection is.
    shard: OnceLock<Arc<Shard>>,
    /// Reads from memory that the metrics were not told of yet.
    reads: AtomicU64,
}

impl Worker {
    pub(crate) fn shard(&self) -> Option<&Arc<Shard>> {
        self.shard.get()
    }

    pub(crate) fn count_read(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives the reads since the last call.
    pub(crate) fn take_reads(&self) -> u64 {
        self.reads.swap(0, Ordering::Relaxed)
    }
}

/// Makes shards that differ only in their thread and their connection.
pub(crate) struct Shards {
    stores: Stores,
    /// Names each connection; grows with every one. The node itself has number 0.
    number: AtomicUsize,
    /// Where each of them counts for itself.
    actors: Actors,
}

impl Shards {
    /// `estate` says whether somebody is told of the ends of sessions.
    pub(crate) fn new(node: &NodeContext, estate: Estate) -> Result<Self, ServiceError> {
        let stores = Stores::new(node, &node.config.session, estate)?;
        Ok(Self { stores, number: AtomicUsize::new(1), actors: node.actors.clone() })
    }

    /// Starts a thread of its own; gives it with its store.
    pub(crate) async fn start(&self) -> Result<(Arbiter, SharedStore), ServiceError> {
        let arbiter = Arbiter::new();
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let (answer, connected) = oneshot::channel();
        // On the shard's own thread, so that a write needs no hop from the actor to its connection.
        let stores = self.stores.clone();
        arbiter.spawn(async move { drop(answer.send(stores.connect(number).await)) });
        match connected.await {
            Ok(store) => Ok((arbiter, store?)),
            Err(_) => Err(failed("the thread of a session shard ended", None)),
        }
    }

    /// Makes what brings sessions to the database, with a connection of the thread that calls; none when they are not kept
    /// there.
    pub(crate) async fn saver(&self) -> Result<Option<Saver>, ServiceError> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        self.stores.saver(number).await
    }

    /// Makes the thread that calls, an HTTP worker, a shard like `model`.
    pub(crate) fn start_here(&self, model: &Arc<Shard>) -> Arc<Worker> {
        let worker = Arc::<Worker>::default();
        let Some(arbiter) = Arbiter::try_current() else { return worker };
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let (stores, model, own) = (self.stores.clone(), Arc::clone(model), Arc::clone(&worker));
        let here = arbiter.clone();
        let probe = self.actors.probe(&SESSION);
        arbiter.spawn(async move {
            match stores.connect(number).await {
                Ok(store) => drop(own.shard.set(Arc::new(model.on((here, store), probe)))),
                Err(error) => {
                    tracing::warn!(error = %error, "a worker has no session shard: others serve its requests");
                }
            }
        });
        worker
    }
}

impl Shard {
    fn on(&self, (arbiter, store): (ArbiterHandle, SharedStore), probe: Probe) -> Self {
        Self { arbiter, store, probe, ..self.clone() }
    }
}

/// One thread per core, if the pool allows.
pub(crate) fn shard_count(node: &NodeContext) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.min(node.config.redis.as_ref().map_or(cores, |redis| redis.pool_size)).max(1)
}

/// Makes the store of each shard.
#[derive(Clone)]
enum Stores {
    Redis { node: Box<NodeContext>, config: Box<RedisConfig>, ring: SealRing, estate: Estate },
    Shared(SharedStore),
}

impl Stores {
    fn new(
        node: &NodeContext,
        config: &SessionConfig,
        estate: Estate,
    ) -> Result<Self, ServiceError> {
        let ring = SealRing::new(&config.encryption, node.config.cluster.name.as_str());
        let packing = packing(config);
        Ok(match (config.store, &config.redis) {
            (StoreKind::Redis, Some(redis)) => {
                let config = Box::new(redis.clone());
                Self::Redis { node: Box::new(node.clone()), config, ring, estate }
            }
            (StoreKind::Redis, None) => {
                let text =
                    "UNDERSTUDY_SESSION_STORE: `redis` needs UNDERSTUDY_REDIS_URL".to_owned();
                return Err(ServiceError::Configuration(text));
            }
            (StoreKind::Database, _) => {
                let store = DatabaseStore::new(
                    node.database.clone(),
                    node.config.cluster.node_ttl,
                    config.touch,
                );
                let store = store.opening(ring.known()).with_estate(estate);
                Self::Shared(Arc::new(SealedStore::new(Arc::new(store), ring).packing(packing)))
            }
            (StoreKind::Memory, _) => {
                let clock = Arc::clone(&node.clock);
                let store = MemoryStore::new(clock, node.config.cluster.node_ttl, config.touch);
                Self::Shared(Arc::new(SealedStore::new(Arc::new(store), ring).packing(packing)))
            }
        })
    }

    /// Connects on the thread that calls, and waits until the connection is there.
    async fn connect(&self, number: usize) -> Result<SharedStore, ServiceError> {
        let (node, config, ring, estate) = match self {
            Self::Shared(store) => return Ok(Arc::clone(store)),
            Self::Redis { node, config, ring, estate } => (node, config, ring, *estate),
        };
        let store = in_redis(node, config, number).await?;
        let store = store.opening(&ring.known()).with_estate(estate);
        let persist = &node.config.session.persist;
        let store = match persist.durability {
            Durability::Replicated => {
                store.replicated(connected(node, config, Role::Replicated(number)).await?)
            }
            Durability::Stored | Durability::Database => store,
        };
        let store: SharedStore = match persist.mode {
            PersistMode::Off => Arc::new(store),
            PersistMode::WriteBehind | PersistMode::WriteThrough => {
                Arc::new(persisted(node, store))
            }
        };
        let packing = packing(&node.config.session);
        Ok(Arc::new(SealedStore::new(store, ring.clone()).packing(packing)))
    }

    /// It ends nothing, so it keeps nothing of what sessions held.
    async fn saver(&self, number: usize) -> Result<Option<Saver>, ServiceError> {
        let Self::Redis { node, config, .. } = self else { return Ok(None) };
        if node.config.session.persist.mode == PersistMode::Off {
            return Ok(None);
        }
        // What it brings over is sealed as it is, whatever keys this node has.
        let store = persisted(node, in_redis(node, config, number).await?);
        Ok(Some(store.saver(&node.node_id.to_string())))
    }
}

async fn in_redis(
    node: &NodeContext,
    config: &RedisConfig,
    number: usize,
) -> Result<RedisStore, ServiceError> {
    let redis = connected(node, config, Role::Data(number)).await?;
    let (ttl, slack) = (node.config.cluster.node_ttl, node.config.session.touch);
    Ok(RedisStore::new(redis, Arc::clone(&node.keys), ttl, slack))
}

fn persisted(node: &NodeContext, store: RedisStore) -> PersistedStore {
    let session = &node.config.session;
    let archive =
        DatabaseStore::new(node.database.clone(), node.config.cluster.node_ttl, session.touch);
    let longest = session.absolute.max(session.long_absolute) + LONGER;
    PersistedStore::new(store, archive, session.persist.mode, longest)
}

async fn connected(
    node: &NodeContext,
    config: &RedisConfig,
    role: Role,
) -> Result<Redis, ServiceError> {
    let redis = Redis::connect(config, role, &node.node_id).await;
    let redis = redis
        .map_err(|error| failed("cannot connect to the session store", Some(Box::new(error))))?;
    // Else the first requests of a node that says it is ready would be refused. The sender lives as long as the connection.
    redis.connects().wait_for(|connects| *connects > 0).await.ok();
    Ok(redis)
}

fn packing(config: &SessionConfig) -> Packing {
    Packing::new(config.compress_above, config.max_bytes)
}
