//! What an operator should know of the outbox.

use std::time::Duration;

use super::Outbox;
use crate::cache::Caches;
use crate::finding::{Finding, Severity};
use crate::service::Health;

/// For how long one row may wait.
const STUCK: Duration = Duration::from_secs(10);
/// For how long nobody may listen: longer than the pause between two times that somebody tries to.
const DEAF: Duration = Duration::from_secs(6);
/// How many regions are named.
const NAMED: usize = 3;
/// How much of a name is told, characters: any program that writes into a table with a trigger may make one up.
const LONGEST_NAME: usize = 40;

impl Caches {
    /// Says how the cache is on this node: it never makes a node not ready, since it only loads more where it knows less.
    pub(crate) fn health(&self) -> Health {
        let found = self.findings();
        if found.is_empty() {
            return Health::Ready;
        }
        let texts: Vec<&str> = found.iter().map(|finding| &*finding.text).collect();
        Health::Degraded(texts.join("; "))
    }

    /// Says what is wrong with telling what transactions and other programs changed, as seen from this node.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let (outbox, now) = (&self.inner.outbox, self.inner.clock.now());
        let mut found = Vec::new();
        if Outbox::is_since(&outbox.stuck, STUCK, now) {
            found.push(Finding::new(
                Severity::Warning,
                "cache_outbox_stuck",
                format!(
                    "what a transaction changed{} has not been told to the cache for 10 s: its old value may still be given",
                    of_regions(&outbox.regions.load())
                ),
                "look at Redis and the database; it is told as soon as both answer, and DELETE /v1/caches empties the cache at once",
            ));
        }
        if Outbox::is_since(&outbox.deaf, DEAF, now) {
            found.push(Finding::new(
                Severity::Warning,
                "cache_bridge_lost",
                "changes that other programs make in tables with a trigger are looked for once a second, since nobody can listen to them",
                "look whether PostgreSQL has room for connections, and whether a pooler before it lets nobody LISTEN; nodes try again by themselves",
            ));
        }
        found
    }
}

/// Names some regions, if there are any.
fn of_regions(regions: &[String]) -> String {
    if regions.is_empty() {
        return String::new();
    }
    let named: Vec<String> =
        regions.iter().take(NAMED).map(|name| name.chars().take(LONGEST_NAME).collect()).collect();
    let more = match regions.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(" (cache regions: {}{more})", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_regions_are_named_and_the_others_counted() {
        let names =
            |count: usize| -> Vec<String> { (0..count).map(|it| format!("r{it}")).collect() };
        assert_eq!(of_regions(&names(0)), "");
        assert_eq!(of_regions(&names(1)), " (cache regions: r0)");
        assert_eq!(of_regions(&names(3)), " (cache regions: r0, r1, r2)");
        assert_eq!(of_regions(&names(5)), " (cache regions: r0, r1, r2 and 2 more)");
        let long = of_regions(&["x".repeat(1_000)]);
        assert!(long.len() < 100, "{long}");
    }
}
