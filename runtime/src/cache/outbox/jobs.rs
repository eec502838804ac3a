//! Telling what rows say: those that say the same once, and all of a region where there are very many of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;
use tracing::debug;

use super::table::Row;
use crate::cache::handle::{check, forget_tag};
use crate::cache::shared::Forgotten;
use crate::cache::{Caches, ForgetError};

/// From so many rows of a region on, all of it is forgotten instead.
const MANY: usize = 500;
static ALL: Forgotten = Forgotten::All;

/// What became of some rows.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The numbers of those that were told.
    pub(super) rows: Vec<i64>,
    /// Of which regions some were told.
    pub(super) regions: BTreeSet<String>,
    /// Of which regions some could not be told.
    pub(super) failed: BTreeSet<String>,
}

/// What is told in one go, for some rows.
struct Job<'a> {
    region: &'a str,
    what: &'a Forgotten,
    keep: Duration,
    rows: Vec<i64>,
}

/// Tells all nodes what rows say, as far as that can be done within a limit.
pub(super) async fn tell(caches: &Caches, rows: &[Row], limit: Duration) -> Told {
    let telling = jobs(rows).into_iter().map(|job| tell_one(caches, job, limit));
    let mut told = Told::default();
    for (region, rows) in join_all(telling).await {
        match rows {
            Some(rows) => {
                told.rows.extend(rows);
                told.regions.insert(region.to_owned());
            }
            None => {
                told.failed.insert(region.to_owned());
            }
        }
    }
    told
}

/// Returns the region, and the rows if they were told.
async fn tell_one<'a>(
    caches: &Caches,
    job: Job<'a>,
    limit: Duration,
) -> (&'a str, Option<Vec<i64>>) {
    let told = timeout(limit, caches.told(&job)).await;
    let rows = match told {
        // Nothing is cached by a key that cannot be one: what was written past all checks is not told for ever.
        Ok(Ok(()) | Err(ForgetError::BadKey(_))) => Some(job.rows),
        Ok(Err(ForgetError::Untold(error))) => {
            debug!(cache.region = job.region, %error, "what a transaction changed waits");
            None
        }
        Err(_late) => None,
    };
    (job.region, rows)
}

/// Puts rows together that say the same; many of one region are one for all of it.
fn jobs(rows: &[Row]) -> Vec<Job<'_>> {
    let mut regions: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        regions.entry(&row.region).or_default().push(row);
    }
    let mut jobs: Vec<Job<'_>> = Vec::new();
    for (region, rows) in regions {
        let is_all = rows.len() > MANY || rows.iter().any(|row| row.what == Forgotten::All);
        let first = jobs.len();
        for row in rows {
            let what = if is_all { &ALL } else { &row.what };
            let same = |job: &&mut Job<'_>| job.what == what;
            match jobs[first..].iter_mut().find(same) {
                Some(job) => {
                    job.keep = job.keep.max(row.keep);
                    job.rows.push(row.id);
                }
                None => jobs.push(Job { region, what, keep: row.keep, rows: vec![row.id] }),
            }
        }
    }
    jobs
}

impl Caches {
    /// Has all nodes forget what some rows say, whether the region was opened here or not.
    async fn told(&self, job: &Job<'_>) -> Result<(), ForgetError> {
        match job.what {
            Forgotten::One(key) => self.forget(job.region, Some(key)).await,
            Forgotten::All => self.forget(job.region, None).await,
            Forgotten::Tagged(tag) => self.forget_tag(job.region, tag, job.keep).await,
        }
    }

    async fn forget_tag(&self, region: &str, tag: &str, keep: Duration) -> Result<(), ForgetError> {
        if let Some(core) = self.find(region) {
            return forget_tag(&core, tag).await;
        }
        let Some(shared) = self.shared(region) else { return Ok(()) };
        check(tag)?;
        let told = shared.forget_tag(tag, keep).await;
        shared.tell();
        told.map_err(ForgetError::Untold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: i64, region: &str, what: Forgotten) -> Row {
        Row { id, region: region.to_owned(), what, keep: Duration::from_millis(id.unsigned_abs()) }
    }

    #[test]
    fn rows_that_say_the_same_are_told_once_and_many_clear_their_region() {
        let one = |key: usize| Forgotten::One(key.to_string());
        let rows =
            [row(1, "a", one(1)), row(2, "b", one(1)), row(3, "a", one(1)), row(4, "a", one(2))];
        let told = |rows: &[Row]| {
            let told = |job: Job<'_>| (job.region.to_owned(), job.what.clone(), job.rows);
            jobs(rows).into_iter().map(told).collect::<Vec<(String, Forgotten, Vec<i64>)>>()
        };
        assert_eq!(
            told(&rows),
            [
                ("a".to_owned(), one(1), vec![1, 3]),
                ("a".to_owned(), one(2), vec![4]),
                ("b".to_owned(), one(1), vec![2]),
            ]
        );
        let cleared = [row(1, "a", one(1)), row(2, "a", Forgotten::All)];
        assert_eq!(told(&cleared), [("a".to_owned(), Forgotten::All, vec![1, 2])]);
        let many: Vec<Row> = (0..=MANY).map(|key| row(7, "a", one(key))).collect();
        assert_eq!(told(&many), [("a".to_owned(), Forgotten::All, vec![7; MANY + 1])]);
        assert_eq!(told(&many[1..]).len(), MANY, "as many as that one by one");
    }
}
