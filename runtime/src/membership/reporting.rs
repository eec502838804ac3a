//! Reporting: the first time, and then for ever.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::list::{Report, View, report};
use super::record::{Entry, MemberRecord};
use super::{Cluster, JoinError, MembershipSpec, Shared};
use crate::redis::Redis;

/// How soon a node reports again that has seen somebody new, so that the other learns it is known.
const NUDGE: Duration = Duration::from_millis(50);

/// Who is seen to hold the name of a node that wants to join.
#[derive(Debug, Default)]
pub(crate) struct Holder(Option<Entry>);

impl Holder {
    /// Takes in who holds the name at this moment: who reports again is alive, and who is dead holds it for one time to
    /// live at most.
    pub(super) fn seen(&mut self, entry: Entry) -> Result<(), JoinError> {
        match &self.0 {
            Some(before) if before.seen_ms != entry.seen_ms => return Err(entry.duplicate()),
            Some(_) => {}
            None => {
                tracing::warn!(host = %entry.record.host, pid = entry.record.pid, "the node name is held, waiting whether its holder is alive");
            }
        }
        self.0 = Some(entry);
        Ok(())
    }
}

/// Reports until the list shows this node, then returns the server's time and the list.
pub(super) async fn first_report(
    redis: &Redis,
    key: &str,
    record: &MemberRecord,
    spec: &MembershipSpec,
) -> Result<(u64, View), JoinError> {
    let mut holder = Holder::default();
    let mut told = false;
    loop {
        match report(redis, key, record, 0, spec).await {
            Ok(Report::Listed(view)) => return Ok((view.now_ms, view)),
            Ok(Report::Held(entry)) => holder.seen(entry)?,
            // Only what an operator must change ends it: a server without replicas, or full, will pass.
            Err(error) if matches!(error.code(), Some("NOPERM" | "ERR" | "WRONGTYPE")) => {
                return Err(JoinError::Redis(error));
            }
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, "waiting for redis to join the cluster");
                }
            }
        }
        tokio::time::sleep(spec.heartbeat.min(spec.ttl / 10)).await;
    }
}

pub(super) async fn report_for_ever(shared: Weak<Shared>) {
    let mut failing = false;
    loop {
        let pause = {
            let Some(shared) = shared.upgrade() else { return };
            let Some(cluster) = &shared.cluster else { return };
            report_once(&shared, cluster, &mut failing).await
        };
        let Some(shared) = shared.upgrade() else { return };
        let Some(cluster) = &shared.cluster else { return };
        // Early when asked for; the clone keeps the list alive no longer than one pause.
        tokio::time::timeout(pause, cluster.report.notified()).await.ok();
    }
}

/// Reports once; returns how long to wait before the next report.
async fn report_once(shared: &Shared, cluster: &Cluster, failing: &mut bool) -> Duration {
    let record = shared.record.load_full();
    let known = shared.view.load().now_ms;
    match report(&cluster.redis, &cluster.key, &record, known, &cluster.spec).await {
        Ok(Report::Listed(view)) => {
            if std::mem::take(failing) {
                tracing::info!("reporting to the cluster again");
            }
            let met_somebody = cluster.acquaintance.read(view.entries.iter(), view.read_at);
            let known_to_all = view.knows_me(cluster.joined_ms, cluster.spec.ttl, &record.id);
            shared.view.store(Arc::new(view));
            shared.changes.send_modify(|count| *count += 1);
            match (met_somebody, known_to_all) {
                (true, _) => NUDGE.min(cluster.spec.heartbeat),
                (false, false) => cluster.spec.heartbeat / 5,
                (false, true) => cluster.spec.heartbeat,
            }
        }
        Ok(Report::Held(entry)) => {
            let rival = format!("pid {} on {}", entry.record.pid, entry.record.host);
            let view = shared.view.load_full();
            if view.rival.as_ref() != Some(&rival) {
                tracing::error!(%rival, node.id = %record.id, "another process has taken this node's name");
            }
            shared.view.store(Arc::new(View {
                rival: Some(rival),
                entries: view.entries.clone(),
                members: view.members.clone(),
                notes: view.notes.clone(),
                ..*view
            }));
            shared.refresh();
            cluster.spec.heartbeat
        }
        Err(error) => {
            if !std::mem::replace(failing, true) {
                tracing::warn!(%error, "cannot report to the cluster");
            }
            shared.refresh();
            cluster.spec.heartbeat / 5
        }
    }
}
