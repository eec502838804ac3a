//! What one node does about one session: owns it, asks the owner, waits, repairs, or says that it is over.
//!
//! A plain state machine. [`Engine::next`] says which step to take, the `on_…` methods take in what came back; the
//! actor in [`crate::actor`] carries the steps out. At most one step that touches the store is under way (rule R9);
//! operations that arrive meanwhile form the next write (group commit). Answers leave through [`Engine::take_answers`],
//! after the actor has published the new snapshot, so that nobody who was answered reads something older.

mod answers;
mod job;
mod replies;
mod step;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use understudy_runtime::clock::BootInstant;
use understudy_runtime::ids::NodeId;

use crate::ownership::Standing;
use crate::record::{Fence, OpId, Record, Token};
use crate::state::{Ask, Limits, Outcome, Traced, plan};
use crate::store::End;

pub use job::{Answer, Job, Refusal, Reply, Trace, View, Work};
pub use replies::{Forwarded, Sent};

pub use step::{Kept, Moment, Owned, Role, Step};

use job::{is_unanswered_end, take_if};
use replies::Silence;
use step::Batch;

/// Most operations that one write carries; more wait for the next one.
const BATCH: usize = 256;
/// How long a request waits for a store that is away before it is told so, at most.
pub const STORE_PATIENCE: Duration = Duration::from_millis(700);
/// How soon a failed step is tried again.
pub(crate) const RETRY: Duration = Duration::from_millis(20);
/// How long an owner gets for a job at least; at most, before it is asked again.
const SHORTEST_FORWARD: Duration = Duration::from_millis(300);
const LONGEST_FORWARD: Duration = Duration::from_secs(1);
/// How soon a claim is tried again while the grace lasts.
const GRACE_POLL: Duration = Duration::from_millis(50);
/// Answers to other nodes that are remembered, in case they ask again.
const REMEMBERED: usize = 512;

/// The state machine of one session on one node.
#[derive(Debug)]
pub struct Engine {
    me: NodeId,
    limits: Limits,
    role: Role,
    queue: VecDeque<Job>,
    batch: Option<Batch>,
    in_step: bool,
    /// When the step under way, or the last one, began.
    step_began: BootInstant,
    /// Waits for those who asked to end the session, while the step is under way.
    ending: Vec<Job>,
    answers: Vec<(Job, Answer)>,
    not_before: BootInstant,
    /// The owner that did not do a job, until a claim tells how things stand with it.
    silent: Option<(NodeId, Silence)>,
    /// How often in a row an owner was asked in vain.
    in_vain: u32,
    /// The owner whose lease is waited out, until `not_before`.
    outwaiting: Option<NodeId>,
    check_wanted: bool,
    /// The store lost writes: put the copy back, then go on.
    repair_wanted: bool,
    /// The store calls another node the owner, although the lease had no gap: unless it forgot this one's claim.
    contested: bool,
    /// Nobody used it for too long.
    expired: bool,
    /// Somebody ended it at the store.
    over: bool,
    remembered: VecDeque<(OpId, Outcome, u64)>,
}

impl Engine {
    /// Makes the machine of a session that this node knows nothing of.
    #[must_use]
    pub fn new(me: NodeId, limits: Limits) -> Self {
        Self {
            me,
            limits,
            role: Role::Unknown(None),
            queue: VecDeque::new(),
            batch: None,
            in_step: false,
            step_began: BootInstant::from_nanos(0),
            ending: Vec::new(),
            answers: Vec::new(),
            not_before: BootInstant::from_nanos(0),
            silent: None,
            in_vain: 0,
            outwaiting: None,
            check_wanted: false,
            repair_wanted: false,
            contested: false,
            expired: false,
            over: false,
            remembered: VecDeque::new(),
        }
    }

    /// Makes the machine of a session that this node just created.
    #[must_use]
    pub fn owning(me: NodeId, limits: Limits, owned: Owned) -> Self {
        Self { role: Role::Owner(owned), ..Self::new(me, limits) }
    }

    /// Tells this node's relation to the session.
    #[must_use]
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// Says whether nothing is asked or under way, so that the actor may go.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
            && self.batch.is_none()
            && !self.in_step
            && self.ending.is_empty()
            && !self.check_wanted
    }

    /// Says whether a change may be at the store of which this node was not told yet.
    #[must_use]
    pub fn is_changing(&self) -> bool {
        self.batch.is_some() || !self.ending.is_empty()
    }

    /// Says whether the copy was confirmed or put back after the last [`Self::want_check`].
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        !self.check_wanted && !self.repair_wanted && !self.in_step
    }

    /// Says whether the session may be given to another node at this moment: it is owned here beyond doubt, and nothing is
    /// under way.
    #[must_use]
    pub fn may_part(&self, moment: &Moment) -> bool {
        let Role::Owner(owned) = &self.role else { return false };
        let in_doubt = self.repair_wanted || self.contested || self.expired || self.over;
        self.is_idle() && !in_doubt && owned.held.standing(moment.lease) == Standing::Trusted
    }

    /// Gives the fence to release before the actor goes, if this node owns the session.
    #[must_use]
    pub fn fence(&self) -> Option<&Fence> {
        match &self.role {
            Role::Owner(owned) => Some(&owned.held.fence),
            Role::Unknown(_) | Role::Elsewhere { .. } | Role::Ended => None,
        }
    }

    /// Forgets who owns the session, after a release.
    pub fn forget(&mut self) {
        self.role = Role::Unknown(None);
    }

    /// Takes `node` for the owner until then, after a release in its favour: what it had sent here before it heard of that is
    /// sent back, and not a reason to claim the session again.
    pub fn leave_to(&mut self, node: NodeId, until: BootInstant) {
        let Role::Owner(owned) = &self.role else { return };
        let version = owned.record.version;
        self.role = Role::Elsewhere { node, until, version };
    }

    /// The node that this engine works for.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.me
    }

    /// Takes a job in.
    pub fn submit(&mut self, mut job: Job) {
        if let Some(trace) = job.trace.filter(|_| job.from_peer) {
            if let Some((_, outcome, version)) =
                self.remembered.iter().find(|(id, ..)| *id == trace.id)
            {
                let answer = Ok(Reply::Done(outcome.clone(), *version));
                self.answers.push((job, answer));
                return;
            }
            let batched =
                self.batch.iter_mut().flat_map(|batch| batch.jobs.iter_mut().map(|(job, _)| job));
            if let Some(same) =
                self.queue.iter_mut().chain(batched).find(|other| other.id() == Some(trace.id))
            {
                same.replies.append(&mut job.replies);
                if let Some(known) = &mut same.trace {
                    known.uncertain |= trace.uncertain;
                }
                return;
            }
        }
        self.queue.push_back(job);
    }

    /// Asks for a check of the copy at the next step: the store changed its identity, and may have lost it.
    pub fn want_check(&mut self) {
        if matches!(self.role, Role::Owner(_) | Role::Unknown(Some(_))) {
            self.check_wanted = true;
        }
    }

    /// Takes in that somebody has ended the session at the store: a step that is under way is waited for, and after that
    /// there is none. A locator is never used again, so this stays.
    pub fn hear_end(&mut self) {
        self.over = true;
    }

    /// Owns the session no more, but keeps the last durable copy: should the store lose it, it can be put back.
    fn disown(&mut self) {
        if let Role::Owner(owned) = &self.role {
            let rid_epoch = owned.held.stamp.rid_epoch;
            self.role = Role::Unknown(Some(Kept { record: Arc::clone(&owned.record), rid_epoch }));
        }
    }

    /// Takes the answers that are ready; to be sent after the snapshot was published.
    pub fn take_answers(&mut self) -> Vec<(Job, Answer)> {
        std::mem::take(&mut self.answers)
    }

    /// Says what to do next. Call again after each `Forward`; every other step but `Rest` and `Wait` must be followed
    /// by its `on_…` call before another one is given.
    pub fn next(&mut self, moment: Moment) -> Step {
        self.give_up_late_jobs(moment.now);
        if self.over && !self.in_step {
            self.end();
        }
        if self.in_step || (self.queue.is_empty() && self.batch.is_none() && !self.check_wanted) {
            return Step::Rest;
        }
        if self.not_before > moment.now && !self.may_look(&moment) {
            return Step::Wait(self.not_before);
        }
        if moment.lease.is_none() && !matches!(self.role, Role::Ended) {
            self.check_wanted = false; // the next lease brings the next check
            self.lose_patience(moment.now, moment.patience);
            return if self.is_idle() { Step::Rest } else { Step::Wait(moment.now + RETRY) };
        }
        let step = match &self.role {
            Role::Unknown(_) => self.next_unknown(moment),
            Role::Owner(owned) => self.next_as_owner(owned.clone(), moment),
            Role::Elsewhere { node, until, version } => {
                let (node, until, version) = (node.clone(), *until, *version);
                self.next_elsewhere(node, until, version, moment)
            }
            Role::Ended => self.refuse_all(Refusal::Ended),
        };
        self.in_step = !matches!(step, Step::Rest | Step::Wait(_) | Step::Forward { .. });
        if self.in_step {
            self.step_began = moment.now;
        }
        step
    }

    /// Says whether somebody wants to look while the owner's lease is waited out: that takes no lease.
    fn may_look(&self, moment: &Moment) -> bool {
        self.outwaiting.is_some()
            && matches!(self.role, Role::Elsewhere { .. })
            && moment.lease.is_some()
            && self.queue.iter().any(|job| matches!(job.work, Work::View))
    }

    /// What was owned is put in for whoever claims, if the store may have lost it: the newest copy wins. Then, if
    /// somebody wants the session, it is claimed.
    fn next_unknown(&mut self, moment: Moment) -> Step {
        let Role::Unknown(kept) = &self.role else { return Step::Rest };
        let same_store =
            |kept: &&Kept| Some(kept.rid_epoch) == moment.lease.map(|now| now.rid_epoch);
        let restore =
            kept.as_ref().filter(|kept| !same_store(kept)).map(|kept| Arc::clone(&kept.record));
        // Versions tell contents apart only as long as the store is the same: after a loss two histories can have one.
        // So can two children of one name, one after the other.
        let known = kept.as_ref().filter(same_store).filter(|kept| !kept.record.is_child());
        let known_version = known.map(|kept| kept.record.version);
        let check = std::mem::take(&mut self.check_wanted);
        if let Some(copy) = restore.filter(|_| check) {
            return Step::Restore(copy);
        }
        if self.queue.is_empty() && self.batch.is_none() {
            return Step::Rest;
        }
        self.claim(known_version)
    }

    fn claim(&self, known_version: Option<u64>) -> Step {
        Step::Claim { token: Token::new(&self.me), known_version }
    }

    fn next_as_owner(&mut self, owned: Owned, moment: Moment) -> Step {
        match owned.held.standing(moment.lease) {
            Standing::Lapsed => return Step::Wait(moment.now + RETRY),
            Standing::Validate => return Step::Validate(owned.held),
            Standing::Claim => {
                self.disown();
                return self.next_unknown(moment);
            }
            Standing::Trusted => self.check_wanted = false,
        }
        if self.repair_wanted {
            return Step::Restore(owned.record);
        }
        if !self.ending.is_empty() {
            return Step::Revoke(End::Asked);
        }
        if self.expired || owned.server_ms(moment.now) >= owned.record.absolute_ms {
            return Step::Revoke(End::OutOfTime);
        }
        if moment.now.saturating_duration_since(moment.last_access)
            >= Duration::from_millis(owned.record.idle_ms)
        {
            return Step::Validate(owned.held); // other nodes may have noted later accesses
        }
        if self.batch.is_none() {
            if !self.queue.front().is_some_and(is_unanswered_end) {
                self.answer_views(&owned, moment.now);
            }
            if let Some(step) = self.next_revoke(&owned, moment.now) {
                return step;
            }
            self.answer_views(&owned, moment.now);
            self.form_batch(&owned, moment.now);
        }
        self.send_batch(&owned)
    }

    fn answer_views(&mut self, owned: &Owned, now: BootInstant) {
        let view =
            View { record: Arc::clone(&owned.record), now_ms: owned.server_ms(now), owner: None };
        self.answer_all_views(&view, now);
    }

    /// Shows the session to all who asked by then.
    fn answer_all_views(&mut self, view: &View, by: BootInstant) {
        let asked = |job: &Job| matches!(job.work, Work::View) && job.submitted <= by;
        for job in take_if(&mut self.queue, asked) {
            self.answers.push((job, Ok(Reply::View(view.clone()))));
        }
    }

    /// The end of a session waits for the operations before it and goes before those after it.
    fn next_revoke(&mut self, owned: &Owned, now: BootInstant) -> Option<Step> {
        while let Some(Job { work: Work::Revoke(secret), .. }) = self.queue.front() {
            let allowed = secret.as_ref().is_none_or(|secret| {
                crate::state::opens(&owned.record, secret, owned.server_ms(now))
            });
            let job = self.queue.pop_front()?;
            if allowed {
                self.ending.push(job);
                return Some(Step::Revoke(End::Asked));
            }
            self.answers.push((job, Err(Refusal::Ended)));
        }
        None
    }

    fn form_batch(&mut self, owned: &Owned, now: BootInstant) {
        let mut jobs = Vec::new();
        while jobs.len() < BATCH
            && matches!(self.queue.front(), Some(Job { work: Work::Ask(_), .. }))
        {
            let Some(job) = self.queue.pop_front() else {
                break;
            };
            if let Some(job) = self.settle_trace(job, &owned.record) {
                jobs.push(job);
            }
        }
        if jobs.is_empty() {
            return;
        }
        let mut asks: Vec<&mut Ask> = jobs.iter_mut().filter_map(Job::ask).collect();
        let plan = plan(&owned.record, &mut asks, &self.limits, owned.server_ms(now));
        let jobs: Vec<(Job, Outcome)> = jobs.into_iter().zip(plan.outcomes).collect();
        match plan.write {
            None => self.answer_done(jobs, owned.record.version),
            Some((change, after)) => {
                let op_id = OpId::random();
                let after = Arc::new(Record { last_op: Some(op_id), ..after });
                self.batch = Some(Batch {
                    jobs,
                    op_id,
                    change: Arc::new(change),
                    after,
                    since: now,
                    unsure: false,
                });
            }
        }
    }

    /// An operation that was sent from node to node is looked up before it is run here: another may have carried it out.
    /// And it is listed when it is run, for a copy of it may still arrive somewhere.
    fn settle_trace(&mut self, mut job: Job, record: &Record) -> Option<Job> {
        let Some(trace) = job.trace else {
            return Some(job);
        };
        match record.recent.look_up(trace.id, trace.known_version) {
            Traced::Applied(outcome) => {
                self.answers.push((job, Ok(Reply::Done(outcome, record.version))));
                None
            }
            Traced::Unknown if trace.uncertain => {
                self.answers.push((job, Err(Refusal::OutcomeUnknown)));
                None
            }
            Traced::Unknown | Traced::NotApplied => {
                job.trace = Some(Trace { uncertain: false, ..trace });
                if let Some(ask) = job.ask() {
                    ask.remote.get_or_insert(trace.id);
                }
                Some(job)
            }
        }
    }

    fn send_batch(&self, owned: &Owned) -> Step {
        let Some(batch) = &self.batch else {
            return Step::Rest;
        };
        Step::Write {
            held: owned.held.clone(),
            op_id: batch.op_id,
            change: Arc::clone(&batch.change),
            after: Arc::clone(&batch.after),
        }
    }

    fn next_elsewhere(
        &mut self,
        node: NodeId,
        until: BootInstant,
        version: u64,
        moment: Moment,
    ) -> Step {
        if moment.now >= until || self.queue.iter().any(|job| matches!(job.work, Work::View)) {
            self.role = Role::Unknown(None);
            return self.claim(None);
        }
        for job in take_if(&mut self.queue, |job| job.from_peer) {
            self.answers.push((job, Err(Refusal::NotOwner)));
        }
        for job in take_if(&mut self.queue, Job::stays) {
            self.answers.push((job, Err(Refusal::NotOwner)));
        }
        let Some(mut job) = self.queue.pop_front() else {
            return Step::Rest;
        };
        self.outwaiting = None; // the wait is over: what comes of this is news again
        let version = version.max(moment.seen_version);
        let fresh = Trace { id: OpId::random(), known_version: version, uncertain: false };
        let trace = job.trace.get_or_insert(fresh);
        if !trace.uncertain {
            // It was carried out nowhere yet, so whatever version it makes comes after all that were seen.
            trace.known_version = trace.known_version.max(version);
        }
        // At the end of the owner's lease a claim tells whether it is gone; sooner whether it only did not hear: a message
        // may get lost, and asking again does no harm.
        let longest = (SHORTEST_FORWARD * 2_u32.pow(job.sent.min(8))).min(LONGEST_FORWARD);
        let patience = until.saturating_duration_since(moment.now).clamp(SHORTEST_FORWARD, longest);
        job.sent += 1;
        let limit = patience.min(job.deadline.saturating_duration_since(moment.now));
        Step::Forward { node, job, limit }
    }
}
