//! Why a job did or did not run at a time: the answer that nobody else can give.
//!
//! Every due time is either a run or a decision; what is neither has not come yet, was before the job, or is too long
//! ago to be remembered.

use serde::Serialize;
use understudy_runtime::database::DatabaseError;

use crate::jobs::Jobs;
use crate::schedule::Occurrence;
use crate::spec::{JobName, Placement, Schedule};
use crate::store::{DecisionRow, JobRow, RunFilter, RunRow, TermRow};

/// Runs and decisions that are shown at most.
const MOST: u32 = 100;

/// What is known of a job at a time.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// The job.
    pub job: String,
    /// The time that was asked for, ms since 1970.
    pub at_ms: i64,
    /// The answer in a word.
    pub verdict: Verdict,
    /// The answer in a sentence.
    pub text: String,
    /// Runs that were due then.
    pub runs: Vec<RunRow>,
    /// Decisions about that time.
    pub decisions: Vec<DecisionRow>,
    /// The due time before, by the present definition, ms.
    pub previous_ms: Option<i64>,
    /// The due time after.
    pub next_ms: Option<i64>,
    /// Who led then, as far as known.
    pub term: Option<TermRow>,
}

/// The answer in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A run started, or waits.
    Ran,
    /// It was due, and a decision says why nothing started.
    Decided,
    /// It was not due, by the present definition.
    NotDue,
    /// It is due, and nobody has decided about it yet.
    Pending,
    /// It lies in the future.
    Future,
    /// The job did not exist, or its definition has changed since.
    BeforeDefinition,
    /// It is too long ago.
    Forgotten,
}

impl Jobs {
    /// Says why a job did or did not run at a time (ms since 1970); `None` when there is no such job.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn explain(
        &self,
        job: &JobName,
        at_ms: i64,
    ) -> Result<Option<Explanation>, DatabaseError> {
        let store = self.store();
        let Some(row) = store.job(job).await? else { return Ok(None) };
        let Some(definition) = store.definition(job).await? else { return Ok(None) };
        let filter = RunFilter {
            job: Some(job.clone()),
            fire_ms: Some((at_ms, at_ms)),
            limit: MOST,
            ..RunFilter::default()
        };
        let runs = store.runs(&filter).await?;
        let decisions = store.decisions(job, (at_ms, at_ms), MOST).await?;
        let now_ms = store.now_ms().await?;
        let terms = store.terms(MOST).await?;
        let term = terms.into_iter().find(|term| {
            term.started_ms <= at_ms && term.ended_ms.is_none_or(|ended| at_ms < ended)
        });
        let due = definition.timetable.is_due_at(at_ms);
        let about = About { row: &row, at_ms, now_ms, due, term: term.as_ref() };
        let (verdict, text) = about.answer(&runs, &decisions);
        Ok(Some(Explanation {
            job: job.to_string(),
            at_ms,
            verdict,
            text,
            previous_ms: previous(&definition.timetable, at_ms),
            next_ms: definition.timetable.next_fire(at_ms),
            runs,
            decisions,
            term,
        }))
    }
}

/// The due time before, looked for over growing spans.
fn previous(timetable: &crate::schedule::Timetable, at_ms: i64) -> Option<i64> {
    [60_000, 3_600_000, 86_400_000, 31 * 86_400_000_i64, 366 * 86_400_000].into_iter().find_map(
        |span| {
            let due = timetable.after(at_ms.saturating_sub(span));
            due.map(|one| one.at_ms()).take_while(|one| *one < at_ms).last()
        },
    )
}

struct About<'a> {
    row: &'a JobRow,
    at_ms: i64,
    now_ms: i64,
    due: Option<Occurrence>,
    term: Option<&'a TermRow>,
}

impl About<'_> {
    fn answer(&self, runs: &[RunRow], decisions: &[DecisionRow]) -> (Verdict, String) {
        if let Some(run) = runs.first() {
            let mut text = format!("run {} was due then; it is {}", run.id, run.state);
            if let Some(started) = run.started_ms {
                text += &format!(", started {} ms later", started - self.at_ms);
            }
            if let Some(decision) = decisions.first() {
                text += &format!("; {}: {}", decision.outcome, decision.reason);
            }
            return (Verdict::Ran, text);
        }
        if let Some(decision) = decisions.first() {
            return (Verdict::Decided, format!("{}: {}", decision.outcome, decision.reason));
        }
        if self.at_ms > self.now_ms {
            return (Verdict::Future, self.future());
        }
        match (&self.due, &self.row.spec.schedule) {
            (_, Schedule::Manual | Schedule::After { .. }) => {
                (Verdict::NotDue, "the job has no fixed due times".to_owned())
            }
            (None, _) => {
                (Verdict::NotDue, "by its present definition it is not due then".to_owned())
            }
            (Some(Occurrence::Skipped { .. }), _) => {
                (Verdict::NotDue, "a change of clocks skips or repeats this time".to_owned())
            }
            (Some(Occurrence::Fire { .. }), _) => self.undecided(),
        }
    }

    /// It was due, and there is neither a run nor a decision.
    fn undecided(&self) -> (Verdict, String) {
        if self.at_ms <= self.row.created_ms {
            return (Verdict::BeforeDefinition, "the job did not exist then".to_owned());
        }
        let decided = self.row.last_fire_ms.unwrap_or(i64::MIN);
        if self.at_ms > decided {
            return (Verdict::Pending, self.pending());
        }
        if self.at_ms <= self.row.changed_ms {
            let text =
                "the definition has changed since; due times before the change did not count";
            return (Verdict::BeforeDefinition, text.to_owned());
        }
        (Verdict::Forgotten, "it is too long ago: the history was purged".to_owned())
    }

    fn pending(&self) -> String {
        if self.row.paused.is_some() {
            return "the job is paused, and catches up when it is resumed".to_owned();
        }
        if self.row.spec.placement == Placement::Every {
            return "not every node has decided about it yet".to_owned();
        }
        match self.term {
            Some(term) => format!("{} leads and has not decided about it yet", term.node),
            None => "no node leads: it is decided when one does".to_owned(),
        }
    }

    fn future(&self) -> String {
        if !self.row.enabled {
            return "it is in the future, and the job is switched off".to_owned();
        }
        if let Some(pause) = &self.row.paused {
            return format!(
                "it is in the future, and the job is paused by {}: {}",
                pause.by, pause.why
            );
        }
        match self.due {
            Some(Occurrence::Fire { .. }) => "it is in the future, and due".to_owned(),
            Some(Occurrence::Skipped { .. }) | None => {
                "it is in the future, and not due".to_owned()
            }
        }
    }
}
