//! The rolling restart: all nodes of the cluster, one after the other, each only after the one before has come back.
//!
//! The order says which lives of which nodes there were. A node of which there is another life since then is done, whoever
//! restarted it: so whoever goes on with the run, when its node has died or has handed it back, sees how far it is. What
//! tells a node to restart is meant for one life of it and heard by no later one, so to tell it again does nothing more.
//!
//! The run is on the leader, which comes last: it lets another lead, and that one goes on with the run and restarts it. So
//! the run is never on the node that it restarts, unless no other node could lead.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use sea_orm::DbErr;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use understudy_runtime::admin::nodes::{Fleet, FleetError, Wish};
use understudy_runtime::clock::BootInstant;
use understudy_runtime::error::chain;
use understudy_runtime::ids::{NodeId, NodeName};
use understudy_runtime::membership::{Member, MemberState};

use super::ROLLING_RESTART;
use crate::actor::Shared;
use crate::admin::{AdminJobs, PassedOn};
use crate::context::{GuardError, JobContext};
use crate::error::JobError;
use crate::job::Job;
use crate::jobs::{Jobs, WeakJobs};
use crate::progress::Stage;
use crate::spec::OnOrphan;

/// How often it is looked how a node is.
const LOOK: Duration = Duration::from_millis(250);
/// How soon a node is told again that shows no sign of having heard.
const AGAIN: Duration = Duration::from_secs(3);
/// How long the leader does not lead again after it let another lead: it is restarted soon.
const HOLD: Duration = Duration::from_secs(60);
/// So often a run goes on after its node has died.
const MOST_ORPHANED: u32 = 100;

/// What was ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RollingOrder {
    /// Who ordered it.
    pub(crate) by: String,
    /// Why, in their words.
    pub(crate) why: String,
    /// Which lives of nodes there were then.
    pub(crate) nodes: Vec<String>,
    /// For how long a node must have been ready before the next one goes, ms.
    pub(crate) settle_ms: u64,
    /// How long one node may take, ms.
    pub(crate) limit_ms: u64,
}

/// Makes the job.
pub(super) fn job(shared: &Arc<Shared>) -> Job {
    let shared = Arc::clone(shared);
    Job::manual(ROLLING_RESTART, move |job| restart_all(job, Arc::clone(&shared)))
        .description(
            "Restarts all nodes, one after the other; ordered by POST /v1/cluster/rolling-restart.",
        )
        .params_of::<RollingOrder>()
        .on_orphan(OnOrphan::Retry { max: MOST_ORPHANED })
        .priority(100)
        .system()
}

async fn restart_all(job: JobContext, shared: Arc<Shared>) -> Result<Value, JobError> {
    let order: RollingOrder = job.params()?;
    let nodes: Result<Vec<NodeId>, _> = order.nodes.iter().map(|node| node.parse()).collect();
    let mut left = nodes.map_err(|error| JobError::incompatible(error.to_string()))?;
    let jobs = shared.jobs.get().and_then(WeakJobs::upgrade);
    let jobs = jobs.ok_or_else(|| JobError::hand_back("its node stops"))?;
    let rolling = Rolling::begin(job, jobs, order, &left);
    let mut done = Vec::new();
    while !left.is_empty() {
        let node = left.remove(rolling.next(&left));
        let back = rolling.see_through(&node).await?;
        done.push(json!({ "node": node.name(), "from": node, "to": back }));
    }
    Ok(json!({ "nodes": done }))
}

/// How far a node is, as the list of nodes shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is as it was when the restart was ordered.
    Untouched,
    /// It drains, and will end.
    Draining,
    /// It is not there, or not yet.
    Gone,
    /// It lives again.
    Back(NodeId),
}

impl Standing {
    /// Judges by what the list says about the name of a node.
    pub(crate) fn of(node: &NodeId, listed: Option<&Member>) -> Self {
        let Some(member) = listed.filter(|member| member.live) else { return Self::Gone };
        let record = &member.record;
        let stops = record.state == MemberState::Draining && record.drained.is_none();
        match (record.id == *node, record.state) {
            (true, _) if stops => Self::Draining,
            (true, MemberState::Starting | MemberState::Ready | MemberState::Draining) => {
                Self::Untouched
            }
            // What drains already cannot be counted on.
            (false, _) if stops => Self::Gone,
            (false, MemberState::Starting) => Self::Gone,
            (false, MemberState::Ready | MemberState::Draining) => Self::Back(record.id.clone()),
        }
    }
}

/// One attempt at all nodes.
struct Rolling {
    job: JobContext,
    jobs: Jobs,
    fleet: Fleet,
    order: RollingOrder,
    began: BootInstant,
    /// Nodes that had been restarted when this attempt began.
    found: BTreeSet<NodeId>,
}

/// What came of telling a node to restart.
enum Told {
    Heard,
    /// Why it was not told, or may not have heard.
    NotYet(String),
}

/// Who leads while a node restarts.
enum Lead {
    /// Another one.
    Elsewhere,
    /// Nobody: no other node could.
    Nobody,
    /// It is not passed on yet, and why.
    NotYet(String),
}

/// What is remembered of a node between two looks at it.
#[derive(Default)]
struct Watch {
    told_at: Option<BootInstant>,
    /// Since when which life of it has been ready.
    steady: Option<(NodeId, BootInstant)>,
    /// What was last said of it.
    said: String,
}

impl Rolling {
    fn begin(job: JobContext, jobs: Jobs, order: RollingOrder, nodes: &[NodeId]) -> Self {
        let fleet = Fleet::of(job.node());
        let is_back = |node: &&NodeId| {
            let listed = fleet.member(node.name());
            matches!(Standing::of(node, listed.as_ref()), Standing::Back(_))
        };
        let found: BTreeSet<NodeId> = nodes.iter().filter(is_back).cloned().collect();
        let began = job.node().clock.now();
        let (all, already) = (nodes.len(), found.len());
        job.info(match job.attempt() {
            1 => format!("{all} nodes are to be restarted, as {} wants: {}", order.by, order.why),
            attempt => {
                format!("attempt {attempt} goes on: {already} of {all} nodes are back already")
            }
        });
        Self { job, jobs, fleet, order, began, found }
    }

    /// Chooses who comes next: whoever is on the way, then those who do not lead, then the leader, then this node.
    fn next(&self, left: &[NodeId]) -> usize {
        let own = &self.job.node().node_id;
        let leader = self.jobs.leader_status().leader;
        let turn = |node: &NodeId| match self.standing(node) {
            Standing::Draining | Standing::Gone | Standing::Back(_) => 0,
            Standing::Untouched if node == own => 3,
            Standing::Untouched if Some(node) == leader.as_ref() => 2,
            Standing::Untouched => 1,
        };
        let places = left.iter().enumerate();
        places.min_by_key(|(_, node)| turn(node)).map_or(0, |(place, _)| place)
    }

    fn standing(&self, node: &NodeId) -> Standing {
        Standing::of(node, self.fleet.member(node.name()).as_ref())
    }

    fn now(&self) -> BootInstant {
        self.job.node().clock.now()
    }

    /// Has a node restarted, and waits until it has come back for good; gives its new life.
    async fn see_through(&self, node: &NodeId) -> Result<NodeId, JobError> {
        let stage = self.job.stage(node.name().as_str(), Some(1));
        let (began, limit) = (self.now(), Duration::from_millis(self.order.limit_ms));
        let mut watch = Watch::default();
        loop {
            self.may_go_on()?;
            let standing = self.standing(node);
            if standing == Standing::Untouched {
                self.tell_if_due(node, &stage, &mut watch).await?;
            } else if let Some(back) = self.look(node, standing, &stage, &mut watch).await {
                stage.advance(1);
                return Ok(back);
            }
            if self.now().saturating_duration_since(began) > limit {
                return Err(self.gave_up(node, &watch));
            }
            tokio::select! {
                () = self.job.cancelled() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    fn gave_up(&self, node: &NodeId, watch: &Watch) -> JobError {
        JobError::fatal(format!(
            "node {} did not come back within {} s ({}); nothing further was restarted",
            node.name(),
            self.order.limit_ms.div_ceil(1_000),
            watch.said
        ))
    }

    /// Ends the attempt when somebody wants that, or leaves the rest to another node when this one is about to go.
    fn may_go_on(&self) -> Result<(), JobError> {
        self.job.check_cancelled()?;
        let lifecycle = &self.job.node().lifecycle;
        if lifecycle.is_stop_asked() || lifecycle.is_draining() {
            return Err(JobError::hand_back("its node stops"));
        }
        Ok(())
    }

    async fn tell_if_due(
        &self,
        node: &NodeId,
        stage: &Stage,
        watch: &mut Watch,
    ) -> Result<(), JobError> {
        let now = self.now();
        if watch.told_at.is_some_and(|at| now.saturating_duration_since(at) < AGAIN) {
            return Ok(());
        }
        match self.tell(node).await? {
            Told::Heard => {
                watch.told_at = Some(now);
                self.say(node, stage, watch, "was told to restart");
            }
            Told::NotYet(why) => self.say(node, stage, watch, &format!("is not told yet: {why}")),
        }
        Ok(())
    }

    /// Tells a node to restart, unless it must wait for something.
    async fn tell(&self, node: &NodeId) -> Result<Told, JobError> {
        let own = *node == self.job.node().node_id;
        let leads = self.jobs.leader_status().leader.as_ref() == Some(node);
        if own && !leads && self.job.is_of_leader() && !self.leads() {
            return Err(JobError::hand_back("the leader restarts the last node"));
        }
        // First: the lead is not moved, and nothing said of it, while the node has to wait anyway.
        if let Some(other) = self.not_ready_besides(node).await {
            return Ok(Told::NotYet(format!("{other} is not ready")));
        }
        let lead = match self.pass_the_lead_on(node).await? {
            Lead::NotYet(why) => return Ok(Told::NotYet(why)),
            lead @ (Lead::Elsewhere | Lead::Nobody) => lead,
        };
        if own && self.job.is_of_leader() && !self.leads() {
            return Err(JobError::hand_back("the leader restarts the last node"));
        }
        let RollingOrder { by, why, .. } = &self.order;
        let why = format!("rolling restart, run {}: {why}", self.job.run_id());
        let wish = Wish { by: by.clone(), why, force: false };
        // As late as possible: whoever stood still since the run was given away must not tell anybody anything.
        let told = self.fleet.restart_if(node, &wish, self.is_ours()).await;
        if told.is_ok() && matches!(lead, Lead::Nobody) {
            let name = node.name();
            self.job.warn(format!("nobody leads while {name} restarts: no other node could"));
        }
        match told {
            Ok(()) if own => Err(JobError::hand_back("its own node restarts")),
            Ok(()) => Ok(Told::Heard),
            Err(error @ FleetError::LastNode) => Ok(Told::NotYet(error.to_string())),
            Err(error) => Ok(Told::NotYet(chain(&error))),
        }
    }

    fn leads(&self) -> bool {
        self.jobs.leader().board().leading(self.now()).is_some()
    }

    /// Has another node lead if this one does whose turn it is; when nobody else could lead, it goes on without.
    async fn pass_the_lead_on(&self, node: &NodeId) -> Result<Lead, JobError> {
        if self.jobs.leader_status().leader.as_ref() != Some(node) {
            return Ok(Lead::Elsewhere);
        }
        let admin = AdminJobs::of(&self.jobs, self.job.node());
        Ok(match admin.pass_on(HOLD).await {
            PassedOn::To(name) => {
                self.job.info(format!("{name} leads now, since {} is the last", node.name()));
                if *node == self.job.node().node_id {
                    return Err(JobError::hand_back(format!("{name} leads now and goes on")));
                }
                Lead::Elsewhere
            }
            PassedOn::NobodyElse => Lead::Nobody,
            PassedOn::NotYet(why) => Lead::NotYet(why),
        })
    }

    /// Finds one of the others that were there when the restart was ordered which does not serve now: whoever was restarted
    /// before may have died since. Those that an operator has taken out of service do not count.
    async fn not_ready_besides(&self, node: &NodeId) -> Option<NodeName> {
        for id in self.order.nodes.iter().filter_map(|id| id.parse::<NodeId>().ok()) {
            let name = id.name();
            if name == node.name() {
                continue;
            }
            let ready = match self.fleet.member(name).filter(|member| member.live) {
                Some(member) if member.record.drained.is_some() => true,
                Some(member) => self.fleet.is_ready(&member).await,
                None => false,
            };
            if !ready {
                return Some(name.clone());
            }
        }
        None
    }

    /// Fails when the run is another node's by now, or when that is not known.
    async fn is_ours(&self) -> Result<(), String> {
        match self.is_fenced().await? {
            true => Err("the run was given to another node".to_owned()),
            false => Ok(()),
        }
    }

    /// Whether the run is another node's by now; an error says that this is not known.
    async fn is_fenced(&self) -> Result<bool, String> {
        let job = self.job.clone();
        let asked = self.job.node().database.transaction(move |executor| {
            let job = job.clone();
            Box::pin(async move {
                match job.guard(executor).await {
                    Ok(()) => Ok(false),
                    Err(GuardError::Fenced) => Ok(true),
                    Err(GuardError::Database(error)) => Err::<bool, DbErr>(error),
                }
            })
        });
        asked.await.map_err(|error| chain(&error))
    }

    /// Looks at a node that is on its way; gives its new life once that has been ready for long enough.
    async fn look(
        &self,
        node: &NodeId,
        standing: Standing,
        stage: &Stage,
        watch: &mut Watch,
    ) -> Option<NodeId> {
        let back = match standing {
            Standing::Back(back) => back,
            Standing::Draining | Standing::Untouched => {
                watch.steady = None;
                self.say(node, stage, watch, "drains");
                return None;
            }
            Standing::Gone => {
                watch.steady = None;
                self.say(node, stage, watch, "is gone");
                return None;
            }
        };
        let listed = self.fleet.member(node.name()).filter(|member| member.record.id == back);
        let ready = match &listed {
            Some(member) => self.fleet.is_ready(member).await,
            None => false,
        };
        if !ready {
            watch.steady = None;
            self.say(node, stage, watch, "is back, and not ready");
            return None;
        }
        let since = match watch.steady.take() {
            Some((life, since)) if life == back => since,
            // Who was back before this attempt need not be waited for one by one.
            None if watch.said.is_empty() && self.found.contains(node) => self.began,
            Some(_) | None => self.now(),
        };
        watch.steady = Some((back.clone(), since));
        self.say(node, stage, watch, "is back and ready");
        let settled = self.now().saturating_duration_since(since);
        (settled >= Duration::from_millis(self.order.settle_ms)).then_some(back)
    }

    /// Notes what is new about a node.
    fn say(&self, node: &NodeId, stage: &Stage, watch: &mut Watch, what: &str) {
        if watch.said != what {
            what.clone_into(&mut watch.said);
            stage.item(what);
            self.job.info(format!("{} {what}", node.name()));
        }
    }
}

#[cfg(test)]
mod tests {
    use understudy_runtime::membership::{Drained, MemberRecord};

    use super::*;

    fn member(id: &str, state: MemberState, live: bool) -> Member {
        let json = json!({
            "id": id, "host": "h", "pid": 1, "started_ms": 0, "version": "0", "state": state,
        });
        let record: MemberRecord = serde_json::from_value(json).unwrap();
        Member { record, age_ms: 0, live }
    }

    #[test]
    fn h9_another_life_of_a_node_is_back_once_it_has_started() {
        let (old, new) = ("a#0000000000000001", "a#0000000000000002");
        let node: NodeId = old.parse().unwrap();
        let standing = |id, state, live| Standing::of(&node, Some(&member(id, state, live)));
        assert_eq!(Standing::of(&node, None), Standing::Gone);
        assert_eq!(standing(old, MemberState::Ready, true), Standing::Untouched);
        assert_eq!(standing(old, MemberState::Ready, false), Standing::Gone);
        assert_eq!(standing(old, MemberState::Draining, true), Standing::Draining);
        assert_eq!(standing(new, MemberState::Starting, true), Standing::Gone);
        assert_eq!(standing(new, MemberState::Ready, false), Standing::Gone);
        let back = Standing::Back(new.parse().unwrap());
        assert_eq!(standing(new, MemberState::Ready, true), back);
        assert_eq!(standing(new, MemberState::Draining, true), Standing::Gone, "it goes again");
    }

    #[test]
    fn h9_a_node_that_an_operator_has_taken_out_of_service_is_restarted_too() {
        let node: NodeId = "a#0000000000000001".parse().unwrap();
        let mut drained = member("a#0000000000000001", MemberState::Draining, true);
        let by = || Drained { by: "mary".to_owned(), why: "disk".to_owned(), at_ms: 1 };
        drained.record.drained = Some(by());
        assert_eq!(Standing::of(&node, Some(&drained)), Standing::Untouched);
        drained.record.id = "a#0000000000000002".parse().unwrap();
        assert_eq!(Standing::of(&node, Some(&drained)), Standing::Back(drained.record.id.clone()));
    }

    #[test]
    fn an_order_is_stored_and_read_again_and_nothing_else_is_taken_for_one() {
        let order = RollingOrder {
            by: "mary".to_owned(),
            why: "a new kernel".to_owned(),
            nodes: vec!["a#0000000000000001".to_owned()],
            settle_ms: 5_000,
            limit_ms: 300_000,
        };
        let stored = serde_json::to_value(&order).unwrap();
        assert_eq!(serde_json::from_value::<RollingOrder>(stored).unwrap(), order);
        assert!(serde_json::from_value::<RollingOrder>(Value::Null).is_err());
        let schema = job(&Arc::default()).spec().params_schema.clone().unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        assert!(!validator.is_valid(&json!({ "why": "x" })));
        assert!(validator.is_valid(&serde_json::to_value(&order).unwrap()));
    }
}
