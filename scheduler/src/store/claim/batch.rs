//! What one claim comes to: which of the planned starts begin, wait or are dropped, collected so that each table is
//! written once.

use std::collections::HashMap;
use std::sync::Arc;

use sea_orm::DbErr;
use serde_json::json;

use super::super::recordset::{Kind, recordset};
use super::super::{Definition, Need, Tx, text_of};
use super::{
    Active, Claim, ClaimOutcome, Decision, JobPlan, Outcome, Start, insert_decisions,
    insert_runs_sql, taken,
};
use crate::run::{Cause, Chain, RunId};
use crate::spec::{Overlap, Placement, Schedule};

/// What a claim writes, collected so that each table is written once.
pub(super) struct Batch<'a> {
    claim: &'a Claim,
    active: HashMap<(String, String), Active>,
    now_ms: i64,
    slots: usize,
    runs: Vec<serde_json::Value>,
    definitions: HashMap<&'a str, &'a Arc<Definition>>,
    cursors: Vec<serde_json::Value>,
    decisions: Vec<serde_json::Value>,
    cancels: Vec<serde_json::Value>,
    decided: HashMap<Outcome, i64>,
}

/// What the overlap policy makes of a start.
enum Admission {
    Now,
    Waits,
    Skipped(String),
    CancelsOthers,
}

impl<'a> Batch<'a> {
    pub(super) fn new(
        claim: &'a Claim,
        active: HashMap<(String, String), Active>,
        now_ms: i64,
    ) -> Self {
        Self {
            claim,
            active,
            now_ms,
            slots: claim.claimant.room.slots,
            runs: Vec::new(),
            definitions: HashMap::new(),
            cursors: Vec::new(),
            decisions: Vec::new(),
            cancels: Vec::new(),
            decided: HashMap::new(),
        }
    }

    pub(super) fn add(
        &mut self,
        plan: &JobPlan,
        definition: &'a Arc<Definition>,
        held: Option<&(Outcome, String)>,
    ) {
        self.definitions.insert(definition.spec.name.as_str(), definition);
        for decision in &plan.decisions {
            self.decide(plan, decision);
        }
        let mut started = false;
        for start in &plan.starts {
            let refused = match held {
                Some(held) => Some(held.clone()),
                None => self.start(plan, definition, start),
            };
            match refused {
                None => started = true,
                Some((outcome, reason)) => self.decide(
                    plan,
                    &Decision {
                        from_ms: start.fire_ms,
                        to_ms: start.fire_ms,
                        fires: 1,
                        outcome,
                        reason,
                    },
                ),
            }
        }
        // A job that is due after its run, and whose run did not begin, would never be due again.
        let waits = matches!(definition.spec.schedule, Schedule::After { .. });
        let next_ms = if waits && !started {
            definition.next_ms(plan.last_ms, self.now_ms)
        } else {
            plan.next_ms
        };
        self.cursors.push(json!({
            "job": plan.job, "scope": plan.scope, "last_ms": plan.last_ms, "next_ms": next_ms,
        }));
    }

    fn decide(&mut self, plan: &JobPlan, decision: &Decision) {
        *self.decided.entry(decision.outcome).or_default() += decision.fires;
        self.decisions.push(decision.row(&plan.job, &plan.scope));
    }

    /// Adds a run, unless the overlap policy is against it.
    fn start(
        &mut self,
        plan: &JobPlan,
        definition: &Definition,
        start: &Start,
    ) -> Option<(Outcome, String)> {
        let key = (plan.job.as_str().to_owned(), plan.scope.clone());
        let active = self.active.get(&key).copied().unwrap_or_default();
        let mut now = true;
        let unmet = self.unmet(definition);
        match admit(definition.spec.overlap, active, start) {
            Admission::Now => {}
            Admission::Waits => now = false,
            Admission::Skipped(reason) => {
                return Some(match unmet {
                    Some(need) => (Outcome::NoHandler, format!("{need}; {reason}")),
                    None => (Outcome::SkippedOverlap, reason),
                });
            }
            Admission::CancelsOthers => {
                self.cancels.push(json!({ "job": plan.job, "scope": plan.scope }));
                now = false;
            }
        }
        let here = now && self.is_ours(definition);
        let row = self.run_row(plan, definition, start, here);
        self.runs.push(row);
        let active = self.active.entry(key).or_default();
        if here {
            active.running += 1;
        } else {
            active.waiting += 1;
        }
        if let Some(need) = unmet {
            let decision = Decision {
                from_ms: start.fire_ms,
                to_ms: start.fire_ms,
                fires: 1,
                outcome: Outcome::NoHandler,
                reason: format!("{need}; the run waits for one"),
            };
            self.decide(plan, &decision);
        }
        None
    }

    /// Whether no living node could run it: then that is why nothing starts, whatever stands in the way besides.
    fn unmet(&self, definition: &Definition) -> Option<&'a Need> {
        self.claim.unmet.get(&Need::of(&definition.spec))
    }

    /// Whether a run begins here and at once; takes a slot for it.
    fn is_ours(&mut self, definition: &Definition) -> bool {
        let spec = &definition.spec;
        let placed_here = match spec.placement {
            Placement::Leader => self.claim.claimant.epoch.is_some(),
            Placement::Every => self.claim.claimant.epoch.is_none(),
            Placement::Any => false,
        };
        // What is limited across jobs, or put off, goes through the queue.
        let direct = spec.limit().is_none() && spec.jitter.is_zero();
        if !placed_here || !direct || !self.claim.claimant.room.suits(definition) {
            return false;
        }
        if spec.system {
            return true;
        }
        let free = self.slots > 0;
        self.slots = self.slots.saturating_sub(1);
        free
    }

    fn run_row(
        &self,
        plan: &JobPlan,
        definition: &Definition,
        start: &Start,
        here: bool,
    ) -> serde_json::Value {
        let spec = &definition.spec;
        let limit = spec.limit();
        let grace_ms = spec.misfire_grace.map_or(self.claim.grace_ms, crate::plan::millis);
        // A leader that cannot run a job of its own leaves it to whoever can.
        let lacks =
            self.claim.claimant.epoch.is_some() && !self.claim.claimant.room.suits(definition);
        let placement = match spec.placement {
            Placement::Leader if lacks => "any",
            Placement::Leader => "leader",
            Placement::Any => "any",
            Placement::Every => "every",
        };
        let chain = (!spec.then.is_empty()).then(|| {
            text_of(&Chain { rest: spec.then.clone(), on_failure: spec.on_failure, root: None })
        });
        let labels = (!spec.labels.is_empty()).then(|| text_of(&spec.labels));
        json!({
            "job": plan.job, "fire_key": start.key, "scope": plan.scope, "fire_ms": start.fire_ms,
            "cause": Cause::Schedule.as_str(), "state": if here { "running" } else { "queued" },
            "placement": placement, "handler": spec.handler, "labels": labels,
            "priority": spec.priority, "system": spec.system,
            "exclusive": !matches!(spec.overlap, Overlap::Allow { .. }),
            "limit_key": limit.as_ref().map(|(key, _)| key), "limit_max": limit.as_ref().map(|(_, max)| max),
            "chain": chain,
            "not_before_ms": self.now_ms.max(start.fire_ms) + jitter_ms(spec, &start.key),
            "expires_ms": start.fire_ms.max(self.now_ms) + grace_ms,
            "node": here.then_some(&self.claim.claimant.node),
        })
    }

    pub(super) async fn write(
        mut self,
        tx: &Tx<'_>,
        outcome: &mut ClaimOutcome,
    ) -> Result<(), DbErr> {
        outcome.decided = std::mem::take(&mut self.decided);
        if !self.cancels.is_empty() {
            outcome.cancelled = self.cancel_others(tx).await?;
        }
        if !self.runs.is_empty() {
            self.insert_runs(tx, outcome).await?;
        }
        if !self.cursors.is_empty() {
            self.move_cursors(tx).await?;
        }
        if !self.decisions.is_empty() {
            let epoch = self.epoch();
            insert_decisions(tx, &text_of(&self.decisions), epoch).await?;
        }
        Ok(())
    }

    fn epoch(&self) -> i64 {
        i64::try_from(self.claim.claimant.epoch.unwrap_or(0)).unwrap_or(i64::MAX)
    }

    async fn insert_runs(&self, tx: &Tx<'_>, outcome: &mut ClaimOutcome) -> Result<(), DbErr> {
        let sql = insert_runs_sql(tx);
        let values = vec![text_of(&self.runs).into(), self.epoch().into(), self.now_ms.into()];
        for row in tx.all(&sql, values).await? {
            let state: String = row.try_get("", "state")?;
            if state != "running" {
                outcome.queued += 1;
                continue;
            }
            let job: String = row.try_get("", "job")?;
            if let Some(definition) = self.definitions.get(job.as_str()) {
                outcome.started.push(taken(&row, definition)?);
            }
        }
        Ok(())
    }

    async fn move_cursors(&self, tx: &Tx<'_>) -> Result<(), DbErr> {
        let rows = recordset(
            tx.backend,
            1,
            &[
                ("job", Kind::Text),
                ("scope", Kind::Text),
                ("last_ms", Kind::Big),
                ("next_ms", Kind::Big),
            ],
        );
        let sql = format!(
            "UPDATE us_job_cursor SET last_fire_ms = x.last_ms, next_fire_ms = x.next_ms FROM {rows} \
             WHERE us_job_cursor.job = x.job AND us_job_cursor.scope = x.scope \
             AND us_job_cursor.last_fire_ms <= x.last_ms"
        );
        tx.execute(&sql, vec![text_of(&self.cursors).into()]).await.map(|_| ())
    }

    /// Asks runs that still go on to end, and drops those that wait; gives the former, with their nodes.
    async fn cancel_others(&self, tx: &Tx<'_>) -> Result<Vec<(RunId, String)>, DbErr> {
        let rows = recordset(tx.backend, 1, &[("job", Kind::Text), ("scope", Kind::Text)]);
        let same = format!(
            "EXISTS (SELECT 1 FROM {rows} WHERE x.job = us_job_run.job AND x.scope = us_job_run.scope)"
        );
        let jobs = text_of(&self.cancels);
        let running = format!(
            "UPDATE us_job_run SET cancel_ms = {}, cancel_by = 'overlap' \
             WHERE state = 'running' AND cancel_ms IS NULL AND {same} RETURNING id, node",
            self.now_ms
        );
        let mut told = Vec::new();
        for row in tx.all(&running, vec![jobs.clone().into()]).await? {
            let (id, node): (i64, Option<String>) =
                (row.try_get("", "id")?, row.try_get("", "node")?);
            told.extend(node.map(|node| (RunId(id), node)));
        }
        let waiting = format!(
            "UPDATE us_job_run SET state = 'cancelled', finished_ms = {}, cancel_by = 'overlap', \
             error = 'a later run took its place' WHERE state IN ('queued', 'retrying') AND {same}",
            self.now_ms
        );
        tx.execute(&waiting, vec![jobs.into()]).await?;
        Ok(told)
    }
}

fn admit(overlap: Overlap, active: Active, start: &Start) -> Admission {
    let busy = active.running + active.waiting;
    if busy == 0 {
        return Admission::Now;
    }
    // Caught up one after the other: whoever asked for all of them did not ask for overlaps.
    if start.caught_up && !matches!(overlap, Overlap::Allow { .. }) {
        return Admission::Waits;
    }
    match overlap {
        Overlap::Skip => Admission::Skipped("an earlier run had not ended".to_owned()),
        Overlap::QueueOne if active.waiting > 0 => {
            Admission::Skipped("an earlier run had not ended, and one waits already".to_owned())
        }
        Overlap::QueueOne | Overlap::QueueAll => Admission::Waits,
        Overlap::CancelPrevious => Admission::CancelsOthers,
        Overlap::Allow { max } if busy >= i64::from(max) => {
            Admission::Skipped(format!("{max} runs had not ended"))
        }
        Overlap::Allow { .. } => Admission::Now,
    }
}

/// The same for every node that computes it, and spread evenly.
fn jitter_ms(spec: &crate::spec::JobSpec, key: &str) -> i64 {
    use sha2::{Digest, Sha256};
    let most = crate::plan::millis(spec.jitter);
    if most == 0 {
        return 0;
    }
    let hash = Sha256::digest(format!("{}\n{key}", spec.name));
    let draw = u64::from_be_bytes([
        hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7],
    ]);
    i64::try_from(draw % most.unsigned_abs()).unwrap_or(0)
}
