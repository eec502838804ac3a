//! What operators have set about jobs, as one document: to keep it, to compare it, to bring it to another cluster.
//!
//! It has the definitions that operators made or edited, and of all jobs whether they are switched off or paused. What the
//! program and the jobs file say is not in it: that comes with them.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes, Data, ServiceConfig};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use understudy_runtime::admin::note;
use understudy_runtime::http::problem::Problem;

use super::AdminJobs;
use super::answer::{Answer, Refusal, invalid_job, ok};
use super::asked::{Query, body, by};
use crate::spec::{JobName, JobSpec};
use crate::store::{JobRow, Origin};

/// The form of the document; a newer one is refused.
const FORM: u32 = 1;
/// So many jobs are read at once.
const PAGE: u32 = 1_000;

/// Adds the resource.
pub(super) fn configure(app: &mut ServiceConfig) {
    app.service(
        web::resource("/v1/definitions").route(web::get().to(export)).route(web::put().to(import)),
    );
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    /// The form of this document.
    understudy_definitions: u32,
    jobs: Vec<Entry>,
}

/// What operators have set about one job.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: JobName,
    /// The definition, when it is an operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spec: Option<JobSpec>,
    #[serde(default = "on")]
    enabled: bool,
    /// Why it is paused, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    paused: Option<String>,
}

fn on() -> bool {
    true
}

impl Entry {
    /// What operators have set about a job; `None` when that is nothing.
    fn of(row: &JobRow) -> Option<Self> {
        let theirs = row.origin == Origin::Api || row.edited;
        let paused = row.paused.as_ref().map(|pause| pause.why.clone());
        let entry = Self {
            name: row.spec.name.clone(),
            spec: theirs.then(|| row.spec.clone()),
            enabled: row.enabled,
            paused,
        };
        (theirs || !entry.enabled || entry.paused.is_some()).then_some(entry)
    }
}

async fn export(admin: Data<AdminJobs>, request: HttpRequest) -> Answer {
    Query::of(&request, &[])?;
    let rows = admin.all_jobs().await?;
    let jobs = rows.iter().filter_map(Entry::of).collect();
    Ok(ok(&Document { understudy_definitions: FORM, jobs }))
}

async fn import(admin: Data<AdminJobs>, request: HttpRequest, bytes: Bytes) -> Answer {
    let only_tell = Query::of(&request, &["dry_run"])?.flag("dry_run")?;
    let document: Document = body(&request, &bytes)?;
    if document.understudy_definitions != FORM {
        return Err(other_form().into());
    }
    let by = by(&request)?;
    let rows = admin.all_jobs().await?;
    let here = |entry: &Entry| rows.iter().find(|row| row.spec.name == entry.name);
    let mut unknown = Vec::new();
    let mut changes = Vec::new();
    // All of it is checked before any of it is done.
    for entry in document.jobs {
        let row = here(&entry);
        if let Some(spec) = &entry.spec {
            admin.check_entry(&entry.name, spec, row).await?;
        }
        match (row, &entry.spec) {
            (None, None) => unknown.push(entry.name),
            (row, _) => changes.extend(Step::all(row, entry)),
        }
    }
    let told: Vec<Value> = changes.iter().map(Step::told).collect();
    if !only_tell {
        note(&request, format!("{} changes", changes.len()));
        for change in changes {
            admin.take(change, &by).await?;
        }
        admin.jobs.look_again();
    }
    Ok(ok(&json!({ "dry_run": only_tell, "changes": told, "unknown": unknown })))
}

/// One change of one job.
#[derive(Debug, PartialEq)]
enum Step {
    Define(Box<JobSpec>),
    Enable(JobName, bool),
    Pause(JobName, Option<String>),
}

impl Step {
    /// What has to change for a job to be as an entry says.
    fn all(row: Option<&JobRow>, entry: Entry) -> Vec<Self> {
        let mut steps = Vec::new();
        let (enabled, paused) = row.map_or((true, None), |row| {
            (row.enabled, row.paused.as_ref().map(|pause| pause.why.clone()))
        });
        if let Some(spec) = entry.spec
            && row.is_none_or(|row| row.spec != spec)
        {
            steps.push(Self::Define(Box::new(spec)));
        }
        if enabled != entry.enabled {
            steps.push(Self::Enable(entry.name.clone(), entry.enabled));
        }
        if paused != entry.paused {
            steps.push(Self::Pause(entry.name, entry.paused));
        }
        steps
    }

    fn told(&self) -> Value {
        let (job, what) = match self {
            Self::Define(spec) => (&spec.name, "define"),
            Self::Enable(name, true) => (name, "enable"),
            Self::Enable(name, false) => (name, "disable"),
            Self::Pause(name, Some(_)) => (name, "pause"),
            Self::Pause(name, None) => (name, "resume"),
        };
        json!({ "job": job, "what": what })
    }
}

impl AdminJobs {
    async fn all_jobs(&self) -> Result<Vec<JobRow>, Refusal> {
        let mut all: Vec<JobRow> = Vec::new();
        loop {
            let after = all.last().map(|row| row.spec.name.clone());
            let after = after.as_ref().map_or("", JobName::as_str);
            let page = self.jobs.store().jobs(after, PAGE, false).await?;
            let full = u32::try_from(page.len()).is_ok_and(|found| found == PAGE);
            all.extend(page);
            if !full {
                return Ok(all);
            }
        }
    }

    async fn check_entry(
        &self,
        name: &JobName,
        spec: &JobSpec,
        row: Option<&JobRow>,
    ) -> Result<(), Refusal> {
        if *name != spec.name {
            let problem = format!("must be that of its entry, {}", name.as_str());
            return Err(invalid_job(&[crate::spec::SpecError::new("spec.name", problem)]).into());
        }
        self.check(spec, row).await
    }

    async fn take(&self, step: Step, by: &str) -> Result<(), Refusal> {
        match step {
            Step::Define(spec) => self.jobs.define(*spec, by, None).await?,
            Step::Enable(name, enabled) => self.jobs.store().enable(&name, by, enabled).await?,
            Step::Pause(name, why) => self.jobs.pause(&name, by, why.as_deref()).await?,
        };
        Ok(())
    }
}

fn other_form() -> Problem {
    let (status, code) = (StatusCode::UNPROCESSABLE_ENTITY, "invalid_value");
    Problem::new(status, code, "A value in the body cannot be used").with_detail(format!(
        "`understudy_definitions` must be {FORM}, the form that this program knows"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str) -> JobSpec {
        let spec = json!({ "name": name, "handler": "h", "schedule": { "kind": "manual" } });
        serde_json::from_value(spec).unwrap()
    }

    fn entry(text: Value) -> Entry {
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn a_job_that_is_not_there_is_made_as_the_entry_says() {
        let given = entry(json!({ "name": "a", "spec": spec("a"), "paused": "not yet" }));
        let steps = Step::all(None, given);
        let told: Vec<Value> = steps.iter().map(Step::told).collect();
        assert_eq!(
            told,
            [json!({ "job": "a", "what": "define" }), json!({ "job": "a", "what": "pause" })]
        );
    }

    #[test]
    fn an_entry_with_what_nobody_knows_is_refused() {
        let given = json!({ "name": "a", "pausd": "x" });
        let error = serde_json::from_value::<Entry>(given).unwrap_err().to_string();
        assert!(error.contains("pausd"), "{error}");
    }
}
