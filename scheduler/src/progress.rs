//! How far a run is: stages with items, as operators see them while it runs.
//!
//! Kept in memory and written down about once a second: telling it costs a job next to nothing. It says nothing about
//! whether a run lives; that is what its node's signs of life are for.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::clock::DatabaseClock;

/// More stages than this are not noted.
const MOST_STAGES: usize = 200;
/// Longest name of a stage or item, in characters.
const LONGEST_NAME: usize = 200;

/// The stages of a run so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// In the order in which they began.
    pub stages: Vec<StageState>,
}

/// One stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageState {
    /// What it does.
    pub name: String,
    /// How many items it has, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// How many are done.
    pub done: u64,
    /// How many of those failed.
    pub failed: u64,
    /// The item that is worked on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item: Option<String>,
    /// When it began, ms since 1970.
    pub started_ms: i64,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<i64>,
}

/// Where a run tells how far it is; a cheap clone.
#[derive(Debug, Clone)]
pub(crate) struct Teller {
    state: Arc<watch::Sender<Progress>>,
    clock: DatabaseClock,
}

impl Teller {
    pub(crate) fn new(clock: DatabaseClock) -> Self {
        Self { state: Arc::new(watch::Sender::new(Progress::default())), clock }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Progress> {
        self.state.subscribe()
    }

    pub(crate) fn current(&self) -> Progress {
        self.state.borrow().clone()
    }

    /// Begins a stage; the one before ends.
    pub(crate) fn stage(&self, name: &str, total: Option<u64>) -> Stage {
        let now_ms = self.clock.now_ms();
        let mut place = None;
        self.state.send_modify(|progress| {
            if let Some(last) = progress.stages.last_mut() {
                last.end(now_ms);
            }
            if progress.stages.len() < MOST_STAGES {
                place = Some(progress.stages.len());
                progress.stages.push(StageState {
                    name: shortened(name),
                    total,
                    done: 0,
                    failed: 0,
                    item: None,
                    started_ms: now_ms,
                    ended_ms: None,
                });
            }
        });
        Stage { teller: self.clone(), place }
    }
}

impl StageState {
    fn end(&mut self, now_ms: i64) {
        self.ended_ms.get_or_insert(now_ms);
        self.item = None;
    }
}

/// A stage of a run; it ends when this is dropped, or the next one begins.
#[derive(Debug)]
pub struct Stage {
    teller: Teller,
    place: Option<usize>,
}

impl Stage {
    /// Says which item is worked on.
    pub fn item(&self, name: &str) {
        self.change(|stage| stage.item = Some(shortened(name)));
    }

    /// Counts items that are done.
    pub fn advance(&self, items: u64) {
        self.change(|stage| stage.done += items);
    }

    /// Counts an item that is done and failed, in a stage that goes on all the same.
    pub fn fail_item(&self) {
        self.change(|stage| {
            stage.done += 1;
            stage.failed += 1;
        });
    }

    fn change(&self, change: impl FnOnce(&mut StageState)) {
        let Some(place) = self.place else { return };
        self.teller.state.send_modify(|progress| {
            if let Some(stage) = progress.stages.get_mut(place) {
                change(stage);
            }
        });
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let now_ms = self.teller.clock.now_ms();
        self.change(|stage| stage.end(now_ms));
    }
}

/// Items of a stage, each counted as done when the next is asked for.
#[derive(Debug)]
pub struct Items<I> {
    items: I,
    stage: Stage,
    begun: bool,
}

impl<I: Iterator> Items<I> {
    pub(crate) fn new(items: I, teller: &Teller, name: &str) -> Self {
        let total = items.size_hint().1.and_then(|total| u64::try_from(total).ok());
        Self { items, stage: teller.stage(name, total), begun: false }
    }
}

impl<I: Iterator> Iterator for Items<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        if std::mem::replace(&mut self.begun, true) {
            self.stage.advance(1);
        }
        let next = self.items.next();
        self.begun = next.is_some();
        next
    }
}

fn shortened(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect()
}

#[cfg(test)]
mod tests {
    use understudy_runtime::clock::ManualClock;

    use super::*;

    fn teller() -> Teller {
        Teller::new(DatabaseClock::new(Arc::new(ManualClock::new())))
    }

    #[test]
    fn items_count_as_done_when_the_next_is_asked_for() {
        let teller = teller();
        let mut items = Items::new(vec![1, 2, 3].into_iter(), &teller, "days");
        assert_eq!((items.next(), items.next()), (Some(1), Some(2)));
        let stage = teller.current().stages[0].clone();
        assert_eq!((stage.total, stage.done, stage.ended_ms), (Some(3), 1, None));
        assert_eq!(items.by_ref().count(), 1);
        drop(items);
        let stage = teller.current().stages[0].clone();
        assert!(stage.done == 3 && stage.ended_ms.is_some());
    }

    #[test]
    fn a_new_stage_ends_the_one_before_and_there_is_a_limit() {
        let teller = teller();
        for number in 0..MOST_STAGES + 5 {
            let stage = teller.stage(&format!("stage {number}\n"), None);
            stage.item("x");
            stage.fail_item();
        }
        let stages = teller.current().stages;
        assert_eq!(stages.len(), MOST_STAGES);
        assert!(stages.iter().all(|stage| stage.ended_ms.is_some() && stage.failed == 1));
        assert_eq!(stages[7].name, "stage 7");
    }
}
