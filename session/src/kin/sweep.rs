//! Finds what hangs on sessions that are gone: the duty `session-kin`, done by one node for all.
//!
//! It goes round all sessions on which something hangs, some at a time. Which ones come next is remembered in memory only: a
//! new leader begins anew.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use sea_orm::QueryResult;
use serde::Serialize;
use understudy_runtime::duty::{Duty, DutyRun};

use super::{Kin, UPLOAD_LIMIT, get, locator};
use crate::handle::SessionHandle;
use crate::record::Locator;
use crate::store::StoreError;
use crate::store::register::Sight;

/// Name of the duty.
const DUTY: &str = "session-kin";
/// How often it is due.
const EVERY: Duration = Duration::from_secs(30);
/// How many sessions are looked at together, and how often at most in one run.
const PAGE: usize = 500;
const PAGES: usize = 10;
/// How many leases of a node a session must be missing before it is believed to be gone: what living owners have is put back
/// within one.
const LEASES: u32 = 4;

/// Looks for sessions that are gone.
#[derive(Clone, Debug)]
pub(crate) struct KinSweeper {
    kin: Kin,
    handle: SessionHandle,
    gone_for: Duration,
    /// The last session that was looked at.
    after: Arc<ArcSwap<String>>,
}

/// What one run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(crate) struct KinReport {
    /// Sessions that were looked at.
    looked: u64,
    /// Sessions that were gone, and what hung on them was removed.
    gone: u64,
    /// Files whose writer has disappeared.
    uploads: u64,
}

/// A session on which something hangs.
struct Hung {
    session: Locator,
    /// For how long it was missing when it was last looked at, ms.
    missing_ms: Option<u64>,
}

impl KinSweeper {
    pub(crate) fn new(kin: Kin, handle: SessionHandle) -> Self {
        let gone_for = handle.0.lease_ttl * LEASES;
        Self { kin, handle, gone_for, after: Arc::default() }
    }

    /// Makes the duty that the leader does.
    pub(crate) fn duty(self) -> Duty {
        Duty {
            name: DUTY,
            description: "removes child sessions and temporary files of sessions that are gone",
            every: EVERY,
            run: Arc::new(move |run| {
                let sweeper = self.clone();
                Box::pin(async move {
                    let report = sweeper.run_once(&run).await.map_err(|error| error.to_string())?;
                    serde_json::to_value(report).map_err(|error| error.to_string())
                })
            }),
        }
    }

    /// Looks at some more sessions.
    pub(crate) async fn run_once(&self, run: &DutyRun) -> Result<KinReport, StoreError> {
        let mut report = KinReport::default();
        for _ in 0..PAGES {
            if run.is_cancelled() || !self.look_at_page(&mut report).await? {
                break;
            }
        }
        report.uploads = self.kin.drop_stale_uploads(UPLOAD_LIMIT).await?;
        Ok(report)
    }

    /// Looks at the next page; says whether there is another one.
    async fn look_at_page(&self, report: &mut KinReport) -> Result<bool, StoreError> {
        let page = self.kin.page(&self.after.load_full(), PAGE).await?;
        let sessions: Vec<Locator> = page.iter().map(|hung| hung.session).collect();
        let last = sessions.last().filter(|_| page.len() == PAGE).map(ToString::to_string);
        let more = last.is_some();
        if !sessions.is_empty() {
            report.looked += page.len() as u64;
            let sights = self.handle.register().look(&sessions).await?;
            let mut gone = Vec::new();
            for (hung, sight) in page.iter().zip(&sights) {
                if self.judge(hung, sight).await? {
                    gone.push(hung.session);
                }
            }
            self.kin.finish(&self.handle, &gone).await?;
            report.gone += gone.len() as u64;
        }
        self.after.store(Arc::new(last.unwrap_or_default()));
        Ok(more)
    }

    /// Notes what was seen of a session; says whether it is gone for good.
    async fn judge(&self, hung: &Hung, sight: &Sight) -> Result<bool, StoreError> {
        match (sight, hung.missing_ms) {
            (Sight::Seen(_), Some(_)) => self.kin.note_back(hung.session).await?,
            (Sight::Gone, None) => self.kin.note_missing(hung.session).await?,
            (Sight::Gone, Some(ms)) => return Ok(Duration::from_millis(ms) >= self.gone_for),
            // What cannot be read may be readable for another version of the program.
            (Sight::Seen(_), None) | (Sight::Unreadable, _) => {}
        }
        Ok(false)
    }
}

impl Kin {
    async fn page(&self, after: &str, limit: usize) -> Result<Vec<Hung>, StoreError> {
        let now = self.backend().now_ms();
        let sql = format!(
            "SELECT session, {now} - gone_since_ms AS missing_ms FROM us_session_kin \
             WHERE session > $1 ORDER BY session LIMIT $2"
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.rows(self.statement(&sql, vec![after.to_owned().into(), limit.into()]));
        let rows = rows.await?;
        let read = |row: &QueryResult| -> Result<Hung, StoreError> {
            let missing: Option<i64> = get(row, "missing_ms")?;
            // Negative when the clock was set back.
            let missing_ms = missing.map(|ms| u64::try_from(ms).unwrap_or(0));
            Ok(Hung { session: locator(row, "session")?, missing_ms })
        };
        rows.iter().map(read).collect()
    }

    async fn note_missing(&self, session: Locator) -> Result<(), StoreError> {
        let now = self.backend().now_ms();
        let sql = format!(
            "UPDATE us_session_kin SET gone_since_ms = {now} \
             WHERE session = $1 AND gone_since_ms IS NULL"
        );
        let note = self.statement(&sql, vec![session.to_string().into()]);
        self.change(note).await.map(|_| ())
    }

    async fn note_back(&self, session: Locator) -> Result<(), StoreError> {
        let sql = "UPDATE us_session_kin SET gone_since_ms = NULL WHERE session = $1";
        let note = self.statement(sql, vec![session.to_string().into()]);
        self.change(note).await.map(|_| ())
    }
}
