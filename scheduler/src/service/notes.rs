//! What an operator should know of leading and jobs before a node is stopped.

use understudy_runtime::actors::Mailbox;
use understudy_runtime::error::chain;
use understudy_runtime::service::StopNote;

use crate::admin::AdminJobs;
use crate::leader::LeaderPhase;
use crate::worker::{Load, WhatRuns, WorkerActor};

/// Finds it out; other nodes are asked whether they could lead.
pub(super) async fn stop_notes(admin: AdminJobs, worker: Mailbox<WorkerActor>) -> Vec<StopNote> {
    let mut notes: Vec<StopNote> = of_leading(&admin).await.into_iter().collect();
    // Of its own, since what nobody waits for any more would count as waiting for ever.
    let asked = tokio::spawn(async move { worker.send(WhatRuns).await });
    // A worker that has ended has nothing.
    if let Ok(Ok(load)) = asked.await {
        notes.extend(of_runs(load, admin.grace_seconds()));
    }
    notes
}

async fn of_leading(admin: &AdminJobs) -> Option<StopNote> {
    let status = admin.status();
    let leads = matches!(status.state, LeaderPhase::Acquired | LeaderPhase::Leading);
    // Where nobody leads, the one that could is needed.
    let needed = leads || (status.leader.is_none() && status.eligible);
    if !needed {
        return None;
    }
    let what = if leads { "it leads now" } else { "nobody leads now, and it could" };
    Some(match admin.another_could_lead().await {
        Ok(true) => StopNote::note(format!("{what}; another node takes the lead over")),
        Ok(false) => StopNote::against(
            "only_eligible_leader",
            format!("{what}, and no other living node could"),
        ),
        Err(error) => {
            let why = chain(&error);
            let text = format!("{what}; whether another node could is not known: {why}");
            StopNote::against("leader_unknown", text)
        }
    })
}

fn of_runs(Load { runs, unrepeatable }: Load, grace_seconds: u64) -> Option<StopNote> {
    if runs == 0 {
        return None;
    }
    let noun = if runs == 1 { "run of a job" } else { "runs of jobs" };
    let rest = match unrepeatable {
        0 => "what has not ended then goes on elsewhere".to_owned(),
        lost => format!(
            "what has not ended then goes on elsewhere, but for {lost} that may not be repeated and would be lost"
        ),
    };
    Some(StopNote::note(format!(
        "{runs} {noun} under way, for which it waits up to {grace_seconds} s; {rest}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h9_it_is_said_what_becomes_of_runs() {
        let text = |runs, unrepeatable| of_runs(Load { runs, unrepeatable }, 10).map(|it| it.text);
        assert_eq!(text(0, 0), None);
        assert_eq!(
            text(1, 0).unwrap(),
            "1 run of a job under way, for which it waits up to 10 s; what has not ended then goes on elsewhere"
        );
        assert!(text(3, 2).unwrap().contains("but for 2 that may not be repeated"));
    }
}
