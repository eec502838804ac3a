//! Terms of leaders: an epoch for each, given out by the database that also checks it.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sea_orm::{DbErr, QueryResult};
use serde::Serialize;
use understudy_runtime::ids::NodeId;

use super::{Result, Store, Tx, required};
use crate::leader::{Inauguration, InaugurationError};

/// So many terms are looked at for times without a leader.
const TERMS: usize = 20;

/// A term of a leader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TermRow {
    /// Its epoch, greater than that of any term before.
    pub epoch: i64,
    /// The node that led.
    pub node: String,
    /// When it began, ms since 1970 by the database's clock.
    pub started_ms: i64,
    /// When it last showed a sign of life.
    pub seen_ms: i64,
    /// When it ended, as far as known.
    pub ended_ms: Option<i64>,
    /// Why it ended.
    pub reason: Option<String>,
}

struct Begin {
    node: String,
    lease_value: String,
}

#[async_trait]
impl Inauguration for Store {
    async fn inaugurate(
        &self,
        node: &NodeId,
        lease_value: &str,
    ) -> std::result::Result<u64, InaugurationError> {
        let begin = Begin { node: node.to_string(), lease_value: lease_value.to_owned() };
        let epoch = self.transaction(begin, begin_boxed).await?;
        Ok(u64::try_from(epoch).unwrap_or(0))
    }

    async fn end_term(
        &self,
        epoch: u64,
        reason: &str,
    ) -> std::result::Result<(), InaugurationError> {
        let sql = format!(
            "UPDATE us_leader_history SET ended_ms = {}, reason = $2 WHERE epoch = $1 AND ended_ms IS NULL",
            self.backend().now_ms()
        );
        let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
        self.execute(sql, vec![epoch.into(), reason.into()]).await?;
        Ok(())
    }
}

fn begin_boxed<'c>(
    tx: &'c Tx<'c>,
    begin: Arc<Begin>,
) -> BoxFuture<'c, std::result::Result<i64, DbErr>> {
    async move { carry_out(tx, &begin).await }.boxed()
}

/// Begins a term: waits for open claims of the one before, which then is over.
async fn carry_out(tx: &Tx<'_>, begin: &Begin) -> std::result::Result<i64, DbErr> {
    let values = || vec![begin.node.clone().into(), begin.lease_value.clone().into()];
    // The answer to an inauguration that was carried out may have been lost: asked again, it is the same term.
    let again = "SELECT epoch FROM us_leader_term WHERE name = 'scheduler' AND node = $1 AND lease_value = $2";
    if let Some(row) = tx.one(again, values()).await? {
        return row.try_get("", "epoch");
    }
    let now = tx.now();
    // History may know of greater epochs than a database that was restored from a backup.
    let sql = format!(
        "UPDATE us_leader_term SET epoch = (SELECT max(e) FROM (SELECT t.epoch AS e FROM us_leader_term t \
           UNION ALL SELECT h.epoch FROM us_leader_history h) known) + 1, \
         node = $1, lease_value = $2, started_ms = {now}, seen_ms = {now} \
         WHERE name = 'scheduler' RETURNING epoch, started_ms"
    );
    // The lock first: what is read in the statement above must not be older than the lock.
    let lock = format!(
        "SELECT epoch FROM us_leader_term WHERE name = 'scheduler'{}",
        tx.backend.for_update()
    );
    tx.one(&lock, Vec::new()).await?;
    let row = required(tx.one(&sql, values()).await?)?;
    let (epoch, started_ms): (i64, i64) =
        (row.try_get("", "epoch")?, row.try_get("", "started_ms")?);
    // The one before may have noted its end while this waited for that, so a moment later than it was over: it had given the
    // lease up, or lost it.
    let close = "UPDATE us_leader_history SET \
         ended_ms = CASE WHEN started_ms > $1 THEN started_ms ELSE $1 END, \
         reason = CASE WHEN ended_ms IS NULL THEN 'superseded' ELSE reason END \
         WHERE ended_ms IS NULL OR epoch = $2 - 1 AND ended_ms > $1";
    tx.execute(close, vec![started_ms.into(), epoch.into()]).await?;
    let note =
        "INSERT INTO us_leader_history (epoch, node, started_ms, seen_ms) VALUES ($1, $2, $3, $3)";
    tx.execute(note, vec![epoch.into(), begin.node.clone().into(), started_ms.into()]).await?;
    Ok(epoch)
}

impl Store {
    /// Shows a sign of life of a term; `false` when another has begun.
    pub(crate) async fn see_term(&self, epoch: u64) -> Result<bool> {
        let now = self.backend().now_ms();
        let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
        let sql = format!(
            "UPDATE us_leader_history SET seen_ms = {now} WHERE epoch = $1 AND ended_ms IS NULL"
        );
        Ok(self.execute(sql, vec![epoch.into()]).await? > 0)
    }

    /// Reads the latest terms, the newest first.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn terms(&self, limit: u32) -> Result<Vec<TermRow>> {
        let sql = "SELECT epoch, node, started_ms, seen_ms, ended_ms, reason FROM us_leader_history \
                   ORDER BY epoch DESC LIMIT $1";
        let rows = self.all(sql.to_owned(), vec![i64::from(limit).into()]).await?;
        Ok(rows.iter().map(read).collect::<std::result::Result<_, _>>()?)
    }

    /// Counts the terms that began within the last `within_ms`.
    pub(crate) async fn terms_within(&self, within_ms: i64) -> Result<i64> {
        let sql = format!(
            "SELECT CAST(count(*) AS bigint) AS terms FROM us_leader_history WHERE started_ms > {} - $1",
            super::now_once(self.backend())
        );
        let row = self.one(sql, vec![within_ms.into()]).await?;
        Ok(required(row)?.try_get("", "terms")?)
    }

    /// When nobody led before the term that is in force now, as far as known: from the last sign of life of a term to
    /// the beginning of the next.
    pub(crate) async fn leaderless(&self) -> Result<Vec<(i64, i64)>> {
        let terms = self.terms(u32::try_from(TERMS).unwrap_or(u32::MAX)).await?;
        let gaps = terms.windows(2).filter_map(|pair| {
            let [next, before] = pair else { return None };
            let killed = before.reason.as_deref() == Some("superseded");
            let from =
                if killed { before.seen_ms } else { before.ended_ms.unwrap_or(before.seen_ms) };
            (from < next.started_ms).then_some((from, next.started_ms))
        });
        let mut gaps: Vec<_> = gaps.collect();
        if let Some(first) = terms.last().filter(|_| terms.len() < TERMS) {
            gaps.push((i64::MIN, first.started_ms));
        }
        Ok(gaps)
    }
}

fn read(row: &QueryResult) -> std::result::Result<TermRow, DbErr> {
    Ok(TermRow {
        epoch: row.try_get("", "epoch")?,
        node: row.try_get("", "node")?,
        started_ms: row.try_get("", "started_ms")?,
        seen_ms: row.try_get("", "seen_ms")?,
        ended_ms: row.try_get("", "ended_ms")?,
        reason: row.try_get("", "reason")?,
    })
}
