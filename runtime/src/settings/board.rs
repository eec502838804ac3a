//! What was read of the settings, and what of it counts at a moment.

use std::sync::Arc;

use super::known::KnownSetting;
use crate::clock::BootInstant;

/// One row: a setting of the cluster or of a node, as somebody made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSetting {
    /// Which setting; may be one that only a newer program knows.
    pub name: String,
    /// Of which node; empty for the cluster.
    pub node: String,
    /// What it is.
    pub value: Arc<str>,
    /// Who made it so.
    pub by: String,
    /// Why.
    pub why: String,
    /// When, ms since 1970 by the database's clock.
    pub at_ms: i64,
    /// When it goes back by itself, if it does, by the same clock.
    pub until_ms: Option<i64>,
    /// The how manieth change of a setting in this cluster it was.
    pub revision: i64,
    /// The same as `until_ms`, by this node's own clock.
    pub(super) deadline: Deadline,
}

/// Until when a row counts. What was read a little later differs by a little; two rows are compared without it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(pub(super) Option<BootInstant>);

impl PartialEq for Deadline {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Deadline {}

impl StoredSetting {
    fn counts(&self, now: BootInstant) -> bool {
        self.deadline.0.is_none_or(|deadline| now < deadline)
    }
}

/// All rows, as they were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Board {
    revision: i64,
    rows: Vec<StoredSetting>,
}

impl Board {
    pub(super) fn new(revision: i64, rows: Vec<StoredSetting>) -> Self {
        Self { revision, rows }
    }

    /// Returns how many changes there have been.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    #[cfg(test)]
    pub(super) fn rows_for_test(&self) -> usize {
        self.rows.len()
    }

    /// Returns the rows that count at `now`.
    pub(super) fn in_force(&self, now: BootInstant) -> impl Iterator<Item = &StoredSetting> {
        self.rows.iter().filter(move |row| row.counts(now))
    }

    /// Returns the row that decides a setting on a node. A value that this program does not understand counts as none.
    pub(super) fn decides(
        &self,
        setting: &KnownSetting,
        node: &str,
        now: BootInstant,
    ) -> Option<&StoredSetting> {
        let of = |of: &str| {
            let mut rows = self.in_force(now).filter(|row| row.name == setting.name);
            rows.find(|row| row.node == of && setting.check(&row.value).is_ok())
        };
        match (of(""), of(node)) {
            (Some(cluster), Some(own)) => {
                Some(if (setting.outdoes)(&cluster.value, &own.value) { cluster } else { own })
            }
            (cluster, own) => own.or(cluster),
        }
    }

    /// Returns when the next row ends by itself.
    pub(super) fn next_end(&self, now: BootInstant) -> Option<BootInstant> {
        self.rows.iter().filter_map(|row| row.deadline.0).filter(|deadline| now < *deadline).min()
    }
}
