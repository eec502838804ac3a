//! The nodes as the scheduler knows them: which handlers they have, and what they stand for.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Result, Store, json, required, text_of};

/// What a node tells about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SchedulerNode {
    /// The node's id.
    pub node: String,
    /// When it last told, ms since 1970.
    pub seen_ms: i64,
    /// The handlers it has.
    pub handlers: BTreeSet<String>,
    /// The definitions it stands for: job and fingerprint.
    pub definitions: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The version of its time zone database; where nodes differ, so may due times.
    pub tzdb: String,
    /// Whether it takes runs at all.
    pub takes_jobs: bool,
    /// How far its wall clock is from the database's, ms.
    pub offset_ms: i64,
}

/// What a run asks of the node that is to start it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Need {
    /// The handler.
    pub(crate) handler: String,
    /// The labels; none asks for nothing.
    pub(crate) labels: BTreeMap<String, String>,
}

impl Need {
    pub(crate) fn of(spec: &crate::spec::JobSpec) -> Self {
        Self { handler: spec.handler.clone(), labels: spec.labels.clone() }
    }
}

impl std::fmt::Display for Need {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no living node has the handler `{}`", self.handler)?;
        for (place, (key, value)) in self.labels.iter().enumerate() {
            let joint = if place == 0 { " and the labels" } else { "," };
            write!(f, "{joint} {key}={value}")?;
        }
        Ok(())
    }
}

impl SchedulerNode {
    /// Whether it starts runs that ask for this.
    pub(crate) fn meets(&self, need: &Need) -> bool {
        let has = |(key, value): (&String, &String)| self.labels.get(key) == Some(value);
        self.takes_jobs && self.handlers.contains(&need.handler) && need.labels.iter().all(has)
    }
}

impl Store {
    /// Tells the others about this node; gives the database's time, ms.
    pub(crate) async fn report_node(&self, node: &SchedulerNode) -> Result<i64> {
        let sql = format!(
            "INSERT INTO us_scheduler_node (node, seen_ms, handlers, definitions, labels, tzdb, takes_jobs, \
             offset_ms) VALUES ($1, {}, $2, $3, $4, $5, $6, $7) ON CONFLICT (node) DO UPDATE SET \
             seen_ms = excluded.seen_ms, handlers = excluded.handlers, definitions = excluded.definitions, \
             labels = excluded.labels, tzdb = excluded.tzdb, takes_jobs = excluded.takes_jobs, \
             offset_ms = excluded.offset_ms, left_ms = NULL RETURNING seen_ms",
            self.backend().now_ms()
        );
        let values = vec![
            node.node.clone().into(),
            text_of(&node.handlers).into(),
            text_of(&node.definitions).into(),
            text_of(&node.labels).into(),
            node.tzdb.clone().into(),
            node.takes_jobs.into(),
            node.offset_ms.into(),
        ];
        let rows = self.change(sql, values).await?;
        Ok(required(rows.into_iter().next())?.try_get("", "seen_ms")?)
    }

    /// Gives the nodes that told something within `silent_ms`.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn nodes(&self, silent_ms: i64) -> Result<Vec<SchedulerNode>> {
        let sql = format!(
            "SELECT node, seen_ms, handlers, definitions, labels, tzdb, takes_jobs, offset_ms \
             FROM us_scheduler_node WHERE seen_ms > {} - $1 AND left_ms IS NULL ORDER BY node",
            super::now_once(self.backend())
        );
        let mut nodes = Vec::new();
        for row in self.all(sql, vec![silent_ms.into()]).await? {
            let text = |column: &str| row.try_get::<String>("", column);
            nodes.push(SchedulerNode {
                node: text("node")?,
                seen_ms: row.try_get("", "seen_ms")?,
                handlers: json(&text("handlers")?)?,
                definitions: json(&text("definitions")?)?,
                labels: json(&text("labels")?)?,
                tzdb: text("tzdb")?,
                takes_jobs: row.try_get("", "takes_jobs")?,
                offset_ms: row.try_get("", "offset_ms")?,
            });
        }
        Ok(nodes)
    }

    /// Counts a node that leaves as gone. Its row stays for a while, so that its name is known until it may have come back.
    pub(crate) async fn forget_node(&self, node: &str) -> Result<()> {
        let now = self.backend().now_ms();
        let sql = format!("UPDATE us_scheduler_node SET left_ms = {now} WHERE node = $1");
        self.execute(sql, vec![node.into()]).await.map(|_| ())
    }

    /// Forgets nodes that are silent for so long; gives how many.
    pub(crate) async fn forget_silent_nodes(&self, silent_ms: i64) -> Result<u64> {
        let sql = format!(
            "DELETE FROM us_scheduler_node WHERE seen_ms <= {} - $1",
            super::now_once(self.backend())
        );
        self.execute(sql, vec![silent_ms.into()]).await
    }

    /// Forgets where the jobs that run on every node stand on nodes that are gone for good, by name, and ends the runs that wait
    /// for them; gives how many of both. To be called after [`Store::forget_silent_nodes`].
    pub(crate) async fn forget_gone_scopes(&self) -> Result<u64> {
        let gone = |scope: &str| {
            format!(
                "{scope} <> '' AND NOT EXISTS (SELECT 1 FROM us_scheduler_node n \
                 WHERE substr(n.node, 1, length({scope}) + 1) = {scope} || '#')"
            )
        };
        let cursors = format!("DELETE FROM us_job_cursor WHERE {}", gone("scope"));
        let mut forgotten = self.execute(cursors, Vec::new()).await?;
        let runs = format!(
            "UPDATE us_job_run SET state = 'lost', finished_ms = {}, error = 'its node is gone' \
             WHERE state IN ('queued', 'retrying') AND placement = 'every' AND {}",
            self.backend().now_ms(),
            gone("scope")
        );
        forgotten += self.execute(runs, Vec::new()).await?;
        Ok(forgotten)
    }
}
