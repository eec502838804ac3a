//! Removes the contents of files that are gone, and gives up files that nobody writes any more: the duty `files-sweep`, done
//! by one node for all.
//!
//! Files are given up by a statement that looks at their state again, and content is removed only of rows that are `gone`,
//! which none ever leaves but by being forgotten. So a sweep by a node that leads no more, or two at once, do no harm.
//!
//! A store that is away costs it one try: what lies there is left to the next run, and what lies elsewhere is removed. A run
//! begins anywhere and goes round once: contents that can never be removed would else use up its tries in each run, and keep
//! those behind them for good.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, timeout};

use super::contents::store_of;
use super::error::FileError;
use super::points::{self, Point};
use super::rows::{Behind, Leftover};
use super::{Store, rewrapping, shared};
use crate::duty::{Duty, DutyRun};

/// Name of the duty.
const DUTY: &str = "files-sweep";
/// How often it is due.
const EVERY: Duration = Duration::from_secs(60);
/// After which time without a sign a file is not being written any more.
pub(super) const SILENCE: Duration = Duration::from_secs(600);
/// For how long content stays after its file lost its name, for those who are just reading it.
pub(super) const GRACE: Duration = Duration::from_secs(600);
/// How many contents are looked for together, and how often at most in one run.
const PAGE: u32 = 200;
pub(super) const PAGES: usize = 50;
/// After how many failures a store is left alone for the rest of a run, although it says that it is there.
const FAILURES: u64 = 100;
/// How long a run tries. Much less than the scheduler lets it: what is left is told.
const PATIENCE: Patience = Patience { one: Duration::from_secs(15), all: Duration::from_secs(200) };

/// How long a run tries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// How long one content may take to be removed, and then its store to say whether it is there. What is removed piece by
    /// piece goes on there the next time.
    pub(super) one: Duration,
    /// After which time nothing more is begun.
    pub(super) all: Duration,
}

/// Where a run begins, between the first content and the last one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start(pub(super) u64);

impl Start {
    pub(super) fn drawn() -> Self {
        Self(rand::random())
    }

    /// One of so many, from 0; 0 of none.
    pub(super) fn of(self, many: usize) -> usize {
        let many = many.max(1) as u64;
        usize::try_from(self.0 % many).unwrap_or(0)
    }

    /// As far between two times.
    fn time(self, (oldest, newest): (i64, i64)) -> i64 {
        let span = u128::from(newest.saturating_sub(oldest).max(0).unsigned_abs());
        let part = (span * u128::from(self.0)) >> u64::BITS;
        oldest.saturating_add(i64::try_from(part).unwrap_or(i64::MAX))
    }

    /// As far between the first id and the last one: they are drawn, 32 hexadecimal digits.
    pub(super) fn id(self) -> String {
        format!("{:016x}", self.0)
    }
}

/// What one run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(super) struct SweepReport {
    /// Files that nobody wrote any more.
    pub(super) given_up: u64,
    /// Files whose content was removed.
    pub(super) removed: u64,
    /// Contents that could not be removed when that was tried.
    pub(super) failed: u64,
    /// Encrypted files that came under the first key.
    pub(super) rewrapped: u64,
    /// Encrypted files that did not open, and stay under the key that they are under.
    pub(super) unopened: u64,
    /// What was due and is still there: contents whose store is away, or for which there was no time, and files whose content
    /// others share for which there was none.
    pub(super) left: u64,
}

/// Makes the duty that the leader does.
pub(super) fn duty(store: &Arc<Store>) -> Duty {
    let store = Arc::clone(store);
    Duty {
        name: DUTY,
        description: "removes the contents of files that were deleted, replaced or never finished",
        every: EVERY,
        run: Arc::new(move |run| {
            let store = Arc::clone(&store);
            Box::pin(async move {
                let report = run_once(&store, (SILENCE, GRACE), &run).await;
                let report = report.map_err(|error| crate::error::chain(&error))?;
                serde_json::to_value(report).map_err(|error| error.to_string())
            })
        }),
    }
}

/// Gives up files that were silent for so long, then removes contents that nobody has needed for so long.
pub(super) async fn run_once(
    store: &Store,
    ages: (Duration, Duration),
    run: &DutyRun,
) -> Result<SweepReport, FileError> {
    run_within(store, ages, (PATIENCE, Start::drawn()), run).await
}

/// The same with other limits, from another beginning.
pub(super) async fn run_within(
    store: &Store,
    (silence, grace): (Duration, Duration),
    (patience, start): (Patience, Start),
    run: &DutyRun,
) -> Result<SweepReport, FileError> {
    let mut sweep = Sweep::begin(store, patience, run);
    sweep.report.given_up = store.rows.give_up_silent(silence).await?;
    sweep.files(grace, start).await?;
    shared::sweep(&mut sweep, grace, start).await?;
    if run.is_cancelled() {
        return Ok(sweep.report);
    }
    store.rows.forget_empty_spaces().await?;
    if sweep.is_cut {
        sweep.report.left = store.rows.count_leftovers(grace).await?;
    }
    let rewrapped = rewrapping::run_once(store, run).await?;
    (sweep.report.rewrapped, sweep.report.unopened) = (rewrapped.files, rewrapped.unopened);
    Ok(sweep.report)
}

/// One run.
#[derive(Debug)]
pub(super) struct Sweep<'a> {
    pub(super) store: &'a Store,
    run: &'a DutyRun,
    patience: Patience,
    begun: Instant,
    /// The stores that are there, and how often each of them failed.
    places: Vec<(&'static str, u64)>,
    /// Whether something is left that is due.
    is_cut: bool,
    report: SweepReport,
}

impl<'a> Sweep<'a> {
    fn begin(store: &'a Store, patience: Patience, run: &'a DutyRun) -> Self {
        let places = store.stores.places().into_iter().map(|place| (place, 0)).collect();
        let (begun, report) = (Instant::now(), SweepReport::default());
        Self { store, run, patience, begun, places, is_cut: false, report }
    }

    /// Says whether nothing more is begun.
    pub(super) fn is_over(&mut self) -> bool {
        let is_over = self.run.is_cancelled() || self.begun.elapsed() >= self.patience.all;
        self.is_cut |= is_over;
        is_over
    }

    /// The stores that are there.
    pub(super) fn places(&self) -> Vec<&'static str> {
        self.places.iter().map(|(place, _)| *place).collect()
    }

    /// Notes that there is more than was looked at.
    pub(super) fn cut(&mut self) {
        self.is_cut = true;
    }

    /// Removes the contents of files that nobody has read for so long.
    async fn files(&mut self, grace: Duration, start: Start) -> Result<(), FileError> {
        let store = self.store;
        let begin = Behind::at(start.time(store.rows.leftover_times().await?));
        let halves = [(begin.clone(), Behind::all()), (Behind::default(), begin)];
        let mut pages = 0..PAGES;
        for (mut behind, until) in halves {
            loop {
                if pages.next().is_none() {
                    self.cut();
                    return Ok(());
                }
                let part = (&behind, &until);
                let leftovers = store.rows.leftovers(grace, &self.places(), part, PAGE).await?;
                let is_last = leftovers.len() < PAGE as usize;
                for leftover in leftovers {
                    if self.is_over() {
                        return Ok(());
                    }
                    if self.remove(&leftover).await {
                        points::pass(Point::Removed).await;
                        store.rows.forget(&leftover.id).await?;
                        self.removed();
                    }
                    // What fails is not found again in this run.
                    behind = leftover.behind();
                }
                if is_last {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Counts a content that was removed.
    pub(super) fn removed(&mut self) {
        self.report.removed += 1;
        metrics::counter!("understudy_files_removed_total").increment(1);
    }

    /// Removes a content, unless its store is known to be away; says whether nothing of it is left there.
    pub(super) async fn remove(&mut self, leftover: &Leftover) -> bool {
        let store = self.store;
        let is_there = self.places.iter().any(|(place, _)| *place == leftover.place);
        let contents = store.stores.find(&leftover.place).filter(|_| is_there);
        let Some(contents) = contents else {
            self.cut();
            return false;
        };
        let why = match timeout(self.patience.one, contents.remove(&leftover.id)).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it took longer than {} ms", self.patience.one.as_millis()),
        };
        tracing::debug!(error = why, "a content that nobody needs is left to another sweep");
        self.report.failed += 1;
        self.cut();
        // That one cannot be removed need not mean that the others cannot.
        let probed = timeout(self.patience.one, contents.probe()).await;
        self.failed(&leftover.place, matches!(probed, Ok(Ok(()))));
        false
    }

    /// Leaves a store alone for the rest of the run if it is away, or fails too often: with what lies there encrypted and
    /// what does not, which have words of their own.
    fn failed(&mut self, place: &str, is_there: bool) {
        let store = store_of(place).0;
        for (_, failures) in self.places.iter_mut().filter(|(of, _)| store_of(of).0 == store) {
            *failures += 1;
        }
        self.places
            .retain(|(of, failures)| store_of(of).0 != store || (is_there && *failures < FAILURES));
        if self.places.iter().all(|(of, _)| store_of(of).0 != store) {
            tracing::warn!(
                place = store,
                "a store of files is away or removes nothing: what nobody needs there is left to another sweep"
            );
        }
    }
}
