//! Letting another node lead, from any node: who could, telling the one who does, and waiting for the next.
//!
//! None of it makes anything safe: leading is decided by the lease and the epoch. It only keeps an operator from
//! leaving the cluster without a leader by mistake.

use std::time::Duration;

use actix_web::http::StatusCode;
use futures_util::future::join_all;
use understudy_runtime::bus::BusError;
use understudy_runtime::database::DatabaseError;
use understudy_runtime::http::problem::Problem;
use understudy_runtime::ids::{NodeId, NodeName};
use understudy_runtime::service::NodeContext;

use super::AdminJobs;
use super::answer::{Refusal, conflict};
use crate::jobs::{CouldLead, Jobs, Standing, StepDownHere};
use crate::leader::LeaderPhase;
use crate::store::TermRow;

/// How long a node may take to say how it stands.
const ASK_LIMIT: Duration = Duration::from_secs(1);
/// How long the leader may take to give up its lease.
const GIVE_UP_LIMIT: Duration = Duration::from_secs(2);
/// How long another may take to lead.
const NEXT_LIMIT: Duration = Duration::from_secs(3);
/// How often the database is asked whether one does.
const NEXT_STEP: Duration = Duration::from_millis(50);

const NO_OTHER_NODE: &str = "no_other_node";

/// What a hand-over came to.
pub(super) struct HandOver {
    /// Who led.
    pub(super) from: NodeId,
    /// When it was asked, by the database's clock.
    asked_ms: i64,
    /// Its term, as far as the database knows.
    before: Option<TermRow>,
    /// The term after it, if there was one in time.
    pub(super) after: Option<TermRow>,
}

impl HandOver {
    /// How long nobody led, ms, to the best of what is known.
    pub(super) fn gap_ms(&self) -> Option<i64> {
        let started_ms = self.after.as_ref()?.started_ms;
        let noted = self.before.as_ref().and_then(|term| {
            // An end that the next term had to note says nothing of when it was.
            let told = term.reason.as_deref() != Some("superseded");
            term.ended_ms.filter(|_| told)
        });
        Some((started_ms - noted.unwrap_or(self.asked_ms)).max(0))
    }
}

/// What came of letting another node lead, for somebody who does so without having been asked by a request.
#[derive(Debug)]
pub(crate) enum PassedOn {
    /// The node of this name leads now.
    To(String),
    /// No other node could.
    NobodyElse,
    /// It may be tried again.
    NotYet(String),
}

impl AdminJobs {
    /// Has the leader let another node lead, which does not lead again for so long.
    pub(crate) async fn pass_on(&self, hold: Duration) -> PassedOn {
        let hold_ms = u64::try_from(hold.as_millis()).unwrap_or(u64::MAX);
        match self.hand_over(Some(hold_ms)).await {
            Ok(HandOver { after: Some(term), .. }) => {
                PassedOn::To(super::leader::name_of(&term.node).to_owned())
            }
            Ok(HandOver { after: None, .. }) => {
                PassedOn::NotYet("nobody has taken the lead over yet".to_owned())
            }
            Err(Refusal(problem)) if problem.code == NO_OTHER_NODE => PassedOn::NobodyElse,
            Err(refusal) => PassedOn::NotYet(refusal.to_string()),
        }
    }

    /// Asks whether a living node other than this one could lead.
    pub(crate) async fn another_could_lead(&self) -> Result<bool, DatabaseError> {
        let others = self.standing_besides(self.node.node_id.name()).await?;
        Ok(others.iter().any(|standing| standing.eligible))
    }

    /// Has the leader let another node lead, and waits for that; it does not lead again for `hold_ms`, one time to live
    /// of the lease when nothing is said.
    pub(super) async fn hand_over(&self, hold_ms: Option<u64>) -> Result<HandOver, Refusal> {
        let Some(from) = self.jobs.leader_status().leader else { return Err(no_leader().into()) };
        let others = self.standing_besides(from.name()).await?;
        if !others.iter().any(|standing| standing.eligible && !standing.held) {
            return Err(no_other_node().into());
        }
        let store = self.jobs.store();
        let before = store.terms(1).await?.into_iter().next();
        let asked_ms = store.now_ms().await?;
        let epoch = before.as_ref().map_or(0, |term| term.epoch);
        self.make_step_down(&from, hold_ms).await?;
        let after = self.term_after(epoch).await;
        let terms = store.terms(10).await?;
        let before = terms.into_iter().find(|term| term.epoch == epoch);
        Ok(HandOver { from, asked_ms, before, after })
    }

    /// Asks all living nodes but one, and those in maintenance, whether they could lead; who does not answer could not.
    pub(super) async fn standing_besides(
        &self,
        except: &NodeName,
    ) -> Result<Vec<Standing>, DatabaseError> {
        let in_maintenance = self.jobs.store().in_maintenance().await?;
        let rests = |name: &NodeName| in_maintenance.iter().any(|(node, _)| node == name.as_str());
        let asked = self.node.membership.live().into_iter().filter(|node| {
            let name = node.name();
            name != except && !rests(name)
        });
        let answers =
            asked.map(async |node| self.node.bus.request(&node, &CouldLead {}, ASK_LIMIT).await);
        Ok(join_all(answers).await.into_iter().filter_map(Result::ok).collect())
    }

    async fn make_step_down(&self, leader: &NodeId, hold_ms: Option<u64>) -> Result<(), Problem> {
        let message = StepDownHere { hold_ms };
        match self.node.bus.request(leader, &message, GIVE_UP_LIMIT).await {
            // Whether a lost word was heard shows in who leads next.
            Ok(true) | Err(BusError::TimedOut | BusError::Unavailable) => Ok(()),
            Ok(false) => Err(leader_changed()),
            Err(BusError::NoReceiver | BusError::NoHandler | BusError::Undecodable) => {
                Err(leader_unreachable())
            }
        }
    }

    /// Waits until a later term has begun.
    async fn term_after(&self, epoch: i64) -> Option<TermRow> {
        let next = async {
            loop {
                // An error is no answer; the limit ends the waiting.
                let terms = self.jobs.store().terms(1).await.unwrap_or_default();
                if let Some(term) = terms.into_iter().find(|term| term.epoch > epoch) {
                    return term;
                }
                tokio::time::sleep(NEXT_STEP).await;
            }
        };
        tokio::time::timeout(NEXT_LIMIT, next).await.ok()
    }
}

/// Answers what operators ask of this node through another.
pub(crate) fn listen(node: &NodeContext, jobs: &Jobs) {
    let weak = jobs.downgrade();
    node.bus.handle::<StepDownHere, _, _>(move |_from, StepDownHere { hold_ms }| {
        let jobs = weak.upgrade();
        async move {
            let Some(jobs) = jobs else { return false };
            let state = jobs.leader_status().state;
            if !matches!(state, LeaderPhase::Acquired | LeaderPhase::Leading) {
                return false;
            }
            jobs.leader().step_down(hold_ms.map(Duration::from_millis)).await;
            true
        }
    });
    let weak = jobs.downgrade();
    node.bus.handle::<CouldLead, _, _>(move |_from, CouldLead {}| {
        let status = weak.upgrade().map(|jobs| jobs.leader_status());
        let standing =
            status.map_or(Standing { eligible: false, held: false }, |status| Standing {
                eligible: status.eligible
                    && status.trouble.is_none()
                    && status.state != LeaderPhase::Stopped,
                held: status.hold_until_ms.is_some(),
            });
        std::future::ready(standing)
    });
}

fn no_leader() -> Problem {
    conflict("no_leader", "No node leads, as far as this one knows")
        .with_retry_after(Duration::from_secs(1))
}

fn no_other_node() -> Problem {
    conflict(NO_OTHER_NODE, "No other node could lead").with_detail(
        "another node must be alive, eligible, out of maintenance, and not held back by an earlier step-down",
    )
}

fn leader_changed() -> Problem {
    conflict("leader_changed", "The node did not lead any more when it was asked")
        .with_retry_after(Duration::from_secs(1))
}

fn leader_unreachable() -> Problem {
    let (status, code) = (StatusCode::SERVICE_UNAVAILABLE, "leader_unreachable");
    Problem::new(status, code, "The leader does not take messages")
        .with_retry_after(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn term(epoch: i64, started_ms: i64, end: Option<(i64, &str)>) -> TermRow {
        TermRow {
            epoch,
            node: format!("n{epoch}#0000000000000001"),
            started_ms,
            seen_ms: started_ms,
            ended_ms: end.map(|(at, _)| at),
            reason: end.map(|(_, why)| why.to_owned()),
        }
    }

    fn gap(before: Option<TermRow>, after: Option<TermRow>) -> Option<i64> {
        let from = NodeId::begin("a".parse().unwrap());
        HandOver { from, asked_ms: 1_000, before, after }.gap_ms()
    }

    #[test]
    fn the_gap_is_from_the_end_of_a_term_to_the_next() {
        let next = || Some(term(2, 1_200, None));
        assert_eq!(gap(Some(term(1, 0, Some((1_150, "stepped_down")))), next()), Some(50));
        assert_eq!(gap(Some(term(1, 0, Some((1_150, "stepped_down")))), None), None);
    }

    #[test]
    fn without_a_noted_end_the_gap_begins_with_the_request() {
        let next = || Some(term(2, 1_200, None));
        assert_eq!(gap(Some(term(1, 0, Some((1_200, "superseded")))), next()), Some(200));
        assert_eq!(gap(Some(term(1, 0, None)), next()), Some(200));
        assert_eq!(gap(None, next()), Some(200));
    }
}
