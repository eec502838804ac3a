//! What hangs on a session and ends with it: child sessions, and temporary files.
//!
//! Both lie elsewhere than the session itself: files in the database, so that every node can read them; children in the store
//! of the sessions, as sessions of their own. So none of them can be removed in the step that ends the session, and everything
//! here follows from two promises:
//!
//! **Nothing is shown of what hangs on a session unless the session itself was just seen alive**, by a request that has its
//! cookie. So what is left over is out of reach at once, however the session ended, and only takes room.
//!
//! **What hangs on a session is noted in the database before it is there.** So what is left over is found.
//!
//! # How it is removed
//!
//! | the session | who removes what hangs on it |
//! |---|---|
//! | is logged out, or its owner finds it over | the node that ended it, right after that ([`Endings`], [`Kin::tidy`]) |
//! | is ended by an operator, by its user at another place, or by a login too many | the same |
//! | ran out of time and is swept | the leader, right after that |
//! | any of these, and the node dies, stands still or cannot reach the database | the leader: the duty `session-kin` looks at the sessions that the database names |
//!
//! The note of a child that ended while its parent lives makes room for another in the same two ways. The child may begin again
//! under its name meanwhile: a note that was made after the end was told of, or after the child was seen to be missing, is of the
//! next one, and stays.
//!
//! The duty believes that a session is gone when it has seen that twice with time in between (`gone_since_ms`), more than what
//! a Redis that comes back empty takes to be given back what living owners have. All of it may be done twice, by two nodes at
//! once too: what is gone is gone.
//!
//! # What a crash leaves behind
//!
//! | the process dies | what is left | who tidies up |
//! |---|---|---|
//! | after the note, before the child or file | a note of nothing | whoever removes what hangs on the session; of a child the duty, after [`STALLED`](sweep) |
//! | while a file is written | a part of a file under no name | the duty, after [`UPLOAD_LIMIT`]; until then it counts |
//! | after the session ended | all that hung on it, out of reach | the duty |
//! | while that is removed | the rest | the duty |
//!
//! A process that stands still while it writes a file, and goes on after the session ended, finds the row of its session gone and
//! writes nothing; one that begins a child then leaves a child without a session, which the duty ends.
//!
//! Statements lock the row of the session first (`us_session_kin`), then everything else, so that they wait for each other and
//! nobody waits for ever.

mod files;
mod sweep;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ConnectionTrait as _, QueryResult, Statement, TryGetable, Value};
use tokio::sync::mpsc;
use tokio::time::Instant;
use understudy_runtime::config::FilesConfig;
use understudy_runtime::database::{Backend, Database, DatabaseError};

use crate::handle::{EndError, SessionHandle};
use crate::record::Locator;
use crate::sealing::SealRing;
use crate::store::StoreError;

pub(crate) use files::{Added, Begun, CHUNK, FileRow, Folder, MAX_FILES};
pub(crate) use sweep::KinSweeper;

/// Most children of one session.
pub(crate) const MAX_CHILDREN: u32 = 32;
/// How long a file may take to be written.
pub(crate) const UPLOAD_LIMIT: Duration = Duration::from_secs(3_600);
/// How many ended sessions are looked after together.
const AT_ONCE: usize = 256;
/// How many ended sessions may wait for that; the sweep finds what does not fit.
const WAITING: usize = 16_384;

/// A session that has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending {
    session: Locator,
    /// When that was told.
    at: Instant,
}

/// Hears of sessions that have ended. The default tells nobody.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endings(Option<mpsc::Sender<Ending>>);

impl Endings {
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Ending>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(Some(sender)), receiver)
    }

    /// Tells of an end, without waiting.
    pub(crate) fn tell(&self, session: Locator) {
        if let Some(sender) = &self.0 {
            // When there are too many, the sweep comes.
            sender.try_send(Ending { session, at: Instant::now() }).ok();
        }
    }
}

/// Keeps what hangs on sessions. Clones share it.
#[derive(Clone)]
pub(crate) struct Kin {
    database: Database,
    ring: SealRing,
    limits: FilesConfig,
}

/// Answer to [`Kin::note_child`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noted {
    /// The child may begin.
    In,
    /// The session has as many as it may have.
    Full,
    /// The session has just been removed.
    Gone,
}

impl Kin {
    pub(crate) fn new(database: Database, ring: SealRing, limits: FilesConfig) -> Self {
        Self { database, ring, limits }
    }

    pub(crate) fn limits(&self) -> FilesConfig {
        self.limits
    }

    fn backend(&self) -> Backend {
        self.database.backend()
    }

    fn statement(&self, sql: &str, values: Vec<Value>) -> Statement {
        self.backend().statement(sql, values)
    }

    /// Makes the statement that gives a session a row, if it has none.
    fn ensure(&self, session: Locator) -> Statement {
        self.statement(
            "INSERT INTO us_session_kin (session, bytes, files) VALUES ($1, 0, 0) \
             ON CONFLICT (session) DO NOTHING",
            vec![session.to_string().into()],
        )
    }

    /// Makes the statement that locks the row of a session; gives `bytes` and `files`.
    fn lock(&self, session: Locator) -> Statement {
        let lock = self.backend().for_update();
        let sql = format!("SELECT bytes, files FROM us_session_kin WHERE session = $1{lock}");
        self.statement(&sql, vec![session.to_string().into()])
    }

    /// Makes a statement about some locators; `sql` ends where their list begins.
    fn about(&self, sql: &str, locators: &[Locator]) -> Statement {
        let marks: Vec<String> = (1..=locators.len()).map(|number| format!("${number}")).collect();
        let values = locators.iter().map(|locator| locator.to_string().into()).collect();
        self.statement(&format!("{sql} ({})", marks.join(", ")), values)
    }

    /// Notes that a session is about to have a child, before that is there. One that was noted before is noted anew.
    pub(crate) async fn note_child(
        &self,
        session: Locator,
        child: Locator,
    ) -> Result<Noted, StoreError> {
        let others =
            "SELECT count(*) AS children FROM us_session_child WHERE session = $1 AND child <> $2";
        let now = self.backend().now_ms();
        let note = format!(
            "INSERT INTO us_session_child (session, child, noted_ms) VALUES ($1, $2, {now}) \
             ON CONFLICT (child) DO UPDATE SET noted_ms = excluded.noted_ms, gone_since_ms = NULL"
        );
        let both = || -> Vec<Value> { vec![session.to_string().into(), child.to_string().into()] };
        let statements = [
            self.ensure(session),
            self.lock(session),
            self.statement(others, both()),
            self.statement(&note, both()),
        ];
        let noted = self.database.transaction(move |executor| {
            let [ensure, lock, others, note] = statements.clone();
            Box::pin(async move {
                executor.execute_raw(ensure).await?;
                if executor.query_one_raw(lock).await?.is_none() {
                    return Ok(Noted::Gone);
                }
                let children: i64 = match executor.query_one_raw(others).await? {
                    Some(row) => row.try_get("", "children")?,
                    None => 0,
                };
                if children >= i64::from(MAX_CHILDREN) {
                    return Ok(Noted::Full);
                }
                executor.execute_raw(note).await?;
                Ok(Noted::In)
            })
        });
        Ok(noted.await?)
    }

    /// Counts children, by their notes.
    pub(crate) async fn count_children(&self) -> Result<u64, StoreError> {
        let count = "SELECT count(*) AS children FROM us_session_child";
        let rows = self.rows(self.statement(count, Vec::new())).await?;
        rows.first().map_or(Ok(0), |row| number(row, "children"))
    }

    /// Removes what hangs on sessions that have ended, as long as the node runs. What fails is left to the sweep.
    pub(crate) async fn tidy(&self, handle: &SessionHandle, ended: &mut mpsc::Receiver<Ending>) {
        let mut some = Vec::with_capacity(AT_ONCE);
        while ended.recv_many(&mut some, AT_ONCE).await > 0 {
            let mut sessions: Vec<Locator> = some.iter().map(|ending| ending.session).collect();
            sessions.sort_unstable();
            sessions.dedup();
            let forgotten = self.forget_ended(&some, &sessions).await;
            if let Err(error) = self.finish(handle, &sessions).await.and(forgotten) {
                tracing::debug!(%error, "what hangs on ended sessions is left to the sweep");
            }
            some.clear();
        }
    }

    /// Forgets the notes of children that have ended by themselves, which makes room for others. `sessions` are those of `ended`.
    ///
    /// This may come late, and then a child may have begun again under its name: a note that was made after the end was told of
    /// stays.
    async fn forget_ended(&self, ended: &[Ending], sessions: &[Locator]) -> Result<(), StoreError> {
        let children = "SELECT child AS locator FROM us_session_child WHERE child IN";
        let now = self.backend().now_ms();
        let forget =
            format!("DELETE FROM us_session_child WHERE child = $1 AND noted_ms <= {now} - $2");
        for child in self.locators(self.about(children, sessions)).await? {
            let told = ended.iter().filter(|ending| ending.session == child);
            let Some(at) = told.map(|ending| ending.at).max() else { continue };
            let ago_ms = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
            let values = vec![child.to_string().into(), stored(ago_ms)];
            self.change(self.statement(&forget, values)).await?;
        }
        Ok(())
    }

    /// Removes what hangs on sessions that are over. Children are ended before their note goes.
    pub(crate) async fn finish(
        &self,
        handle: &SessionHandle,
        ended: &[Locator],
    ) -> Result<(), StoreError> {
        if ended.is_empty() {
            return Ok(());
        }
        let with_kin = "SELECT session AS locator FROM us_session_kin WHERE session IN";
        for session in self.locators(self.about(with_kin, ended)).await? {
            let children = "SELECT child AS locator FROM us_session_child WHERE session IN";
            let children = self.locators(self.about(children, &[session])).await?;
            if !children.is_empty() {
                handle.end(&children).await.map_err(not_ended)?;
            }
            let files = self.remove(session, &children).await?;
            let count = |what: &'static str, many: u64| {
                metrics::counter!("session_kin_removed_total", "what" => what).increment(many);
            };
            count("child", children.len() as u64);
            count("file", files);
        }
        Ok(())
    }

    /// Removes the files of a session and the notes of these children; gives how many files there were. The row of the session
    /// stays if another child was noted meanwhile.
    async fn remove(&self, session: Locator, children: &[Locator]) -> Result<u64, StoreError> {
        let one = |sql: &str| self.statement(sql, vec![session.to_string().into()]);
        let lock = self.lock(session);
        let chunks = one("DELETE FROM us_session_file_chunk WHERE file IN \
             (SELECT id FROM us_session_file WHERE session = $1)");
        let files = one("DELETE FROM us_session_file WHERE session = $1");
        let notes = (!children.is_empty())
            .then(|| self.about("DELETE FROM us_session_child WHERE child IN", children));
        let row = one("DELETE FROM us_session_kin WHERE session = $1 AND NOT EXISTS \
             (SELECT 1 FROM us_session_child WHERE session = $1)");
        let empty = one("UPDATE us_session_kin SET bytes = 0, files = 0 WHERE session = $1");
        let statements = Arc::new((lock, chunks, files, notes, row, empty));
        let removed = self.database.transaction(move |executor| {
            let statements = Arc::clone(&statements);
            Box::pin(async move {
                let (lock, chunks, files, notes, row, empty) = &*statements;
                executor.query_one_raw(lock.clone()).await?;
                executor.execute_raw(chunks.clone()).await?;
                let files = executor.execute_raw(files.clone()).await?.rows_affected();
                if let Some(notes) = notes {
                    executor.execute_raw(notes.clone()).await?;
                }
                executor.execute_raw(row.clone()).await?;
                executor.execute_raw(empty.clone()).await?;
                Ok(files)
            })
        });
        Ok(removed.await?)
    }

    async fn locators(&self, query: Statement) -> Result<Vec<Locator>, StoreError> {
        let rows = self.rows(query).await?;
        rows.iter().map(|row| locator(row, "locator")).collect()
    }

    async fn rows(&self, query: Statement) -> Result<Vec<QueryResult>, StoreError> {
        let rows = self.database.read(move |executor| {
            let query = query.clone();
            Box::pin(async move { executor.query_all_raw(query).await })
        });
        Ok(rows.await?)
    }

    async fn change(&self, update: Statement) -> Result<u64, StoreError> {
        let changed = self.database.step(move |executor| {
            let update = update.clone();
            Box::pin(async move { Ok(executor.execute_raw(update).await?.rows_affected()) })
        });
        Ok(changed.await?)
    }
}

fn not_ended(error: EndError) -> StoreError {
    match error {
        EndError::Store(error) => error,
        EndError::Unconfirmed(_) => StoreError::Unavailable(
            "children are over, but their owners did not say that they know".to_owned(),
        ),
    }
}

fn get<T: TryGetable>(row: &QueryResult, column: &str) -> Result<T, StoreError> {
    Ok(row.try_get("", column).map_err(DatabaseError::from)?)
}

fn number(row: &QueryResult, column: &str) -> Result<u64, StoreError> {
    let number: i64 = get(row, column)?;
    u64::try_from(number)
        .map_err(|_| StoreError::Unreadable(format!("column {column}: a negative number")))
}

fn locator(row: &QueryResult, column: &str) -> Result<Locator, StoreError> {
    let text: String = get(row, column)?;
    let parsed = text.parse::<Locator>();
    parsed.map_err(|error| StoreError::Unreadable(format!("column {column}: {error}")))
}

/// Gives a number as a column keeps it.
fn stored(number: u64) -> Value {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

impl fmt::Debug for Kin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kin").field("limits", &self.limits).finish_non_exhaustive()
    }
}
