//! Who belongs to the cluster: one list in Redis, in which every node reports once a second and reads the others.
//!
//! A name belongs to one living node: a second process with the same name does not get in. The list is for people,
//! for addressing messages and for draining; what a node may do with its data is decided by leases, never by this.
//!
//! It also answers what the end of a grace depends on (see [`crate::lease`]): does this node know all others, and do
//! all others know this one? Each node therefore reports of which moment the list is that it knows.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};

use crate::clock::{BootInstant, SharedClock};
use crate::ids::NodeId;
use crate::keys::KeySpace;
use crate::lease::Knowledge;
use crate::redis::{Arg, Redis, RedisError, Reply, Script};

mod acquaintance;
mod record;

pub use record::{Member, MemberRecord, MemberState, SESSION_KEYS};

use acquaintance::Acquaintance;
use record::Entry;

static HEARTBEAT: LazyLock<Script> =
    LazyLock::new(|| Script::new("membership.heartbeat", include_str!("membership/heartbeat.lua")));
static LEAVE: LazyLock<Script> =
    LazyLock::new(|| Script::new("membership.leave", include_str!("membership/leave.lua")));

/// How soon a node reports again that has seen somebody new, so that the other learns it is known.
const NUDGE: Duration = Duration::from_millis(50);

/// How a node takes part.
#[derive(Debug, Clone)]
pub struct MembershipSpec {
    /// How often it reports.
    pub heartbeat: Duration,
    /// After how long a silence a node does not count as alive any more.
    pub ttl: Duration,
    /// The clock by which the age of the list is told.
    pub clock: SharedClock,
}

/// A node could not join.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JoinError {
    /// Another living process has the name.
    #[error(
        "the node name is taken by a process that is alive: pid {pid} on {host}, since {since_ms} ms after 1970"
    )]
    Duplicate {
        /// The host it runs on.
        host: String,
        /// Its process id.
        pid: u32,
        /// When it started, ms since 1970.
        since_ms: u64,
    },
    /// Redis refuses, and will until an operator changes something.
    #[error("redis refuses the list of nodes")]
    Redis(#[source] RedisError),
}

/// The nodes of the cluster, as this one knows them; a cheap clone.
#[derive(Clone)]
pub struct Membership {
    shared: Arc<Shared>,
}

struct Shared {
    record: ArcSwap<MemberRecord>,
    view: ArcSwap<View>,
    changes: watch::Sender<u64>,
    cluster: Option<Cluster>,
}

/// What only a node that is not alone has.
struct Cluster {
    redis: Redis,
    key: String,
    spec: MembershipSpec,
    acquaintance: Acquaintance,
    report: Notify,
    /// The server's time of the first report, ms.
    joined_ms: u64,
    task: arc_swap::ArcSwapOption<tokio::task::AbortHandle>,
}

/// The list as it was last read.
struct View {
    read_at: BootInstant,
    /// The server's time of the reading, ms; 0: never.
    now_ms: u64,
    entries: Vec<Entry>,
    members: Arc<Vec<Member>>,
    /// Who has this node's name, if it is somebody else.
    rival: Option<String>,
}

impl Membership {
    /// Joins, and reports from then on; the tokio runtime this is called on does it. Waits while Redis is away, and
    /// while the name is held by a process that may be dead.
    ///
    /// # Errors
    /// [`JoinError::Duplicate`] as soon as the holder of the name is seen to be alive.
    pub async fn join(
        redis: Redis,
        keys: &KeySpace,
        record: MemberRecord,
        spec: MembershipSpec,
    ) -> Result<Self, JoinError> {
        let key = keys.members();
        let (joined_ms, view) = first_report(&redis, &key, &record, &spec).await?;
        let acquaintance = Acquaintance::new(record.id.clone(), spec.ttl, spec.heartbeat);
        acquaintance.read(view.entries.iter(), view.read_at);
        let cluster = Cluster {
            redis,
            key,
            acquaintance,
            report: Notify::new(),
            joined_ms,
            task: arc_swap::ArcSwapOption::empty(),
            spec,
        };
        let shared = Arc::new(Shared {
            record: ArcSwap::from_pointee(record),
            view: ArcSwap::from_pointee(view),
            changes: watch::Sender::new(1),
            cluster: Some(cluster),
        });
        let task = tokio::spawn(report_for_ever(Arc::downgrade(&shared)));
        if let Some(cluster) = &shared.cluster {
            cluster.task.store(Some(Arc::new(task.abort_handle())));
            cluster.report.notify_one(); // tells the others of which moment the list is that this node knows
        }
        Ok(Self { shared })
    }

    /// Makes the membership of a node that is alone.
    #[must_use]
    pub fn single(record: MemberRecord) -> Self {
        let shared = Shared {
            record: ArcSwap::from_pointee(record),
            view: ArcSwap::from_pointee(View::nobody()),
            changes: watch::Sender::new(1),
            cluster: None,
        };
        let membership = Self { shared: Arc::new(shared) };
        membership.shared.refresh();
        membership
    }

    /// Returns this node's own record.
    #[must_use]
    pub fn own(&self) -> Arc<MemberRecord> {
        self.shared.record.load_full()
    }

    /// Returns all nodes of the list, this one among them, sorted by name. As of the last report; ages go on while
    /// Redis is away.
    #[must_use]
    pub fn members(&self) -> Arc<Vec<Member>> {
        self.shared.view.load().members.clone()
    }

    /// Whether exactly this life of a node is alive.
    #[must_use]
    pub fn is_live(&self, node: &NodeId) -> bool {
        self.members().iter().any(|member| member.live && member.record.id == *node)
    }

    /// Returns the ids of all nodes that are alive, this one among them.
    #[must_use]
    pub fn live(&self) -> Vec<NodeId> {
        let members = self.members();
        members.iter().filter(|member| member.live).map(|member| member.record.id.clone()).collect()
    }

    /// Whether some other node is alive and takes requests.
    #[must_use]
    pub fn others_ready(&self) -> bool {
        let own = self.shared.record.load().id.clone();
        self.members().iter().any(|member| {
            member.live && member.record.id != own && member.record.state == MemberState::Ready
        })
    }

    /// Returns who else has this node's name and is alive: an error of the operator that no node can resolve.
    #[must_use]
    pub fn rival(&self) -> Option<String> {
        self.shared.view.load().rival.clone()
    }

    /// Returns a counter that changes with every new list.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Changes this node's state and tells the others at once.
    pub fn set_state(&self, state: MemberState) {
        self.update(|record| record.state = state);
    }

    /// Changes this node's record and tells the others at once.
    pub fn update(&self, change: impl Fn(&mut MemberRecord)) {
        self.shared.record.rcu(|record| {
            let mut record = MemberRecord::clone(record);
            change(&mut record);
            record
        });
        match &self.shared.cluster {
            Some(cluster) => cluster.report.notify_one(),
            None => self.shared.refresh(),
        }
    }

    /// Leaves the list. To be called after the leases were given back, since who is not listed is not awaited.
    pub async fn leave(&self) {
        let Some(cluster) = &self.shared.cluster else { return };
        if let Some(task) = cluster.task.swap(None) {
            task.abort();
        }
        let own = self.shared.record.load_full();
        let args = vec![Arg::from(own.id.name().as_str()), Arg::from(own.id.to_string())];
        if let Err(error) = cluster.redis.call(&LEAVE, vec![cluster.key.clone()], args).await {
            tracing::info!(%error, "could not leave the list of nodes: the entry runs out by itself");
        }
    }
}

impl Knowledge for Membership {
    fn others(&self) -> Option<Vec<NodeId>> {
        let cluster = self.shared.cluster.as_ref()?;
        cluster.acquaintance.others(cluster.spec.clock.now())
    }

    fn known_to_all(&self) -> bool {
        let Some(cluster) = &self.shared.cluster else { return true };
        let view = self.shared.view.load();
        view.knows_me(cluster.joined_ms, &self.shared.record.load().id)
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Membership({}, {} listed)", self.shared.record.load().id, self.members().len())
    }
}

impl View {
    fn nobody() -> Self {
        Self {
            read_at: BootInstant::default(),
            now_ms: 0,
            entries: Vec::new(),
            members: Arc::default(),
            rival: None,
        }
    }

    /// Whether the list that each other living node knows is younger than this node's first report.
    fn knows_me(&self, joined_ms: u64, own: &NodeId) -> bool {
        let others =
            self.members.iter().zip(&self.entries).filter(|(member, _)| member.record.id != *own);
        self.now_ms > 0
            && others.into_iter().all(|(member, entry)| !member.live || entry.view_ms >= joined_ms)
    }
}

impl Shared {
    /// Works the ages out anew, and for a node that is alone its own record.
    fn refresh(&self) {
        let own = self.record.load_full();
        let Some(cluster) = &self.cluster else {
            let member = Member { record: MemberRecord::clone(&own), age_ms: 0, live: true };
            self.view.store(Arc::new(View { members: Arc::new(vec![member]), ..View::nobody() }));
            self.changes.send_modify(|count| *count += 1);
            return;
        };
        let view = self.view.load_full();
        let elapsed = cluster.spec.clock.now().saturating_duration_since(view.read_at);
        let members = members(&view.entries, view.now_ms, elapsed, &cluster.spec, &own.id);
        self.view.store(Arc::new(View {
            members: Arc::new(members),
            entries: view.entries.clone(),
            rival: view.rival.clone(),
            ..*view
        }));
        self.changes.send_modify(|count| *count += 1);
    }
}

fn members(
    entries: &[Entry],
    now_ms: u64,
    elapsed: Duration,
    spec: &MembershipSpec,
    own: &NodeId,
) -> Vec<Member> {
    let ttl_ms = millis(spec.ttl);
    let each = entries.iter().map(|entry| {
        let age_ms = now_ms.saturating_sub(entry.seen_ms) + millis(elapsed);
        let live = age_ms < ttl_ms || entry.record.id == *own;
        Member { record: entry.record.clone(), age_ms, live }
    });
    each.collect()
}

/// Reports until the list shows this node, then returns the server's time and the list.
async fn first_report(
    redis: &Redis,
    key: &str,
    record: &MemberRecord,
    spec: &MembershipSpec,
) -> Result<(u64, View), JoinError> {
    let mut holder: Option<Entry> = None;
    let mut told = false;
    loop {
        match report(redis, key, record, 0, spec).await {
            Ok(Report::Listed(view)) => return Ok((view.now_ms, view)),
            Ok(Report::Held(entry)) => {
                if holder.as_ref().is_some_and(|before| before.seen_ms != entry.seen_ms) {
                    return Err(entry.duplicate());
                }
                if holder.is_none() {
                    tracing::warn!(host = %entry.record.host, pid = entry.record.pid, "the node name is held, waiting whether its holder is alive");
                }
                holder = Some(entry);
            }
            Err(error) if error.is_retryable() => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, "waiting for redis to join the cluster");
                }
            }
            Err(error) => return Err(JoinError::Redis(error)),
        }
        tokio::time::sleep(spec.heartbeat.min(spec.ttl / 10)).await;
    }
}

/// The answer to one report.
enum Report {
    Listed(View),
    Held(Entry),
}

async fn report(
    redis: &Redis,
    key: &str,
    record: &MemberRecord,
    view_ms: u64,
    spec: &MembershipSpec,
) -> Result<Report, RedisError> {
    let json =
        serde_json::to_string(record).map_err(|error| RedisError::Protocol(error.to_string()))?;
    let args = vec![
        Arg::from(record.id.name().as_str()),
        Arg::from(record.id.to_string()),
        Arg::from(millis(spec.ttl).to_string()),
        Arg::from(view_ms.to_string()),
        Arg::from(json),
    ];
    let sent_at = spec.clock.now();
    let reply = redis.call(&HEARTBEAT, vec![key.to_owned()], args).await?;
    read_report(reply, record, sent_at, spec)
        .ok_or_else(|| RedisError::Protocol("the answer of membership.heartbeat".to_owned()))
}

fn read_report(
    reply: Reply,
    own: &MemberRecord,
    sent_at: BootInstant,
    spec: &MembershipSpec,
) -> Option<Report> {
    let Reply::Array(row) = reply else { return None };
    let [status, now, list] = <[Reply; 3]>::try_from(row).ok()?;
    let now_ms = now.as_u64()?;
    if status.as_str()? == "HELD" {
        return Entry::parse(&list.as_str()?).map(Report::Held);
    }
    let Reply::Array(fields) = list else { return None };
    let values = fields.iter().skip(1).step_by(2).filter_map(Reply::as_str);
    // An entry of a version that this one cannot read is nobody; it must not keep this node from working.
    let mut entries: Vec<Entry> = values.filter_map(|value| Entry::parse(&value)).collect();
    entries.sort_by(|a, b| a.record.id.cmp(&b.record.id));
    let members = Arc::new(members(&entries, now_ms, Duration::ZERO, spec, &own.id));
    Some(Report::Listed(View { read_at: sent_at, now_ms, entries, members, rival: None }))
}

async fn report_for_ever(shared: std::sync::Weak<Shared>) {
    let mut failing = false;
    loop {
        let pause = {
            let Some(shared) = shared.upgrade() else { return };
            let Some(cluster) = &shared.cluster else { return };
            report_once(&shared, cluster, &mut failing).await
        };
        let Some(shared) = shared.upgrade() else { return };
        let Some(cluster) = &shared.cluster else { return };
        // Early when asked for; the clone keeps the list alive no longer than one pause.
        tokio::time::timeout(pause, cluster.report.notified()).await.ok();
    }
}

/// Reports once; returns how long to wait before the next report.
async fn report_once(shared: &Shared, cluster: &Cluster, failing: &mut bool) -> Duration {
    let record = shared.record.load_full();
    let known = shared.view.load().now_ms;
    match report(&cluster.redis, &cluster.key, &record, known, &cluster.spec).await {
        Ok(Report::Listed(view)) => {
            if std::mem::take(failing) {
                tracing::info!("reporting to the cluster again");
            }
            let met_somebody = cluster.acquaintance.read(view.entries.iter(), view.read_at);
            let known_to_all = view.knows_me(cluster.joined_ms, &record.id);
            shared.view.store(Arc::new(view));
            shared.changes.send_modify(|count| *count += 1);
            match (met_somebody, known_to_all) {
                (true, _) => NUDGE.min(cluster.spec.heartbeat),
                (false, false) => cluster.spec.heartbeat / 5,
                (false, true) => cluster.spec.heartbeat,
            }
        }
        Ok(Report::Held(entry)) => {
            let rival = format!("pid {} on {}", entry.record.pid, entry.record.host);
            let view = shared.view.load_full();
            if view.rival.as_ref() != Some(&rival) {
                tracing::error!(%rival, node.id = %record.id, "another process has taken this node's name");
            }
            shared.view.store(Arc::new(View {
                rival: Some(rival),
                entries: view.entries.clone(),
                members: view.members.clone(),
                ..*view
            }));
            shared.refresh();
            cluster.spec.heartbeat
        }
        Err(error) => {
            if !std::mem::replace(failing, true) {
                tracing::warn!(%error, "cannot report to the cluster");
            }
            shared.refresh();
            cluster.spec.heartbeat / 5
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
