//! What the program or the file of a node defines is brought into the database, without undoing what is newer.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use super::super::Store;
use super::super::recordset::{Kind, recordset};
use super::write::What;
use super::{DefinitionError, Origin};
use crate::spec::{JobName, JobSpec};

/// What became of the definitions that a node brought along.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SyncReport {
    /// Made or replaced.
    pub defined: Vec<JobName>,
    /// Left alone, because an operator has edited them.
    pub edited: Vec<JobName>,
    /// Left alone, because a node that lives brought a newer one.
    pub older: Vec<JobName>,
    /// Removed, because no file names them any more.
    pub removed: Vec<JobName>,
}

/// A definition as the database has it.
struct Known {
    fingerprint: String,
    origin: Origin,
    code_fingerprint: Option<String>,
}

impl Store {
    /// Brings the definitions of a program ([`Origin::Code`]), a file or Understudy itself into the database.
    ///
    /// One that was seen before and is not the one in force is older: it takes effect only when no other node that
    /// lives stands for the one in force, so after all have gone back to it. `living` is what other nodes stand for: job
    /// and fingerprint. Jobs of a file that neither this file nor that of another node names are removed.
    ///
    /// # Errors
    /// [`DefinitionError`]; what came before it is done.
    pub async fn sync(
        &self,
        specs: &[JobSpec],
        origin: Origin,
        living: &[(String, String)],
    ) -> Result<SyncReport, DefinitionError> {
        let mut report = SyncReport::default();
        let known = self.known(specs).await?;
        let seen = self.seen(specs).await?;
        for spec in specs {
            let fingerprint = spec.fingerprint();
            let was_seen = seen.contains(&(spec.name.to_string(), fingerprint));
            self.bring(
                spec,
                origin,
                Newness { known: known.get(&spec.name), was_seen, living },
                &mut report,
            )
            .await?;
        }
        self.note_seen(specs).await?;
        if origin == Origin::File {
            self.remove_unnamed(specs, living, &mut report).await?;
        }
        Ok(report)
    }

    async fn bring(
        &self,
        spec: &JobSpec,
        origin: Origin,
        newness: Newness<'_>,
        report: &mut SyncReport,
    ) -> Result<(), DefinitionError> {
        let fingerprint = spec.fingerprint();
        let name = spec.name.clone();
        if let Some(known) = newness.known {
            let by_code = known.code_fingerprint.as_ref().unwrap_or(&known.fingerprint);
            if *by_code == fingerprint {
                if known.code_fingerprint.is_some() {
                    report.edited.push(name);
                }
                return Ok(());
            }
            let stands =
                |(job, print): &(String, String)| *job == name.as_str() && print == by_code;
            if known.origin == origin && newness.was_seen && newness.living.iter().any(stands) {
                report.older.push(name);
                return Ok(());
            }
            if known.code_fingerprint.is_some() || known.origin == Origin::Api {
                // What an operator said stays in force; what the program says is kept for a reset.
                let sql = "UPDATE us_job SET code_spec = $2, code_fingerprint = $3, origin = $4 WHERE name = $1";
                let values = vec![
                    name.as_str().into(),
                    super::super::text_of(spec).into(),
                    fingerprint.into(),
                    origin.as_str().into(),
                ];
                self.execute(sql.to_owned(), values).await?;
                report.edited.push(name);
                return Ok(());
            }
        }
        let what = What::Define { spec: Box::new(spec.clone()), origin, if_revision: None };
        spec.check(self.zone()).map_err(DefinitionError::Invalid)?;
        self.carry_out(name.clone(), origin.as_str(), what).await?;
        report.defined.push(name);
        Ok(())
    }

    async fn known(&self, specs: &[JobSpec]) -> super::Result<BTreeMap<JobName, Known>> {
        let rows = recordset(self.backend(), 1, &[("job", Kind::Text)]);
        let sql = format!(
            "SELECT name, fingerprint, origin, code_fingerprint FROM us_job \
             WHERE name IN (SELECT job FROM {rows})"
        );
        let mut known = BTreeMap::new();
        for row in self.all(sql, vec![names(specs).into()]).await? {
            let (job, origin): (String, String) =
                (row.try_get("", "name")?, row.try_get("", "origin")?);
            known.insert(
                super::name(&job)?,
                Known {
                    fingerprint: row.try_get("", "fingerprint")?,
                    origin: Origin::read(&origin),
                    code_fingerprint: row.try_get("", "code_fingerprint")?,
                },
            );
        }
        Ok(known)
    }

    async fn seen(&self, specs: &[JobSpec]) -> super::Result<HashSet<(String, String)>> {
        let rows = recordset(self.backend(), 1, &[("job", Kind::Text)]);
        let sql = format!(
            "SELECT job, fingerprint FROM us_job_definition WHERE job IN (SELECT job FROM {rows})"
        );
        let rows = self.all(sql, vec![names(specs).into()]).await?;
        let pairs =
            rows.iter().map(|row| Ok((row.try_get("", "job")?, row.try_get("", "fingerprint")?)));
        pairs.collect()
    }

    async fn note_seen(&self, specs: &[JobSpec]) -> super::Result<()> {
        let rows = recordset(self.backend(), 1, &[("job", Kind::Text), ("print", Kind::Text)]);
        let sql = format!(
            "INSERT INTO us_job_definition (job, fingerprint, first_ms) SELECT x.job, x.print, {} \
             FROM {rows} WHERE true ON CONFLICT (job, fingerprint) DO NOTHING",
            self.backend().now_ms()
        );
        let seen: Vec<_> = specs
            .iter()
            .map(|spec| serde_json::json!({ "job": spec.name, "print": spec.fingerprint() }))
            .collect();
        self.execute(sql, vec![super::super::text_of(&seen).into()]).await.map(|_| ())
    }

    async fn remove_unnamed(
        &self,
        specs: &[JobSpec],
        living: &[(String, String)],
        report: &mut SyncReport,
    ) -> Result<(), DefinitionError> {
        let sql = "SELECT name FROM us_job WHERE origin = 'file' ORDER BY name".to_owned();
        for row in self.all(sql, Vec::new()).await? {
            let job: String = row
                .try_get("", "name")
                .map_err(understudy_runtime::database::DatabaseError::from)?;
            let named = specs.iter().any(|spec| spec.name.as_str() == job)
                || living.iter().any(|(other, _)| *other == job);
            if named {
                continue;
            }
            let job =
                super::name(&job).map_err(understudy_runtime::database::DatabaseError::from)?;
            self.carry_out(job.clone(), "file", What::Remove { force: true }).await?;
            report.removed.push(job);
        }
        Ok(())
    }
}

/// What decides whether a definition is newer than the one in force.
struct Newness<'a> {
    known: Option<&'a Known>,
    was_seen: bool,
    living: &'a [(String, String)],
}

fn names(specs: &[JobSpec]) -> String {
    let names: Vec<_> = specs.iter().map(|spec| serde_json::json!({ "job": spec.name })).collect();
    serde_json::Value::Array(names).to_string()
}
