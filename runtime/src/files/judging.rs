//! Has the application say of every file whether it is clean, before it is served to anybody: a scanner for viruses, say.
//!
//! Whoever wrote a file asks soon after; the duty `files-judge` asks for all that were left, because their node died, was too
//! busy, or had nobody to ask. A file without a verdict is not served by nodes that ask, whenever it was written, so nothing
//! slips through between one step and the next. To ask twice does no harm: the worse verdict counts.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::Instrument as _;

use super::Store;
use super::error::FileError;
use super::info::FileInfo;
use super::stored::StoredFile;
use super::verdicts::{Shown, Verdicts};
use crate::database::Database;
use crate::duty::{Duty, DutyRun};

/// Name of the duty.
const DUTY: &str = "files-judge";
/// How often it is due, and for how long it leaves a file to the node that wrote it.
const EVERY: Duration = Duration::from_secs(60);
/// How long one question may take.
const LIMIT: Duration = Duration::from_secs(300);
/// How many files are examined at once on a node, and how many may wait for it; what is more is left to the duty.
const AT_ONCE: usize = 4;
const WAITING: usize = 1_000;
/// How many files are looked for together, and how often at most in one run.
const PAGE: u32 = 100;
const PAGES: usize = 10;
/// How many files that an earlier release has judged are marked with one statement, and how often at most in one run.
const MARKED: u32 = 1_000;
const MARKS: usize = 50;

/// What somebody says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It may be served.
    Clean,
    /// It is served to nobody.
    Infected,
}

impl Verdict {
    /// Says why, such as the name of what was found. Operators are shown the first 500 characters; clients are not.
    #[must_use]
    pub fn because(self, reason: impl Into<String>) -> Judgement {
        Judgement { verdict: self, reason: Some(reason.into()) }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Infected => "infected",
        }
    }
}

/// A verdict, with its reason if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What is said of the file.
    pub verdict: Verdict,
    /// Why, for operators.
    pub reason: Option<String>,
}

impl From<Verdict> for Judgement {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, reason: None }
    }
}

type Question =
    Arc<dyn Fn(StoredFile) -> BoxFuture<'static, Result<Judgement, String>> + Send + Sync>;

/// What the application gave to be asked.
#[derive(Clone)]
pub(super) struct Examiner(Question);

impl Examiner {
    pub(super) fn new<F, Fut, J>(examine: F) -> Self
    where
        F: Fn(StoredFile) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<J, String>> + Send + 'static,
        J: Into<Judgement> + 'static,
    {
        let question: Question =
            Arc::new(move |file: StoredFile| -> BoxFuture<'static, Result<Judgement, String>> {
                let said = examine(file);
                Box::pin(async move { said.await.map(Into::<Judgement>::into) })
            });
        Self(question)
    }
}

impl fmt::Debug for Examiner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Examiner")
    }
}

/// Asks, and remembers the answers.
#[derive(Debug, Clone)]
pub(super) struct Judge {
    examiner: Examiner,
    verdicts: Verdicts,
    home: Handle,
    at_once: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// What one run of the duty did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(super) struct JudgeReport {
    /// Files that are clean.
    pub(super) clean: u64,
    /// Files that are not.
    pub(super) infected: u64,
    /// Files of which nothing could be said now.
    pub(super) failed: u64,
}

impl Judge {
    /// Makes one; must be called on the runtime of the node.
    pub(super) fn new(examiner: Examiner, database: Database) -> Self {
        Self {
            examiner,
            verdicts: Verdicts::new(database),
            home: Handle::current(),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Arc::new(Semaphore::new(WAITING)),
        }
    }

    /// Leaves all files to the duty.
    #[cfg(test)]
    pub(super) fn in_no_hurry(self) -> Self {
        Self { waiting: Arc::new(Semaphore::new(0)), ..self }
    }

    /// Says whether a file may be served.
    pub(super) async fn admit(&self, info: &FileInfo) -> Result<(), FileError> {
        match self.verdicts.of(&info.version).await? {
            Some(Verdict::Clean) => Ok(()),
            Some(Verdict::Infected) => Err(FileError::Infected),
            None => Err(FileError::Quarantined),
        }
    }

    /// Gives what was said of files, in their order, for operators.
    pub(super) async fn shown(&self, files: &[FileInfo]) -> Result<Vec<Shown>, FileError> {
        let ids: Vec<&str> = files.iter().map(|file| file.version.as_str()).collect();
        Ok(self.verdicts.shown(&ids).await?)
    }

    /// Asks about a file that was just written, without keeping anybody waiting.
    pub(super) fn look_soon(&self, store: &Arc<Store>, info: &FileInfo) {
        let Ok(place) = Arc::clone(&self.waiting).try_acquire_owned() else { return };
        let (judge, store, info) = (self.clone(), Arc::clone(store), info.clone());
        let work = async move {
            let _place = place;
            let Ok(_turn) = judge.at_once.acquire().await else { return };
            judge.look(&store, (&info.space, &info.name, &info.version)).await;
        };
        self.home.spawn(work.in_current_span());
    }

    /// Asks about one file; `None` when nothing was said, or there is no such file any more.
    async fn look(
        &self,
        store: &Arc<Store>,
        (space, name, version): (&str, &str, &str),
    ) -> Option<Verdict> {
        let judged = self.ask(store, (space, name, version)).await;
        match judged {
            Ok(Some(Judgement { verdict, reason })) => {
                count(verdict);
                if verdict == Verdict::Infected {
                    tracing::warn!(
                        file.version = %version,
                        reason = reason.as_deref().unwrap_or_default(),
                        "a file was found to be infected; nobody is served it"
                    );
                }
                Some(verdict)
            }
            Ok(None) => None,
            Err(why) => {
                metrics::counter!("understudy_files_judged_total", "verdict" => "failed")
                    .increment(1);
                tracing::warn!(
                    file.version = %version,
                    error = %why,
                    "a file could not be examined, and is not served; it is tried again"
                );
                if let Err(error) = self.verdicts.tried(version, &why).await {
                    tracing::debug!(%error, "why a file could not be examined is not shown");
                }
                None
            }
        }
    }

    async fn ask(
        &self,
        store: &Arc<Store>,
        (space, name, version): (&str, &str, &str),
    ) -> Result<Option<Judgement>, String> {
        let found =
            store.rows.find(space, name).await.map_err(|error| crate::error::chain(&error))?;
        let Some(row) = found.filter(|row| row.info.version == version) else { return Ok(None) };
        let file = StoredFile::of(store, row).map_err(|error| crate::error::chain(&error))?;
        // One that panics at some file must not keep the others from being examined.
        let asked = AssertUnwindSafe(async { (self.examiner.0)(file).await }).catch_unwind();
        let said = match timeout(LIMIT, asked).await {
            Ok(Ok(said)) => said?,
            Ok(Err(_panic)) => return Err("the examiner panicked".to_owned()),
            Err(_) => return Err(format!("nothing was said within {} s", LIMIT.as_secs())),
        };
        self.verdicts.note(version, &said).await.map_err(|error| crate::error::chain(&error))?;
        Ok(Some(said))
    }

    /// Asks about all files of which nothing was said for so long.
    ///
    /// It begins anywhere and goes round once: files at which the examiner hangs would else keep it from those behind them in
    /// each run.
    pub(super) async fn run_once(
        &self,
        store: &Arc<Store>,
        age: Duration,
        run: &DutyRun,
    ) -> Result<JudgeReport, FileError> {
        let mut report = JudgeReport::default();
        self.mark_judged(run).await?;
        let begin = format!("{:032x}", rand::random::<u128>());
        // Ids are hexadecimal digits, so a g is behind all of them.
        let halves = [(begin.clone(), "g".to_owned()), (String::new(), begin)];
        let mut pages = 0..PAGES;
        for (mut after, until) in halves {
            for _ in pages.by_ref() {
                let missing = self.verdicts.missing(age, (&after, &until), PAGE).await?;
                let Some(last) = missing.last() else { break };
                after.clone_from(&last.id);
                for file in &missing {
                    if run.is_cancelled() {
                        return Ok(report);
                    }
                    match self.look(store, (&file.space, &file.name, &file.id)).await {
                        Some(Verdict::Clean) => report.clean += 1,
                        Some(Verdict::Infected) => report.infected += 1,
                        None => report.failed += 1,
                    }
                }
            }
        }
        self.verdicts.forget().await?;
        Ok(report)
    }

    /// Has what an earlier release judged leave the index of what nobody has: after an upgrade it is all of it.
    async fn mark_judged(&self, run: &DutyRun) -> Result<(), FileError> {
        for _ in 0..MARKS {
            if run.is_cancelled() || self.verdicts.mark_judged(MARKED).await? < u64::from(MARKED) {
                break;
            }
        }
        Ok(())
    }
}

fn count(verdict: Verdict) {
    match verdict {
        Verdict::Clean => {
            metrics::counter!("understudy_files_judged_total", "verdict" => "clean").increment(1);
        }
        Verdict::Infected => {
            metrics::counter!("understudy_files_judged_total", "verdict" => "infected")
                .increment(1);
        }
    }
}

/// Makes the duty that the leader does.
pub(super) fn duty(judge: &Judge, store: &Arc<Store>) -> Duty {
    let (judge, store) = (judge.clone(), Arc::clone(store));
    Duty {
        name: DUTY,
        description: "has files examined of which nobody has said yet that they are clean",
        every: EVERY,
        run: Arc::new(move |run| {
            let (judge, store) = (judge.clone(), Arc::clone(&store));
            Box::pin(async move {
                let report = judge.run_once(&store, EVERY, &run).await;
                let report = report.map_err(|error| crate::error::chain(&error))?;
                serde_json::to_value(report).map_err(|error| error.to_string())
            })
        }),
    }
}
