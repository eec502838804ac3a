//! What jobs are answered when they are not carried out, and when they are.

use std::time::Duration;

use understudy_runtime::clock::BootInstant;

use super::job::take_if;
use super::{Batch, Engine, Job, REMEMBERED, Refusal, Reply, Step, Work};
use crate::state::Outcome;

impl Engine {
    pub(super) fn refuse_all(&mut self, refusal: Refusal) -> Step {
        if let Some(Batch { unsure, .. }) = self.batch {
            // An attempt that got no reply may have been carried out, whatever became of the next.
            self.drop_batch(if unsure { Refusal::OutcomeUnknown } else { refusal });
            if unsure {
                self.disown(); // and others may see what it did: look before the next use
            }
        }
        let ending = std::mem::take(&mut self.ending);
        let queued = std::mem::take(&mut self.queue);
        for job in ending.into_iter().chain(queued) {
            let over = refusal == Refusal::Ended && matches!(job.work, Work::Revoke(_));
            self.answers.push((job, if over { Ok(Reply::Revoked) } else { Err(refusal) }));
        }
        self.check_wanted = false;
        Step::Rest
    }

    pub(super) fn answer_done(&mut self, jobs: Vec<(Job, Outcome)>, version: u64) {
        for (job, outcome) in jobs {
            if let Some(trace) = job.trace.filter(|_| job.from_peer) {
                if self.remembered.len() >= REMEMBERED {
                    self.remembered.pop_front();
                }
                self.remembered.push_back((trace.id, outcome.clone(), version));
            }
            self.answers.push((job, Ok(Reply::Done(outcome, version))));
        }
    }

    /// Refuses those whose time is up: their callers have gone, or will this instant.
    pub(super) fn give_up_late_jobs(&mut self, now: BootInstant) {
        for job in take_if(&mut self.queue, |job| job.deadline <= now) {
            let unsure = job.trace.is_some_and(|trace| trace.uncertain);
            self.answers
                .push((job, Err(if unsure { Refusal::OutcomeUnknown } else { Refusal::Busy })));
        }
    }

    /// Refuses those who have waited for the store long enough; a write on its way is given up with them.
    pub(super) fn lose_patience(&mut self, now: BootInstant, patience: Duration) {
        for job in take_if(&mut self.queue, |job| now >= job.submitted + patience) {
            self.answers.push((job, Err(Refusal::Unavailable)));
        }
        for job in self.ending.extract_if(.., |job| now >= job.submitted + patience) {
            self.answers.push((job, Err(Refusal::Unavailable)));
        }
        if self.batch.as_ref().is_some_and(|batch| now >= batch.since + patience) {
            self.drop_batch(Refusal::Unavailable);
            // It may still arrive at the store, late. A new claim brings a new token, which fences it.
            self.disown();
        }
    }

    pub(super) fn drop_batch(&mut self, refusal: Refusal) {
        for (job, _) in self.batch.take().into_iter().flat_map(|batch| batch.jobs) {
            self.answers.push((job, Err(refusal)));
        }
    }
}
