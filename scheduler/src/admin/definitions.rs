//! Jobs: looking at them, making and changing them, pausing them.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::ETAG;
use actix_web::web::{self, Bytes, Data, Path, ServiceConfig};
use serde::Serialize;
use serde_json::{Value, json};

use super::AdminJobs;
use super::answer::{
    Answer, Refusal, answer, invalid_job, ok, revision_changed, rfc3339, unknown_job,
};
use super::asked::{
    Match, Nothing, PossibleReason, Query, Reason, bad_form, body, by, job, job_name, revision,
};
use super::runs::RunBody;
use crate::schedule::{Timetable, ZoneName};
use crate::spec::{JobName, JobSpec, Schedule, SpecError};
use crate::store::{CursorRow, JobRow, RunFilter};

/// So many runs are shown with a job.
const LAST_RUNS: u32 = 10;

/// Adds the resources.
pub(super) fn configure(app: &mut ServiceConfig) {
    let one = web::resource("/v1/jobs/{name}")
        .route(web::get().to(show))
        .route(web::put().to(put))
        .route(web::delete().to(delete));
    app.service(web::resource("/v1/jobs").route(web::get().to(list)))
        .service(one)
        .service(web::resource("/v1/jobs/{name}/pause").route(web::post().to(pause)))
        .service(web::resource("/v1/jobs/{name}/resume").route(web::post().to(resume)))
        .service(web::resource("/v1/jobs/{name}/enable").route(web::post().to(enable)))
        .service(web::resource("/v1/jobs/{name}/disable").route(web::post().to(disable)))
        .service(web::resource("/v1/jobs/{name}/revert").route(web::post().to(revert)));
}

/// A job as it is shown.
#[derive(Serialize)]
struct JobBody {
    name: JobName,
    /// Its schedule in words.
    words: Option<String>,
    #[serde(flatten)]
    row: JobRow,
    last_fire_at: Option<String>,
    next_fire_at: Option<String>,
}

impl JobBody {
    fn of(row: JobRow, zone: &ZoneName) -> Self {
        Self {
            name: row.spec.name.clone(),
            words: Timetable::parse(&row.spec.schedule, zone)
                .ok()
                .map(|timetable| timetable.words()),
            last_fire_at: row.last_fire_ms.map(rfc3339),
            next_fire_at: row.next_fire_ms.map(rfc3339),
            row,
        }
    }
}

async fn list(admin: Data<AdminJobs>, request: HttpRequest) -> Answer {
    let query = Query::of(&request, &["system", "after", "limit"])?;
    let (limit, system) = (query.limit()?, query.flag("system")?);
    let after = job(&query, "after")?;
    let store = admin.jobs.store();
    let rows = store.jobs(after.as_ref().map_or("", JobName::as_str), limit, system).await?;
    let full = u32::try_from(rows.len()).is_ok_and(|found| found == limit);
    let next = rows.last().filter(|_| full).map(|row| row.spec.name.clone());
    let jobs: Vec<JobBody> = rows.into_iter().map(|row| JobBody::of(row, store.zone())).collect();
    Ok(ok(&json!({ "jobs": jobs, "next": next })))
}

#[derive(Serialize)]
struct OneJobBody {
    #[serde(flatten)]
    job: JobBody,
    cursors: Vec<CursorRow>,
    runs: Vec<RunBody>,
}

async fn show(admin: Data<AdminJobs>, request: HttpRequest, name: Path<String>) -> Answer {
    Query::of(&request, &[])?;
    let (name, store) = (job_name(&name)?, admin.jobs.store());
    let row = store.job(&name).await?.ok_or_else(unknown_job)?;
    let cursors = store.cursors(&name).await?;
    let filter = RunFilter { job: Some(name), limit: LAST_RUNS, ..RunFilter::default() };
    let runs = store.runs(&filter).await?.into_iter().map(RunBody::from).collect();
    let tag = (ETAG, format!("\"{}\"", row.revision));
    let job = JobBody::of(row, store.zone());
    Ok(answer(StatusCode::OK).insert_header(tag).json(OneJobBody { job, cursors, runs }))
}

async fn put(
    admin: Data<AdminJobs>,
    request: HttpRequest,
    name: Path<String>,
    bytes: Bytes,
) -> Answer {
    Query::of(&request, &[])?;
    let (wanted, by) = (revision(&request)?, by(&request)?);
    let spec = spec_of(&name, body(&request, &bytes)?)?;
    let before = admin.jobs.store().job(&spec.name).await?;
    let if_revision = match wanted {
        Match::Anything => None,
        Match::Existing if before.is_none() => return Err(revision_changed(0).into()),
        Match::Existing => before.as_ref().map(|before| before.revision),
        Match::Revision(revision) => Some(revision),
    };
    admin.check(&spec, before.as_ref()).await?;
    let name = spec.name.clone();
    let revision = admin.jobs.define(spec, &by, if_revision).await?;
    let status = if revision == 1 { StatusCode::CREATED } else { StatusCode::OK };
    admin.job_as_it_is(&name, status).await
}

/// Reads a definition; what is the same as the name in the path may be left out.
fn spec_of(name: &str, given: Value) -> Result<JobSpec, Refusal> {
    let Value::Object(mut members) = given else {
        return Err(bad_form("the body must be a JSON object").into());
    };
    let name: JobName = name.parse().map_err(|error: crate::spec::InvalidJobName| {
        invalid_job(&[SpecError::new("name", error.to_string())])
    })?;
    if members.get("name").is_some_and(|given| given != name.as_str()) {
        let errors = [SpecError::new("name", "must be that of the path, or be left out")];
        return Err(invalid_job(&errors).into());
    }
    for member in ["name", "handler"] {
        members.entry(member).or_insert_with(|| name.as_str().into());
    }
    serde_json::from_value(Value::Object(members))
        .map_err(|error| bad_form(error.to_string()).into())
}

impl AdminJobs {
    /// Refuses what makes sense in itself and not at this time, or not from an operator.
    async fn check(&self, spec: &JobSpec, before: Option<&JobRow>) -> Result<(), Refusal> {
        let store = self.jobs.store();
        let mut errors = spec.check(store.zone()).err().unwrap_or_default();
        if spec.system != before.is_some_and(|before| before.spec.system) {
            errors.push(SpecError::new(
                "system",
                "must not be changed: it marks jobs of Understudy itself",
            ));
        }
        let changed = before.is_none_or(|before| before.spec.schedule != spec.schedule);
        if changed && let Some(error) = in_the_past(&spec.schedule, store.now_ms().await?) {
            errors.push(error);
        }
        if errors.is_empty() { Ok(()) } else { Err(invalid_job(&errors).into()) }
    }

    /// Answers with a job, after a change of it.
    async fn job_as_it_is(&self, name: &JobName, status: StatusCode) -> Answer {
        let store = self.jobs.store();
        let row = store.job(name).await?.ok_or_else(unknown_job)?;
        let tag = (ETAG, format!("\"{}\"", row.revision));
        Ok(answer(status).insert_header(tag).json(JobBody::of(row, store.zone())))
    }

    /// Tells all nodes of a change, and answers with the job.
    async fn changed(&self, name: &JobName) -> Answer {
        self.jobs.look_again();
        self.job_as_it_is(name, StatusCode::OK).await
    }
}

/// A single time that has gone by would never be due.
pub(super) fn in_the_past(schedule: &Schedule, now_ms: i64) -> Option<SpecError> {
    let Schedule::Once { at_ms } = schedule else { return None };
    let gone = *at_ms <= now_ms;
    gone.then(|| {
        SpecError::new("schedule.at_ms", format!("must lie in the future: it is {now_ms} now"))
    })
}

async fn delete(admin: Data<AdminJobs>, request: HttpRequest, name: Path<String>) -> Answer {
    Query::of(&request, &[])?;
    admin.jobs.store().remove(&job_name(&name)?, &by(&request)?).await?;
    admin.jobs.look_again();
    Ok(answer(StatusCode::NO_CONTENT).finish())
}

async fn pause(
    admin: Data<AdminJobs>,
    request: HttpRequest,
    name: Path<String>,
    bytes: Bytes,
) -> Answer {
    Query::of(&request, &[])?;
    let (name, Reason { why }) = (job_name(&name)?, body(&request, &bytes)?);
    admin.jobs.pause(&name, &by(&request)?, Some(&why)).await?;
    admin.job_as_it_is(&name, StatusCode::OK).await
}

async fn resume(
    admin: Data<AdminJobs>,
    request: HttpRequest,
    name: Path<String>,
    bytes: Bytes,
) -> Answer {
    Query::of(&request, &[])?;
    let (name, PossibleReason { .. }) = (job_name(&name)?, body(&request, &bytes)?);
    admin.jobs.pause(&name, &by(&request)?, None).await?;
    admin.job_as_it_is(&name, StatusCode::OK).await
}

async fn enable(
    admin: Data<AdminJobs>,
    request: HttpRequest,
    name: Path<String>,
    bytes: Bytes,
) -> Answer {
    Query::of(&request, &[])?;
    let (name, Nothing {}) = (job_name(&name)?, body(&request, &bytes)?);
    admin.jobs.store().enable(&name, &by(&request)?, true).await?;
    admin.changed(&name).await
}

async fn disable(
    admin: Data<AdminJobs>,
    request: HttpRequest,
    name: Path<String>,
    bytes: Bytes,
) -> Answer {
    Query::of(&request, &[])?;
    let (name, PossibleReason { .. }) = (job_name(&name)?, body(&request, &bytes)?);
    admin.jobs.store().enable(&name, &by(&request)?, false).await?;
    admin.changed(&name).await
}

async fn revert(
    admin: Data<AdminJobs>,
    request: HttpRequest,
    name: Path<String>,
    bytes: Bytes,
) -> Answer {
    Query::of(&request, &[])?;
    let (name, Nothing {}) = (job_name(&name)?, body(&request, &bytes)?);
    admin.jobs.store().reset(&name, &by(&request)?).await?;
    admin.changed(&name).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(name: &str, given: Value) -> (u16, &'static str, String) {
        let Refusal(problem) = spec_of(name, given).unwrap_err();
        let detail = problem.detail.as_deref().unwrap_or_default().to_owned();
        (problem.status.as_u16(), problem.code, detail)
    }

    #[test]
    fn name_and_handler_are_those_of_the_path_unless_said() {
        let spec = spec_of("nightly", json!({ "schedule": { "kind": "manual" } })).unwrap();
        assert_eq!((spec.name.as_str(), spec.handler.as_str()), ("nightly", "nightly"));
        let given =
            json!({ "name": "nightly", "handler": "http", "schedule": { "kind": "manual" } });
        assert_eq!(spec_of("nightly", given).unwrap().handler, "http");
    }

    #[test]
    fn a_definition_of_another_form_is_refused_with_the_member() {
        let schedule = json!({ "kind": "manual" });
        let (status, told, detail) = code("a", json!({ "schedule": schedule, "prio": 1 }));
        assert_eq!((status, told), (400, "bad_json_value"));
        assert!(detail.contains("`prio`"), "{detail}");
        let (_, _, detail) = code("a", json!({}));
        assert!(detail.contains("`schedule`"), "{detail}");
        assert_eq!(code("a", json!([1])).1, "bad_json_value");
        let (status, told, detail) = code("a", json!({ "name": "b", "schedule": schedule }));
        assert_eq!((status, told), (422, "invalid_job"));
        assert!(detail.contains("name must be that of the path"), "{detail}");
        assert_eq!(code("a b", json!({ "schedule": schedule })).0, 422);
    }

    #[test]
    fn a_single_time_must_lie_in_the_future() {
        let once = |at_ms| in_the_past(&Schedule::Once { at_ms }, 1_000).map(|error| error.field);
        assert_eq!((once(1_000), once(1_001)), (Some("schedule.at_ms"), None));
        assert_eq!(in_the_past(&Schedule::Manual, 1_000), None);
    }
}
