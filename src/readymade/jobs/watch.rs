//! Looks at the jobs file again and again, and brings what it says in force.
//!
//! It asks the file system every two seconds instead of being told: that works on every file system, through symbolic links
//! and for files that are swapped as a whole.

use std::time::Duration;

use tokio::sync::watch::Sender;
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};
use understudy_runtime::error::chain;
use understudy_scheduler::FileJobs;
use understudy_scheduler::store::{DefinitionError, SyncReport};

use super::{JobsFile, Look};

/// How often the file is looked at.
const EVERY: Duration = Duration::from_secs(2);
/// After how many looks a file that has changed is brought a second time: by then the other nodes have seen the change too.
const SOON: u32 = 3;
/// After how many looks it is brought again after that.
const AGAIN: u32 = 15;
/// How often it is brought after a change. Nodes change their files at about the same time: what one leaves alone because
/// another still stands for the file before, somebody must bring afterwards.
const TIMES: u32 = 4;

/// What is wrong with the file or its jobs, if anything.
pub(crate) type Trouble = Option<String>;

/// Watches over the file for the life of the node; its jobs were brought in force before, once.
pub(crate) async fn watch(file: JobsFile, jobs: FileJobs, trouble: Sender<Trouble>) {
    understudy_runtime::telemetry::describe(super::super::METRICS);
    let mut watcher = Watcher {
        file,
        jobs,
        trouble,
        left: TIMES - 1,
        wait: AGAIN,
        is_new: false,
        told: String::new(),
    };
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        watcher.run_once().await;
    }
}

struct Watcher {
    file: JobsFile,
    jobs: FileJobs,
    trouble: Sender<Trouble>,
    /// How often the jobs are still to be brought.
    left: u32,
    /// After how many looks that is due.
    wait: u32,
    /// Whether the file has changed since it was brought.
    is_new: bool,
    /// What was said last about the database.
    told: String,
}

impl Watcher {
    async fn run_once(&mut self) {
        match self.file.look().await {
            Look::Same => {}
            Look::Good => {
                self.file.warn_of_unset_variables();
                (self.left, self.wait, self.is_new) = (TIMES, 0, true);
            }
            Look::Broken(problems) => {
                count("broken");
                error!("the jobs file is broken, what it said before stays in force:\n{problems}");
                let first = problems.to_string().lines().next().unwrap_or_default().to_owned();
                let text = format!("the jobs file is broken, the old one stays in force: {first}");
                self.trouble.send_replace(Some(text));
            }
        }
        if self.left > 0 {
            self.wait = self.wait.saturating_sub(1);
            if self.wait == 0 {
                self.bring().await;
            }
        }
    }

    async fn bring(&mut self) {
        match self.jobs.bring(self.file.specs()).await {
            Ok(report) => self.brought(&report),
            Err(DefinitionError::Database(problem)) => {
                // The file is as good as before: the next look brings it.
                self.wait = 1;
                let problem = chain(&problem);
                if self.told != problem {
                    warn!(error = problem, "the jobs of the file wait for the database");
                    self.told = problem;
                }
            }
            Err(refused) => {
                self.left = 0;
                count("refused");
                let problem = chain(&refused);
                error!(error = problem, "the jobs of the file are refused");
                self.trouble.send_replace(Some(format!("the jobs file is refused: {problem}")));
            }
        }
    }

    fn brought(&mut self, report: &SyncReport) {
        self.told.clear();
        self.wait = if self.left == TIMES { SOON } else { AGAIN };
        self.left = if report.older.is_empty() { self.left - 1 } else { self.left.max(1) };
        if self.file.told.is_none() {
            self.trouble.send_replace(None);
        }
        let is_new = std::mem::take(&mut self.is_new);
        if is_new {
            count("ok");
        }
        if is_new || !report.defined.is_empty() || !report.removed.is_empty() {
            tell(report);
        }
    }
}

/// Says what a jobs file came to.
pub(crate) fn tell(report: &SyncReport) {
    info!(
        defined = report.defined.len(),
        removed = report.removed.len(),
        edited = report.edited.len(),
        older = report.older.len(),
        "the jobs file is in force"
    );
}

fn count(result: &'static str) {
    metrics::counter!("jobs_file_reloads_total", "result" => result).increment(1);
}
