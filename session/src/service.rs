//! How a node starts the session service, drains it and stops it.

mod background;

use std::fmt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use actix::Arbiter;
use actix_web::web::ServiceConfig;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use dashmap::DashMap;
use futures_util::future::BoxFuture;
use sea_orm_migration::MigrationTrait;
use understudy_runtime::admin::Operation;
use understudy_runtime::broadcast::Broadcast;
use understudy_runtime::config::{MaxPolicy, StoreKind};
use understudy_runtime::finding::Finding;
use understudy_runtime::secret::Secret;
use understudy_runtime::service::{
    Health, NodeContext, RequestWrap, Service, ServiceError, StopNote,
};

use crate::actor::SESSION;
use crate::admin::{Admin, OPERATIONS, Residents};
use crate::affinity::{MoveMessage, serve_moves};
use crate::error::SessionError;
use crate::expiry::{Heard, Listener, SessionEnded, SessionExpired, Sweeper};
use crate::forward::{Forward, serve};
use crate::handle::{
    EndedMessage, Inner, LookAtActor, SessionHandle, Shard, StopActor, look_at_actor, serve_ends,
    stop_actor,
};
use crate::keeper;
use crate::keyring::KeyRing;
use crate::kin::{Endings, Kin};
use crate::lockout::Lockout;
use crate::metrics::Counters;
use crate::middleware::SessionWrap;
use crate::options::SessionOptions;
use crate::realtime::{News, Realtime};
use crate::saving::{self, Saving};
use crate::schema::{Schema, Schemas, SessionState};
use crate::sealing::SealRing;
use crate::shards::{Shards, shard_count};
use crate::store::Estate;
use crate::users::SessionLimitExceeded;

/// The file with the key of an embedded node, which nobody has to configure.
const KEY_FILE: &str = "session.key";

/// Locks in the map of residents, which every request takes one of: enough that two threads seldom meet at one.
const MAP_SHARDS: usize = 64;

/// The session service of a node.
#[derive(Default)]
pub struct SessionService {
    started: OnceLock<Started>,
    on_expired: Option<Listener<SessionExpired>>,
    on_ended: Option<Listener<SessionEnded>>,
    on_limit: Option<Listener<SessionLimitExceeded>>,
    schemas: Vec<Schema>,
    sessions: Sessions,
}

struct Started {
    handle: SessionHandle,
    admin: Admin,
    lockout: Lockout,
    arbiters: Vec<Arbiter>,
    shards: Shards,
    /// Brings sessions to the database, if they are kept there too.
    saving: Option<Arc<Saving>>,
}

impl SessionService {
    /// Makes the service; nothing happens before the node starts it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Has `tell` called for each session that ran out of time, once per session, on one node of the cluster. A logout is
    /// no such end.
    ///
    /// It may return `()` or a `Result`; after an error, a panic, or no answer within [`CALLBACK_LIMIT`] it is called again
    /// for the same session, after [`HOLD`] at the earliest. A node that dies in the middle of it has it called again as well:
    /// [`SessionExpired::id`] is the same then. All nodes must be given the same callback, since any of them may be the one.
    ///
    /// [`CALLBACK_LIMIT`]: crate::expiry::CALLBACK_LIMIT
    /// [`HOLD`]: crate::expiry::HOLD
    ///
    /// # Example
    /// ```
    /// use understudy_session::{SessionExpired, SessionService};
    ///
    /// let service = SessionService::new().on_expired(|event: SessionExpired| async move {
    ///     println!("{:?} was away for too long ({})", event.user, event.id);
    /// });
    /// # drop(service);
    /// ```
    #[must_use]
    pub fn on_expired<F, Fut>(mut self, tell: F) -> Self
    where
        F: Fn(SessionExpired) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Heard> + Send + 'static,
    {
        self.on_expired = Some(Listener::new(tell));
        self
    }

    /// Has `tell` called for each session that is over, whatever the reason: logout, time, an end by somebody else; once per
    /// session, on one node of the cluster, with what the session held.
    ///
    /// What there is to tell is kept in the step that ends the session. Of failures and repetitions the same holds as for
    /// [`Self::on_expired`]; with both, an event that one of them did not take is told to both again.
    ///
    /// # Example
    /// ```
    /// use understudy_session::{SessionEnded, SessionError, SessionService};
    ///
    /// let service = SessionService::new().on_ended(|event: SessionEnded| async move {
    ///     let cart: Option<Vec<String>> = event.get("cart")?;
    ///     println!("{}: {} left {cart:?} behind", event.id, event.reason.as_str());
    ///     Ok::<(), SessionError>(()) // after an error it is called again
    /// });
    /// # drop(service);
    /// ```
    #[must_use]
    pub fn on_ended<F, Fut>(mut self, tell: F) -> Self
    where
        F: Fn(SessionEnded) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Heard> + Send + 'static,
    {
        self.on_ended = Some(Listener::new(tell));
        self
    }

    /// Has `tell` called when a user has more sessions than wanted after a login, with
    /// `UNDERSTUDY_SESSION_MAX_POLICY=notify`: on the node of the login, which does not wait for it.
    ///
    /// It may return `()` or a `Result`. Nothing is kept of it: when it fails, or the node dies before, the next login beyond
    /// the maximum tells again, of the sessions that there are then. All nodes must be given the same callback.
    ///
    /// # Example
    /// ```
    /// use understudy_session::{SessionLimitExceeded, SessionService};
    ///
    /// let service = SessionService::new().on_limit_exceeded(|event: SessionLimitExceeded| async move {
    ///     println!("{} has {} sessions of {}", event.user, event.sessions, event.most);
    /// });
    /// # drop(service);
    /// ```
    #[must_use]
    pub fn on_limit_exceeded<F, Fut>(mut self, tell: F) -> Self
    where
        F: Fn(SessionLimitExceeded) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Heard> + Send + 'static,
    {
        self.on_limit = Some(Listener::new(tell));
        self
    }

    /// Adds the [schema](crate::schema) of an attribute: versions of what the application keeps there. One that lacks a step,
    /// and a second one of the same attribute, is refused at the start.
    #[must_use]
    pub fn schema(mut self, schema: Schema) -> Self {
        self.schemas.push(schema);
        self
    }

    /// Adds the schema of a [state](SessionState), so that the attribute is understood by its name too.
    #[must_use]
    pub fn state<S: SessionState>(self) -> Self {
        self.schema(Schema::of::<S>())
    }

    /// Gives the handle, once the service was started.
    #[must_use]
    pub fn handle(&self) -> Option<SessionHandle> {
        self.started.get().map(|started| started.handle.clone())
    }

    /// Gives what will have the handle, for code that is put together before: jobs, for example.
    #[must_use]
    pub fn sessions(&self) -> Sessions {
        self.sessions.clone()
    }
}

/// The way to the sessions for code that is put together before the node starts; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Sessions(Arc<OnceLock<SessionHandle>>);

impl Sessions {
    /// Gives the handle.
    ///
    /// # Errors
    /// [`SessionError::NotInstalled`] before the service has started.
    pub fn handle(&self) -> Result<SessionHandle, SessionError> {
        self.0.get().cloned().ok_or(SessionError::NotInstalled)
    }
}

#[async_trait(?Send)]
impl Service for SessionService {
    fn name(&self) -> &'static str {
        "session"
    }

    fn migrations(&self) -> Vec<Box<dyn MigrationTrait>> {
        crate::store::database::migrations()
    }

    async fn start(&mut self, node: &NodeContext) -> Result<(), ServiceError> {
        let schemas = Schemas::new(&self.schemas).map_err(|wrong| failed(&wrong, None))?;
        let estate = if self.on_ended.is_some() { Estate::Kept } else { Estate::Dropped };
        let (endings, ended) = Endings::channel();
        let given = Given { on_limit: self.on_limit.clone(), schemas, estate, endings };
        let started = begin(node, given).await?;
        let handle = &started.handle;
        hear(node, handle);
        answer_about_actors(node, handle);
        let inner = Arc::clone(&handle.0);
        node.lease.before_settling(Arc::new(move |bucket, _stamp| {
            Box::pin(keeper::put_back(Arc::clone(&inner), bucket))
        }));
        background::look_after_kin(node, &started, ended);
        background::keep_at_it(node, &started);
        if let Some(shard) = started.handle.0.shards.first() {
            let (store, buckets) = (Arc::clone(&shard.store), node.keys.all_buckets());
            let clock = Arc::clone(&node.clock);
            let sweeper = Sweeper::new(store, buckets, clock, self.on_expired.clone());
            let sweeper = sweeper.telling_all(self.on_ended.clone());
            let sweeper = sweeper.with_schemas(started.handle.0.schemas.clone());
            node.duties.add(sweeper.telling(started.handle.0.endings.clone()).duty());
        }
        drop(self.sessions.0.set(started.handle.clone()));
        if self.started.set(started).is_err() {
            return Err(failed("the session service was started twice", None));
        }
        Ok(())
    }

    fn health(&self) -> Health {
        match self.started.get() {
            Some(started) if !started.handle.0.key_agreed.load(Ordering::Relaxed) => {
                Health::Degraded("no session key in common with another node".to_owned())
            }
            Some(_) | None => Health::Ready,
        }
    }

    fn findings(&self) -> Vec<Finding> {
        let saving = self.started.get().and_then(|started| started.saving.as_ref());
        saving.and_then(|saving| saving.finding()).into_iter().collect()
    }

    fn stop_notes(&self) -> BoxFuture<'static, Vec<StopNote>> {
        let owned = self.started.get().map_or(0, |started| started.handle.0.residents.len());
        let notes = match owned {
            0 => Vec::new(),
            1 => vec![StopNote::note("1 session in its memory, which other nodes take over")],
            many => vec![StopNote::note(format!(
                "{many} sessions in its memory, which other nodes take over"
            ))],
        };
        Box::pin(std::future::ready(notes))
    }

    fn web(&self, app: &mut ServiceConfig) {
        let Some(Started { handle, shards, lockout, .. }) = self.started.get() else { return };
        app.app_data(lockout.clone());
        let worker = handle.0.shards.first().map(|model| shards.start_here(model));
        if let Some(worker) = &worker {
            handle.0.workers.rcu(|workers| [workers.as_slice(), &[Arc::clone(worker)]].concat());
        }
        let handle = SessionHandle(Arc::clone(&handle.0), worker);
        app.app_data(Rc::new(handle.clone()));
        app.app_data(handle);
    }

    fn operations(&self) -> &'static [Operation] {
        OPERATIONS
    }

    fn admin(&self, app: &mut ServiceConfig) {
        if let Some(started) = self.started.get() {
            crate::admin::configure(app, &started.admin);
        }
    }

    fn web_wrap(&self) -> Option<Arc<dyn RequestWrap>> {
        Some(Arc::new(SessionWrap))
    }

    async fn drain(&self) {
        if let Some(saving) = self.started.get().and_then(|started| started.saving.as_ref()) {
            saving.flush(saving::BEFORE_DRAIN).await;
        }
    }

    async fn stop(&self) {
        let Some(started) = self.started.get() else {
            return;
        };
        started.handle.0.closed.store(true, Ordering::SeqCst);
        keeper::drain(&started.handle.0).await;
        if let Some(saving) = &started.saving {
            saving.flush(saving::BEFORE_STOP).await;
        }
    }
}

/// What other nodes ask for on behalf of operators.
fn answer_about_actors(node: &NodeContext, handle: &SessionHandle) {
    let looking = handle.clone();
    node.bus.handle::<LookAtActor, _, _>(move |_from, LookAtActor { locator }| {
        std::future::ready(look_at_actor(&looking, locator))
    });
    let stopping = handle.clone();
    node.bus.handle::<StopActor, _, _>(move |_from, StopActor { locator }| {
        stop_actor(stopping.clone(), locator)
    });
}

/// Takes the messages of other nodes.
fn hear(node: &NodeContext, handle: &SessionHandle) {
    let serving = handle.clone();
    node.bus.handle::<Forward, _, _>(move |_from, message| serve(serving.clone(), message));
    let hearing = handle.clone();
    node.bus
        .handle::<EndedMessage, _, _>(move |_from, message| serve_ends(hearing.clone(), message));
    let counting = handle.clone();
    node.bus.handle::<Residents, _, _>(move |_from, Residents| {
        std::future::ready(counting.0.residents.len() as u64)
    });
    let realtime = handle.0.realtime.clone();
    node.bus.handle::<News, _, _>(move |_from, news: News| {
        realtime.hear(&news);
        std::future::ready(())
    });
    let parting = handle.clone();
    node.bus
        .handle::<MoveMessage, _, _>(move |_from, message| serve_moves(parting.clone(), message));
}

/// What a node gives to all that has to do with its sessions.
struct Given {
    on_limit: Option<Listener<SessionLimitExceeded>>,
    schemas: Schemas,
    estate: Estate,
    endings: Endings,
}

async fn begin(node: &NodeContext, given: Given) -> Result<Started, ServiceError> {
    let Given { on_limit, schemas, estate, endings } = given;
    let config = &node.config.session;
    look_at_policy(config.users.max_policy, on_limit.as_ref());
    let options = Arc::new(SessionOptions::of(&node.config));
    let counters = Arc::new(Counters::new());
    let residents = Arc::new(DashMap::with_shard_amount(MAP_SHARDS));
    let closed = Arc::new(AtomicBool::new(false));
    let makes = Shards::new(node, estate)?;
    let mut shards = Vec::new();
    let mut arbiters = Vec::new();
    for _ in 0..shard_count(node) {
        let (arbiter, store) = makes.start().await?;
        shards.push(Arc::new(Shard {
            arbiter: arbiter.handle(),
            store,
            clock: Arc::clone(&node.clock),
            board: node.lease.board().clone(),
            bus: node.bus.clone(),
            options: Arc::clone(&options),
            counters: Arc::clone(&counters),
            residents: Arc::clone(&residents),
            closed: Arc::clone(&closed),
            probe: node.actors.probe(&SESSION),
            endings: endings.clone(),
        }));
        arbiters.push(arbiter);
    }
    let inner = Inner {
        node_id: node.node_id.clone(),
        clock: Arc::clone(&node.clock),
        board: node.lease.board().clone(),
        keys: Arc::clone(&node.keys),
        keyring: KeyRing::new(&secrets(node)?),
        options,
        counters,
        residents,
        shards,
        workers: ArcSwap::default(),
        closed,
        beginning: DashMap::new(),
        lease_ttl: node.config.cluster.node_ttl,
        bus: node.bus.clone(),
        probe: node.actors.probe(&SESSION),
        key_agreed: AtomicBool::new(true),
        kin: Some(kin_of(node)),
        endings,
        on_limit,
        schemas,
        realtime: Realtime::of(node),
    };
    let handle = SessionHandle(Arc::new(inner), None);
    let admin = Admin { handle: handle.clone(), broadcast: Broadcast::of(node) };
    let lockout = Lockout::of(node);
    let saver = makes.saver().await?;
    let saving = saver.map(|saver| Arc::new(Saving::new(saver, config.persist.interval)));
    Ok(Started { handle, admin, lockout, arbiters, shards: makes, saving })
}

fn look_at_policy(policy: MaxPolicy, on_limit: Option<&Listener<SessionLimitExceeded>>) {
    if policy == MaxPolicy::Notify && on_limit.is_none() {
        tracing::warn!(
            variable = "UNDERSTUDY_SESSION_MAX_POLICY",
            "`notify` without a callback: nobody is told when a user has too many sessions"
        );
    }
}

fn kin_of(node: &NodeContext) -> Kin {
    let config = &node.config.session;
    let ring = SealRing::new(&config.encryption, node.config.cluster.name.as_str());
    Kin::new(node.database.clone(), ring, config.files)
}

/// Gives the keys of the cluster; an embedded node that has none makes one and keeps it in its data folder.
fn secrets(node: &NodeContext) -> Result<Vec<Secret<String>>, ServiceError> {
    let given = &node.config.session.secret;
    if !given.is_empty() || node.config.session.store == StoreKind::Memory {
        return Ok(given.clone());
    }
    let path = node.config.node.data_dir.join(KEY_FILE);
    own_key(&path).map(|key| vec![key]).map_err(|error| {
        failed("cannot read or make the session key in the data folder", Some(Box::new(error)))
    })
}

fn own_key(path: &Path) -> std::io::Result<Secret<String>> {
    match std::fs::read_to_string(path) {
        Ok(key) if key.trim().len() >= 32 => return Ok(Secret::new(key.trim().to_owned())),
        Ok(_) => {} // cut off by a crash while it was written: nothing was signed with it yet
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let bytes: [u8; 32] = rand::random();
    let key: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let fresh = path.with_extension("new");
    write_private(&fresh, &key)?;
    std::fs::rename(&fresh, path)?;
    Ok(Secret::new(key))
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

pub(crate) fn failed(
    message: &str,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
) -> ServiceError {
    ServiceError::Failed { message: message.to_owned(), source }
}

impl fmt::Debug for SessionService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionService").field("handle", &self.handle()).finish()
    }
}
