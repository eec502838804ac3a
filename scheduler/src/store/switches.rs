//! What operators have set for the whole cluster: the pause, which jobs are on, and whether the leader stays.

use sea_orm::DbErr;
use serde::Serialize;

use super::{Outcome, Result, Store, Tx};

/// A switch of the cluster, and who set it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Switch {
    /// What it is set to; empty for the default.
    pub value: String,
    /// Who set it.
    pub by: String,
    /// Why, in their words.
    pub why: String,
    /// When, ms since 1970; 0 for never.
    pub at_ms: i64,
}

/// All switches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Switches {
    /// `paused` while nothing starts in the whole cluster.
    pub pause: Switch,
    /// Which jobs are on: `all`, `none`, or a comma list of names; empty means all.
    pub jobs_enabled: Switch,
    /// `frozen` while the leader does not hand over to a node of greater priority.
    pub frozen: Switch,
}

impl Switches {
    /// Whether the whole cluster is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.pause.value == "paused"
    }

    /// Whether the leader stays where it is.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.frozen.value == "frozen"
    }

    /// Why due times of a job start nothing at present.
    pub(super) fn for_job(&self, job: &str) -> Option<(Outcome, String)> {
        // What keeps the cluster clean goes on.
        if job.starts_with("system.") {
            return None;
        }
        if self.is_paused() {
            let Switch { by, why, .. } = &self.pause;
            return Some((Outcome::Paused, format!("the cluster was paused by {by}: {why}")));
        }
        let on = match self.jobs_enabled.value.as_str() {
            "" | "all" => true,
            "none" => false,
            list => list.split(',').any(|name| name.trim() == job),
        };
        (!on).then(|| (Outcome::Disabled, "jobs_enabled does not name it".to_owned()))
    }
}

impl Store {
    /// Reads the switches.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn switches(&self) -> Result<Switches> {
        let rows = self.all(SELECT.to_owned(), Vec::new()).await?;
        Ok(collect(&rows)?)
    }

    /// Sets a switch. Once this has returned, every claim sees it.
    pub(crate) async fn set_switch(&self, name: &'static str, switch: Switch) -> Result<()> {
        let sql = format!(
            "UPDATE us_scheduler_state SET value = $2, changed_by = $3, why = $4, at_ms = {} WHERE name = $1",
            self.backend().now_ms()
        );
        let values = vec![name.into(), switch.value.into(), switch.by.into(), switch.why.into()];
        self.execute(sql, values).await.map(|_| ())
    }

    /// Sets which jobs are on, if nobody ever has.
    pub(crate) async fn begin_jobs_enabled(&self, value: &str, by: &str) -> Result<()> {
        let sql = format!(
            "UPDATE us_scheduler_state SET value = $1, changed_by = $2, at_ms = {} \
             WHERE name = 'jobs_enabled' AND at_ms = 0",
            self.backend().now_ms()
        );
        self.execute(sql, vec![value.into(), by.into()]).await.map(|_| ())
    }

    /// Puts a node into maintenance, or takes it out; it survives restarts. Switches are called `maintenance:<name>`.
    pub(crate) async fn set_maintenance(&self, node: &str, on: bool, switch: Switch) -> Result<()> {
        let name = format!("maintenance:{node}");
        if !on {
            let sql = "DELETE FROM us_scheduler_state WHERE name = $1";
            return self.execute(sql.to_owned(), vec![name.into()]).await.map(|_| ());
        }
        let sql = format!(
            "INSERT INTO us_scheduler_state (name, value, changed_by, why, at_ms) VALUES ($1, 'on', $2, $3, {}) \
             ON CONFLICT (name) DO UPDATE SET changed_by = excluded.changed_by, why = excluded.why",
            self.backend().now_ms()
        );
        self.execute(sql, vec![name.into(), switch.by.into(), switch.why.into()]).await.map(|_| ())
    }

    /// Gives the names of nodes in maintenance.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn in_maintenance(&self) -> Result<Vec<(String, Switch)>> {
        let sql = "SELECT name, value, changed_by, why, at_ms FROM us_scheduler_state \
                   WHERE name LIKE 'maintenance:%' ORDER BY name";
        let mut nodes = Vec::new();
        for row in self.all(sql.to_owned(), Vec::new()).await? {
            let name: String = row.try_get("", "name")?;
            let node = name.trim_start_matches("maintenance:").to_owned();
            nodes.push((node, read(&row)?));
        }
        Ok(nodes)
    }
}

const SELECT: &str = "SELECT name, value, changed_by, why, at_ms FROM us_scheduler_state \
                      WHERE name IN ('pause', 'jobs_enabled', 'frozen')";

/// Reads the switches within a claim; whoever sets one waits until the claim has ended.
pub(super) async fn held_back(tx: &Tx<'_>) -> std::result::Result<Switches, DbErr> {
    let sql = format!("{SELECT} ORDER BY name{}", tx.backend.for_share());
    collect(&tx.all(&sql, Vec::new()).await?)
}

fn collect(rows: &[sea_orm::QueryResult]) -> std::result::Result<Switches, DbErr> {
    let mut switches = Switches::default();
    for row in rows {
        let name: String = row.try_get("", "name")?;
        let switch = read(row)?;
        match name.as_str() {
            "pause" => switches.pause = switch,
            "jobs_enabled" => switches.jobs_enabled = switch,
            "frozen" => switches.frozen = switch,
            _ => {}
        }
    }
    Ok(switches)
}

fn read(row: &sea_orm::QueryResult) -> std::result::Result<Switch, DbErr> {
    Ok(Switch {
        value: row.try_get("", "value")?,
        by: row.try_get("", "changed_by")?,
        why: row.try_get("", "why")?,
        at_ms: row.try_get("", "at_ms")?,
    })
}
