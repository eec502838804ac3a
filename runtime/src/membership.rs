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
use crate::redis::{Arg, Redis, RedisError, Script};

mod acquaintance;
mod list;
mod note;
mod record;
mod reporting;

pub use note::{Note, NoteKind};
pub use record::{Drained, Member, MemberRecord, MemberState, SESSION_KEYS};
pub(crate) use reporting::Holder;

use acquaintance::Acquaintance;
use list::View;

static LEAVE: LazyLock<Script> = LazyLock::new(|| {
    Script::even_when_full("membership.leave", include_str!("membership/leave.lua"))
});

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
        let (joined_ms, view) = reporting::first_report(&redis, &key, &record, &spec).await?;
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
        let task = tokio::spawn(reporting::report_for_ever(Arc::downgrade(&shared)));
        if let Some(cluster) = &shared.cluster {
            cluster.task.store(Some(Arc::new(task.abort_handle())));
            cluster.report.notify_one(); // tells the others of which moment the list is that this node knows
        }
        Ok(Self { shared })
    }

    /// Reads who is there without joining, but for earlier lives of this node; for a node that wants to know first
    /// whether it may. Nothing while its name is held by a process that may be dead: then to be asked again soon, with the
    /// same `holder`.
    ///
    /// # Errors
    /// [`JoinError::Duplicate`] as soon as the holder of the name is seen to be alive; [`JoinError::Redis`] when the list
    /// cannot be read now.
    pub(crate) async fn look(
        redis: &Redis,
        keys: &KeySpace,
        (own, ttl): (&NodeId, Duration),
        holder: &mut Holder,
    ) -> Result<Option<Vec<Member>>, JoinError> {
        let looked = list::look(redis, &keys.members(), own, ttl).await;
        match looked.map_err(JoinError::Redis)? {
            (others, None) => Ok(Some(others)),
            (_, Some(entry)) => holder.seen(entry).map(|()| None),
        }
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

    /// Returns the ids of all nodes that were alive when the list was last read, this one among them: while Redis is away,
    /// those that may live although nothing is heard of them.
    #[must_use]
    pub fn live_when_read(&self) -> Vec<NodeId> {
        let view = self.shared.view.load();
        let elapsed = self.shared.cluster.as_ref().map_or(Duration::ZERO, |cluster| {
            cluster.spec.clock.now().saturating_duration_since(view.read_at)
        });
        let ttl_ms =
            self.shared.cluster.as_ref().map_or(0, |cluster| list::millis(cluster.spec.ttl));
        let was_live = |member: &&Member| {
            member.live || member.age_ms.saturating_sub(list::millis(elapsed)) < ttl_ms
        };
        view.members.iter().filter(was_live).map(|member| member.record.id.clone()).collect()
    }

    /// How long ago the list was read; zero for a node that is alone.
    #[must_use]
    pub fn unread_for(&self) -> Duration {
        let read_at = self.shared.view.load().read_at;
        self.shared.cluster.as_ref().map_or(Duration::ZERO, |cluster| {
            cluster.spec.clock.now().saturating_duration_since(read_at)
        })
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

    /// Returns the notes of processes that did not get in during the last ten minutes, as of the last report.
    #[must_use]
    pub fn notes(&self) -> Vec<Note> {
        let view = self.shared.view.load();
        let now_ms = self.server_time().map_or(0, |(now_ms, _)| now_ms);
        view.notes.iter().filter(|note| note.counts(now_ms)).cloned().collect()
    }

    /// Returns what Redis's clock shows now, ms since 1970, reckoned from the last report, and when that was; it is fast by
    /// at most the time that the report took to get there. Nothing for a node that is alone.
    #[must_use]
    pub fn server_time(&self) -> Option<(u64, BootInstant)> {
        let cluster = self.shared.cluster.as_ref()?;
        let view = self.shared.view.load();
        let elapsed = cluster.spec.clock.now().saturating_duration_since(view.read_at);
        (view.now_ms > 0).then(|| (view.now_ms + list::millis(elapsed), view.read_at))
    }

    /// Leaves a note for the others, before this node leaves because it must not stay.
    pub(crate) async fn leave_note(&self, note: &Note) {
        let Some(cluster) = &self.shared.cluster else { return };
        if let Err(error) = note.leave(&cluster.redis, &cluster.key).await {
            tracing::warn!(%error, "the others will not hear why this node left");
        }
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

    /// Waits until the list shows this node's record as it is now; returns whether that was so within the limit, which it is
    /// not while Redis is away. Who reads the list afterwards sees it.
    pub async fn told(&self, limit: Duration) -> bool {
        let mut changes = self.changes();
        let told = async {
            while !self.members().iter().any(|member| member.record == *self.own()) {
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::time::timeout(limit, told).await.is_ok()
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
        view.knows_me(cluster.joined_ms, cluster.spec.ttl, &self.shared.record.load().id)
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Membership({}, {} listed)", self.shared.record.load().id, self.members().len())
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
        let members = list::members(&view.entries, view.now_ms, elapsed, &cluster.spec, &own.id);
        self.view.store(Arc::new(View {
            members: Arc::new(members),
            entries: view.entries.clone(),
            notes: view.notes.clone(),
            rival: view.rival.clone(),
            ..*view
        }));
        self.changes.send_modify(|count| *count += 1);
    }
}

#[cfg(test)]
pub(crate) use record::record_for_test;

#[cfg(test)]
mod tests;
