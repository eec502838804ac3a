//! Duties: periodic work that one node does for the whole cluster, offered by services that do not know who schedules it.
//!
//! A service adds its duties when it starts; whoever schedules (the scheduler, as the system job `system.<name>` on the
//! leader) asks for [`Duties::all`] and runs them. Nothing here runs anything, or knows who leads.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use sea_orm::{DatabaseExecutor, DbErr};
use tokio_util::sync::CancellationToken;

/// What a duty does when it is run: gives a small report for people, or says why it failed.
pub type DutyWork =
    Arc<dyn Fn(DutyRun) -> BoxFuture<'static, Result<serde_json::Value, String>> + Send + Sync>;

/// Says within a transaction whether whoever runs a duty still may.
type Guard =
    Arc<dyn for<'c> Fn(&'c DatabaseExecutor<'c>) -> BoxFuture<'c, Result<(), DbErr>> + Send + Sync>;

/// One piece of periodic work for the whole cluster.
///
/// It is idempotent, since a run that was cut off is made good by the next one, and it bears being run on two nodes at
/// once for a moment: when the leader changes, the old one may still be at it.
#[derive(Clone)]
pub struct Duty {
    /// Names it among all duties: `a-z 0-9 -`.
    pub name: &'static str,
    /// Says in one sentence what it is for.
    pub description: &'static str,
    /// How often it is due: on a fixed grid, whatever runs take.
    pub every: Duration,
    /// Does it. Run on any tokio runtime; ends soon after it was cancelled.
    pub run: DutyWork,
}

impl fmt::Debug for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Duty")
            .field("name", &self.name)
            .field("every", &self.every)
            .finish_non_exhaustive()
    }
}

/// One run of a duty, as the duty sees it. The default is a run that nobody cancels and nothing guards.
#[derive(Clone, Default)]
pub struct DutyRun {
    cancelled: CancellationToken,
    guard: Option<Guard>,
}

impl fmt::Debug for DutyRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DutyRun")
            .field("cancelled", &self.cancelled.is_cancelled())
            .field("guarded", &self.guard.is_some())
            .finish()
    }
}

impl DutyRun {
    /// Makes a run that ends early when `cancelled` is.
    #[must_use]
    pub fn new(cancelled: CancellationToken) -> Self {
        Self { cancelled, guard: None }
    }

    /// Has [`guard`](Self::guard) ask whether the run may still write: whoever schedules knows.
    #[must_use]
    pub fn guarded<G>(mut self, guard: G) -> Self
    where
        G: for<'c> Fn(&'c DatabaseExecutor<'c>) -> BoxFuture<'c, Result<(), DbErr>>
            + Send
            + Sync
            + 'static,
    {
        self.guard = Some(Arc::new(guard));
        self
    }

    /// Checks, within a transaction of the duty, that its node still leads and the run is still its own, and keeps it so until
    /// the transaction ends. A duty whose statements say themselves what may be done need not ask.
    ///
    /// # Errors
    /// When another node leads, or that is not known: the transaction must be rolled back.
    pub async fn guard(&self, executor: &DatabaseExecutor<'_>) -> Result<(), DbErr> {
        match &self.guard {
            Some(guard) => guard(executor).await,
            None => Ok(()),
        }
    }

    /// Says whether the run must begin nothing more.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }

    /// Waits until the run is cancelled.
    pub async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }
}

/// The duties of a node; a cheap clone of one list.
#[derive(Debug, Clone, Default)]
pub struct Duties(Arc<ArcSwap<Vec<Duty>>>);

impl Duties {
    /// Adds a duty; one of the same name is replaced.
    #[expect(clippy::needless_pass_by_value, reason = "it is given away")]
    pub fn add(&self, duty: Duty) {
        self.0.rcu(|duties| {
            let others = duties.iter().filter(|other| other.name != duty.name).cloned();
            others.chain([duty.clone()]).collect::<Vec<_>>()
        });
    }

    /// Returns all duties, in the order they were added.
    #[must_use]
    pub fn all(&self) -> Vec<Duty> {
        self.0.load().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duty(name: &'static str, every: u64) -> Duty {
        let run: DutyWork = Arc::new(|run| {
            Box::pin(async move { Ok(serde_json::json!({ "cancelled": run.is_cancelled() })) })
        });
        Duty { name, description: "does nothing", every: Duration::from_secs(every), run }
    }

    #[test]
    fn a_duty_is_there_once_however_often_it_was_added() {
        let duties = Duties::default();
        let same = duties.clone();
        for (name, every) in [("a", 1), ("b", 2), ("a", 3)] {
            duties.add(duty(name, every));
        }
        let all: Vec<_> = same.all().iter().map(|duty| (duty.name, duty.every.as_secs())).collect();
        assert_eq!(all, [("b", 2), ("a", 3)]);
    }

    #[tokio::test]
    async fn a_run_hears_that_it_is_cancelled() {
        let token = CancellationToken::new();
        let run = DutyRun::new(token.clone());
        assert!(!run.is_cancelled());
        token.cancel();
        run.cancelled().await;
        let report = (duty("a", 1).run)(run).await;
        assert_eq!(report, Ok(serde_json::json!({ "cancelled": true })));
    }
}
