//! The migrations of this program against those of its database, for operators; and the word with which one of them has a
//! node that waits apply what is missing.
//!
//! Applying is always done by the start of the node, under its lock: here it is only said that it may.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use serde::Serialize;

use super::migrate::{PROGRAM, own_names};
use super::{Database, DatabaseError};
use crate::config::MigrateMode;

/// The migrations of a node; a cheap clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Migrations(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The database and the names of the migrations of the services, once it is connected.
    known: OnceLock<(Database, Vec<String>)>,
    /// Whether the node waits for somebody to apply what is missing.
    waits: AtomicBool,
    /// Whether it was told to do it itself.
    may: AtomicBool,
}

/// How a migration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MigrationState {
    /// It is in the database.
    Applied,
    /// This program needs it, and it is not.
    Pending,
    /// It is in the database, and this program does not know it: a newer one has applied it.
    Unknown,
}

/// One migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct MigrationRow {
    pub(crate) name: String,
    pub(crate) state: MigrationState,
    /// When it was applied, ms since 1970 by the database's clock, to the second.
    pub(crate) applied_ms: Option<i64>,
    /// The version of the program that applied it.
    pub(crate) program: Option<String>,
}

impl Migrations {
    /// Notes which database it is about; `services` are the names of the migrations of the services.
    pub(crate) fn are_of(&self, database: &Database, services: Vec<String>) {
        self.0.known.get_or_init(|| (database.clone(), services));
    }

    /// Notes whether the node waits for what is missing.
    pub(crate) fn wait(&self, waits: bool) {
        self.0.waits.store(waits, Ordering::Release);
    }

    /// Whether the node waits for what is missing.
    pub(crate) fn waits(&self) -> bool {
        self.0.waits.load(Ordering::Acquire)
    }

    /// Lets a node that waits apply what is missing.
    pub(crate) fn let_apply(&self) {
        self.0.may.store(true, Ordering::Release);
    }

    /// What the start of the node is to do with what is missing: as its options say, unless somebody has said more.
    pub(crate) fn mode(&self, configured: MigrateMode) -> MigrateMode {
        let may = self.0.may.load(Ordering::Acquire);
        if configured == MigrateMode::Wait && may { MigrateMode::Auto } else { configured }
    }

    /// The version of this program.
    pub(crate) const fn program() -> &'static str {
        PROGRAM
    }

    /// Lists all migrations: those that this program knows in their order, then those that it does not. Nothing before
    /// the database is connected.
    pub(crate) async fn list(&self) -> Result<Option<Vec<MigrationRow>>, DatabaseError> {
        let Some((database, services)) = self.0.known.get() else { return Ok(None) };
        let applied = database.applied().await?;
        let known: Vec<String> = own_names().chain(services.iter().cloned()).collect();
        let row = |name: &String| {
            let there = applied.iter().find(|one| one.name == *name);
            let state = there.map_or(MigrationState::Pending, |_| MigrationState::Applied);
            let applied_ms = there.map(|one| one.applied_s.saturating_mul(1_000));
            let program = there.map(|one| one.program.clone());
            MigrationRow { name: name.clone(), state, applied_ms, program }
        };
        let mut rows: Vec<MigrationRow> = known.iter().map(row).collect();
        let unknown = applied.iter().filter(|one| !known.contains(&one.name));
        rows.extend(unknown.map(|one| MigrationRow {
            name: one.name.clone(),
            state: MigrationState::Unknown,
            applied_ms: Some(one.applied_s.saturating_mul(1_000)),
            program: Some(one.program.clone()),
        }));
        Ok(Some(rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h3_only_a_node_that_would_wait_can_be_told_to_apply() {
        let migrations = Migrations::default();
        for mode in [MigrateMode::Auto, MigrateMode::Wait, MigrateMode::Off] {
            assert_eq!(migrations.mode(mode), mode);
        }
        migrations.let_apply();
        assert_eq!(migrations.mode(MigrateMode::Wait), MigrateMode::Auto);
        for mode in [MigrateMode::Auto, MigrateMode::Off] {
            assert_eq!(migrations.mode(mode), mode);
        }
    }
}
