//! Holding a job back, and what becomes of due times that nobody decided about before its definition changed.

use sea_orm::DbErr;

use super::super::claim::insert_decisions;
use super::super::{Outcome, Tx, text_of};
use super::write::{Before, Change, Done, What};
use super::{Cursor, Definition, Pause};
use crate::plan::{self, Moment};
use crate::schedule::{Timetable, ZoneName};
use crate::spec::{Placement, Schedule};

/// So many chunks of a backlog are decided when a job is resumed; the rest of a longer one are misfires.
const MOST_SETTLED: usize = 200;

/// Pauses, resumes, switches on or off.
pub(super) async fn hold(tx: &Tx<'_>, change: &Change, before: Before) -> Result<Done, DbErr> {
    let now_ms = tx.now_ms().await?;
    let (mut enabled, mut paused) = (before.enabled, before.paused.clone());
    match &change.what {
        What::Pause(Some(why)) => {
            let pause = Pause { since_ms: now_ms, by: change.by.clone(), why: why.clone() };
            paused =
                Some(paused.map_or(pause.clone(), |old| Pause { since_ms: old.since_ms, ..pause }));
        }
        What::Pause(None) => paused = None,
        What::Enable(on) => enabled = *on,
        What::Define { .. } | What::Reset | What::Remove { .. } => {}
    }
    let revision = before.revision + 1;
    let values = vec![
        change.job.as_str().into(),
        enabled.into(),
        paused.as_ref().map(|pause| pause.since_ms).into(),
        paused.as_ref().map(|pause| pause.by.clone()).into(),
        paused.as_ref().map(|pause| pause.why.clone()).into(),
        revision.into(),
        now_ms.into(),
        change.by.clone().into(),
    ];
    tx.execute(
        "UPDATE us_job SET enabled = $2, paused_at_ms = $3, paused_by = $4, paused_why = $5, \
         revision = $6, changed_ms = $7, changed_by = $8 WHERE name = $1",
        values,
    )
    .await?;
    let timetable = Timetable::parse(&before.spec.schedule, &change.zone)
        .map_err(|error| DbErr::Custom(error.to_string()))?;
    let held = Definition {
        spec: before.spec,
        timetable,
        revision: before.revision,
        enabled: before.enabled,
        paused: before.paused,
    };
    if held.held_back().is_some() {
        settle(tx, &held, now_ms, None).await?;
    }
    let definition = Definition { revision, enabled, paused, ..held };
    move_on(tx, &definition, now_ms).await?;
    Ok(Done::Revision(revision))
}

/// Decides what was due by a definition that is over and that no leader came to, so that no due time goes without a word.
pub(super) async fn supersede(
    tx: &Tx<'_>,
    (before, zone): (Before, &ZoneName),
    now_ms: i64,
    reason: &str,
) -> Result<(), DbErr> {
    let Before { spec, revision, enabled, paused, .. } = before;
    // By the rules of this zone it is never due.
    let Ok(timetable) = Timetable::parse(&spec.schedule, zone) else { return Ok(()) };
    let mut held = Definition { spec, timetable, revision, enabled, paused };
    if held.held_back().is_some() && !held.catches_up_later() {
        return settle(tx, &held, now_ms, None).await;
    }
    (held.enabled, held.paused) = (false, None);
    settle(tx, &held, now_ms, Some(reason)).await
}

/// Decides what was due while a job was held back and no leader came to, so that it does not start now; with a reason if
/// it was not held back but is over.
async fn settle(
    tx: &Tx<'_>,
    held: &Definition,
    now_ms: i64,
    superseded: Option<&str>,
) -> Result<(), DbErr> {
    let (none, job) = (std::time::Duration::ZERO, held.spec.name.as_str());
    let at = Moment { now_ms, misfire_after: none, misfire_grace: none, leaderless: &[] };
    let sql =
        "SELECT job, scope, last_fire_ms, next_fire_ms, revision FROM us_job_cursor WHERE job = $1";
    for row in tx.all(sql, vec![job.into()]).await? {
        let mut cursor = Cursor::read(&row)?;
        let used = cursor.scope.is_empty() != (held.spec.placement == Placement::Every);
        if !used || (cursor.next_ms.is_none() && superseded.is_none()) {
            continue;
        }
        for _ in 0..MOST_SETTLED {
            let Some(mut plan) = plan::plan(held, &cursor, at) else { break };
            for decision in &mut plan.decisions {
                if let Some(reason) = superseded {
                    (decision.outcome, decision.reason) = (Outcome::Superseded, reason.to_owned());
                }
            }
            let rows: Vec<_> = plan
                .decisions
                .iter()
                .map(|decision| decision.row(&plan.job, &plan.scope))
                .collect();
            insert_decisions(tx, &text_of(&rows), 0).await?;
            (cursor.last_ms, cursor.next_ms) = (plan.last_ms, plan.next_ms);
        }
        let sql = "UPDATE us_job_cursor SET last_fire_ms = $3 WHERE job = $1 AND scope = $2";
        tx.execute(sql, vec![job.into(), cursor.scope.into(), cursor.last_ms.into()]).await?;
    }
    Ok(())
}

/// Sets when a job is due next, from where its cursors stand; what became due a moment ago is still decided.
pub(super) async fn move_on(
    tx: &Tx<'_>,
    definition: &Definition,
    now_ms: i64,
) -> Result<(), DbErr> {
    let job = definition.spec.name.as_str();
    let rows = tx
        .all("SELECT scope, last_fire_ms FROM us_job_cursor WHERE job = $1", vec![job.into()])
        .await?;
    for row in rows {
        let (scope, last_ms): (String, i64) =
            (row.try_get("", "scope")?, row.try_get("", "last_fire_ms")?);
        let of_leader = scope.is_empty();
        let used = of_leader != (definition.spec.placement == Placement::Every);
        let waits = matches!(definition.spec.schedule, Schedule::After { .. })
            && is_busy(tx, job, &scope).await?;
        let next_ms = if used && !waits { definition.next_ms(last_ms, now_ms) } else { None };
        let sql = "UPDATE us_job_cursor SET next_fire_ms = $3, revision = $4 \
                   WHERE job = $1 AND scope = $2";
        let values = vec![job.into(), scope.into(), next_ms.into(), definition.revision.into()];
        tx.execute(sql, values).await?;
    }
    Ok(())
}

/// Whether a run has not ended, so that its end will say when the job is due again.
async fn is_busy(tx: &Tx<'_>, job: &str, scope: &str) -> Result<bool, DbErr> {
    let sql = "SELECT id FROM us_job_run WHERE job = $1 AND scope = $2 \
               AND state IN ('queued', 'retrying', 'running') LIMIT 1";
    Ok(tx.one(sql, vec![job.into(), scope.into()]).await?.is_some())
}
