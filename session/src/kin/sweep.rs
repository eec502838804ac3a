//! Finds what hangs on sessions that are gone: the duty `session-kin`, done by one node for all.
//!
//! It goes round all sessions on which something hangs, some at a time, and round the notes of their children, for one that has
//! ended while its parent lives counts among those that the parent may have. Which ones come next is remembered in memory
//! only: a new leader begins anew.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use sea_orm::QueryResult;
use serde::Serialize;
use understudy_runtime::duty::{Duty, DutyRun};

use super::{Kin, UPLOAD_LIMIT, get, locator, stored};
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
/// How long a child must be missing before its note goes although its parent lives: longer than whoever begins it may stand
/// still between the note and the child.
const STALLED: Duration = Duration::from_secs(600);

/// Rows about sessions that may be gone.
#[derive(Debug, Clone, Copy)]
struct Shelf {
    table: &'static str,
    /// The column that names the session.
    session: &'static str,
}

/// Sessions on which something hangs.
const PARENTS: Shelf = Shelf { table: "us_session_kin", session: "session" };
/// Children.
const CHILDREN: Shelf = Shelf { table: "us_session_child", session: "child" };

/// Looks for sessions that are gone.
#[derive(Clone, Debug)]
pub(crate) struct KinSweeper {
    kin: Kin,
    handle: SessionHandle,
    gone_for: Duration,
    stalled_for: Duration,
    /// The last session that was looked at.
    after: Arc<ArcSwap<String>>,
    /// The last child that was.
    after_child: Arc<ArcSwap<String>>,
}

/// What one run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(crate) struct KinReport {
    /// Sessions that were looked at.
    looked: u64,
    /// Sessions that were gone, and what hung on them was removed.
    gone: u64,
    /// Notes of children that have ended, or never began, while their parents live.
    notes: u64,
    /// Files whose writer has disappeared.
    uploads: u64,
}

/// A row about a session.
struct Hung {
    session: Locator,
    /// For how long it was missing when it was last looked at, ms.
    missing_ms: Option<u64>,
}

impl KinSweeper {
    pub(crate) fn new(kin: Kin, handle: SessionHandle) -> Self {
        let gone_for = handle.0.lease_ttl * LEASES;
        let (after, after_child) = (Arc::default(), Arc::default());
        Self { kin, handle, gone_for, stalled_for: STALLED.max(gone_for), after, after_child }
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
        for _ in 0..PAGES {
            if run.is_cancelled() || !self.look_at_children(&mut report).await? {
                break;
            }
        }
        report.uploads = self.kin.drop_stale_uploads(UPLOAD_LIMIT).await?;
        Ok(report)
    }

    /// Looks at the next page of sessions; says whether there is another one.
    async fn look_at_page(&self, report: &mut KinReport) -> Result<bool, StoreError> {
        let page = self.kin.page(PARENTS, &self.after.load_full(), PAGE).await?;
        report.looked += page.len() as u64;
        let gone = self.gone(PARENTS, &page, self.gone_for).await?;
        self.kin.finish(&self.handle, &gone).await?;
        report.gone += gone.len() as u64;
        Ok(went_on(&self.after, &page))
    }

    /// Looks at the next page of children; says whether there is another one.
    async fn look_at_children(&self, report: &mut KinReport) -> Result<bool, StoreError> {
        let page = self.kin.page(CHILDREN, &self.after_child.load_full(), PAGE).await?;
        for child in self.gone(CHILDREN, &page, self.stalled_for).await? {
            report.notes += self.kin.forget_gone(child, self.stalled_for).await?;
        }
        Ok(went_on(&self.after_child, &page))
    }

    /// Gives those of a page that have been gone for so long.
    async fn gone(
        &self,
        shelf: Shelf,
        page: &[Hung],
        limit: Duration,
    ) -> Result<Vec<Locator>, StoreError> {
        let mut gone = Vec::new();
        if page.is_empty() {
            return Ok(gone);
        }
        let sessions: Vec<Locator> = page.iter().map(|hung| hung.session).collect();
        let sights = self.handle.register().look(&sessions).await?;
        for (hung, sight) in page.iter().zip(&sights) {
            match (sight, hung.missing_ms) {
                (Sight::Seen(_), Some(_)) => self.kin.note_back(shelf, hung.session).await?,
                (Sight::Gone, None) => self.kin.note_missing(shelf, hung.session).await?,
                (Sight::Gone, Some(ms)) if Duration::from_millis(ms) >= limit => {
                    gone.push(hung.session);
                }
                // What cannot be read may be readable for another version of the program.
                (Sight::Seen(_), None) | (Sight::Gone, Some(_)) | (Sight::Unreadable, _) => {}
            }
        }
        Ok(gone)
    }
}

/// Remembers where the next page begins; says whether there is one.
fn went_on(after: &ArcSwap<String>, page: &[Hung]) -> bool {
    let last = page.last().filter(|_| page.len() == PAGE).map(|last| last.session.to_string());
    let more = last.is_some();
    after.store(Arc::new(last.unwrap_or_default()));
    more
}

impl Kin {
    async fn page(
        &self,
        Shelf { table, session }: Shelf,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Hung>, StoreError> {
        let now = self.backend().now_ms();
        let sql = format!(
            "SELECT {session} AS locator, {now} - gone_since_ms AS missing_ms FROM {table} \
             WHERE {session} > $1 ORDER BY {session} LIMIT $2"
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.rows(self.statement(&sql, vec![after.to_owned().into(), limit.into()]));
        let rows = rows.await?;
        let read = |row: &QueryResult| -> Result<Hung, StoreError> {
            let missing: Option<i64> = get(row, "missing_ms")?;
            // Negative when the clock was set back.
            let missing_ms = missing.map(|ms| u64::try_from(ms).unwrap_or(0));
            Ok(Hung { session: locator(row, "locator")?, missing_ms })
        };
        rows.iter().map(read).collect()
    }

    async fn note_missing(
        &self,
        Shelf { table, session }: Shelf,
        missing: Locator,
    ) -> Result<(), StoreError> {
        let now = self.backend().now_ms();
        let sql = format!(
            "UPDATE {table} SET gone_since_ms = {now} \
             WHERE {session} = $1 AND gone_since_ms IS NULL"
        );
        let note = self.statement(&sql, vec![missing.to_string().into()]);
        self.change(note).await.map(|_| ())
    }

    async fn note_back(
        &self,
        Shelf { table, session }: Shelf,
        back: Locator,
    ) -> Result<(), StoreError> {
        let sql = format!("UPDATE {table} SET gone_since_ms = NULL WHERE {session} = $1");
        let note = self.statement(&sql, vec![back.to_string().into()]);
        self.change(note).await.map(|_| ())
    }

    /// Forgets the note of a child that has been gone for so long, unless it was noted anew meanwhile; gives how many those were.
    async fn forget_gone(&self, child: Locator, limit: Duration) -> Result<u64, StoreError> {
        let now = self.backend().now_ms();
        let sql = format!(
            "DELETE FROM us_session_child WHERE child = $1 AND gone_since_ms <= {now} - $2"
        );
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        self.change(self.statement(&sql, vec![child.to_string().into(), stored(limit_ms)])).await
    }
}

#[cfg(test)]
mod tests {
    use understudy_runtime::config::{DatabaseUrl, EncryptionWrites, FilesConfig, MigrateMode};
    use understudy_runtime::database::Database;
    use understudy_runtime::database::test_postgres::test_config;

    use super::*;
    use crate::kin::Noted;
    use crate::sealing::tests::ring;
    use crate::store::database::migrations;
    use crate::users::tests::{logged_in, memory, node_over};

    #[actix_rt::test]
    async fn s16_a_note_of_a_child_that_is_gone_goes_while_its_parent_lives() {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::Sqlite(folder.path().join("kin.sqlite3"));
        let database = Database::connect(&test_config(url)).await.unwrap();
        database.migrate(MigrateMode::Auto, &migrations(), &|_| {}).await.unwrap();
        let limits = FilesConfig { file_bytes: 1, session_bytes: 1 };
        let kin = Kin::new(database, ring(EncryptionWrites::Plain, &[], "shop"), limits);
        let store = memory();
        let (parent, lives) = (logged_in(&store, "ann").await, logged_in(&store, "ann").await);
        let gone = Locator::random();
        let note = async |child: Locator| {
            assert_eq!(kin.note_child(parent, child).await.unwrap(), Noted::In);
        };
        note(lives).await;
        note(gone).await;
        let sweeper = KinSweeper::new(kin.clone(), node_over(Arc::new(store.clone())));
        let sweeper = KinSweeper { stalled_for: Duration::ZERO, ..sweeper };
        let sweep = async || {
            let mut report = KinReport::default();
            assert!(!sweeper.look_at_children(&mut report).await.unwrap(), "one page");
            report.notes
        };
        assert_eq!(sweep().await, 0, "it is seen to be missing for the first time");
        // As if it were about to begin again: what was seen before is no reason any more.
        note(gone).await;
        assert_eq!(sweep().await, 0);
        assert_eq!(sweep().await, 1);
        let left = "SELECT child AS locator FROM us_session_child";
        let left = kin.locators(kin.statement(left, Vec::new())).await.unwrap();
        assert_eq!(left, [lives]);
    }
}
