//! When jobs are due, why they did or did not run, and starting them by hand.

use actix_web::guard;
use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use actix_web::web::{self, Bytes, Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use understudy_runtime::http::problem::Problem;

use super::AdminJobs;
use super::answer::{Answer, Refusal, accepted, answer, invalid_job, ok, rfc3339, unknown_job};
use super::asked::{Nothing, Query, When, body, by, header, job_name};
use super::definitions::in_the_past;
use crate::explain::Explanation;
use crate::jobs::CancelError;
use crate::run::{Cause, RunId, RunState};
use crate::schedule::{PreviewedFire, Timetable};
use crate::spec::{Schedule, SpecError};
use crate::store::{Enqueued, Order, RunFilter};
use crate::system::ROLLING_RESTART;

/// Due times of a preview when nothing is said, and at most.
const PREVIEW: i64 = 20;
const MOST_PREVIEW: i64 = 1_000;
/// So many runs are told to end at once.
const CANCELS: usize = 16;
/// So many runs are read at once.
const PAGE: u32 = 1_000;
/// The longest word for a request, bytes.
const LONGEST_WORD: usize = 64;

/// Adds the resources.
pub(super) fn configure(app: &mut ServiceConfig) {
    // Only for POST, so that a job may be called `preview` too.
    let check = web::resource("/v1/jobs/preview").guard(guard::Post()).route(web::post().to(check));
    app.service(check)
        .service(web::resource("/v1/jobs/{name}/run").route(web::post().to(run)))
        .service(web::resource("/v1/jobs/{name}/backfill").route(web::post().to(backfill)))
        .service(web::resource("/v1/jobs/{name}/cancel").route(web::post().to(cancel)))
        .service(web::resource("/v1/jobs/{name}/explain").route(web::get().to(explain)))
        .service(web::resource("/v1/jobs/{name}/preview").route(web::get().to(preview)));
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunNow {
    params: Option<Value>,
    not_before_ms: Option<When>,
}

async fn run(
    admin: Data<AdminJobs>,
    request: HttpRequest,
    name: Path<String>,
    bytes: Bytes,
) -> Answer {
    Query::of(&request, &[])?;
    let (job, asked): (_, RunNow) = (job_name(&name)?, body(&request, &bytes)?);
    if job.as_str() == ROLLING_RESTART {
        return Err(other_resource().into());
    }
    let order = Order {
        key: header(&request, "idempotency-key")?.map(str::to_owned),
        params: asked.params,
        not_before_ms: asked.not_before_ms.map_or(0, |When(at_ms)| at_ms),
        by: by(&request)?,
        ..Order::new(job, Cause::Manual)
    };
    Ok(ordered(admin.jobs.order(order).await?))
}

/// A rolling restart is checked before it is ordered, and says who ordered it.
fn other_resource() -> Problem {
    let title = "This job is started through a resource of its own";
    Problem::new(StatusCode::CONFLICT, "other_resource", title)
        .with_detail("use POST /v1/cluster/rolling-restart")
}

/// Says which run an order came to.
pub(super) fn ordered(Enqueued { run, new, state }: Enqueued) -> HttpResponse {
    let mut answer = answer(StatusCode::ACCEPTED);
    answer.insert_header((LOCATION, format!("/v1/runs/{run}")));
    answer.json(json!({ "run": run, "new": new, "state": state }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Backfill {
    from: When,
    to: When,
    again: Option<String>,
}

async fn backfill(
    admin: Data<AdminJobs>,
    request: HttpRequest,
    name: Path<String>,
    bytes: Bytes,
) -> Answer {
    Query::of(&request, &[])?;
    let (job, asked): (_, Backfill) = (job_name(&name)?, body(&request, &bytes)?);
    if asked.again.as_deref().is_some_and(|word| !is_word(word)) {
        return Err(bad_word().into());
    }
    let by = by(&request)?;
    let range = (asked.from.0, asked.to.0);
    let runs = admin.jobs.backfill(&job, range, asked.again.as_deref()).await?;
    tracing::info!(job.name = %job, by, runs, "due times of the past were asked for");
    Ok(accepted(&json!({ "runs": runs })))
}

fn is_word(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=LONGEST_WORD).contains(&text.len()) && text.bytes().all(allowed)
}

fn bad_word() -> Problem {
    let (status, code) = (StatusCode::UNPROCESSABLE_ENTITY, "invalid_value");
    Problem::new(status, code, "A value in the body cannot be used")
        .with_detail(format!("`again` must be 1 to {LONGEST_WORD} of A-Z a-z 0-9 . _ -"))
}

async fn cancel(
    admin: Data<AdminJobs>,
    request: HttpRequest,
    name: Path<String>,
    bytes: Bytes,
) -> Answer {
    Query::of(&request, &[])?;
    let (job, Nothing {}) = (job_name(&name)?, body(&request, &bytes)?);
    let by = by(&request)?;
    admin.jobs.store().job(&job).await?.ok_or_else(unknown_job)?;
    let mut filter = RunFilter {
        job: Some(job),
        states: RunState::ALL.into_iter().filter(|state| !state.is_final()).collect(),
        limit: PAGE,
        ..RunFilter::default()
    };
    let mut cancelled = 0_u64;
    loop {
        let runs: Vec<RunId> =
            admin.jobs.store().runs(&filter).await?.iter().map(|run| run.id).collect();
        let Some(last) = runs.last().copied() else { break };
        filter.before = Some(last);
        cancelled += admin.cancel_all(runs, &by).await?;
    }
    Ok(accepted(&json!({ "cancelled": cancelled })))
}

impl AdminJobs {
    /// Tells runs to end; gives how many had not ended by themselves.
    async fn cancel_all(&self, runs: Vec<RunId>, by: &str) -> Result<u64, Refusal> {
        let cancels = runs.into_iter().map(|run| self.jobs.cancel(run, by));
        let mut answers = futures_util::stream::iter(cancels).buffer_unordered(CANCELS);
        let mut cancelled = 0;
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(()) => cancelled += 1,
                // It was faster.
                Err(CancelError::Unknown | CancelError::Ended(_)) => {}
                Err(error @ CancelError::Database(_)) => return Err(error.into()),
            }
        }
        Ok(cancelled)
    }
}

#[derive(Serialize)]
struct ExplanationBody {
    at: String,
    previous_at: Option<String>,
    next_at: Option<String>,
    #[serde(flatten)]
    explanation: Explanation,
}

async fn explain(admin: Data<AdminJobs>, request: HttpRequest, name: Path<String>) -> Answer {
    let query = Query::of(&request, &["at"])?;
    let job = job_name(&name)?;
    let at_ms = match query.when("at")? {
        Some(at_ms) => at_ms,
        None => admin.jobs.store().now_ms().await?,
    };
    let explanation = admin.jobs.explain(&job, at_ms).await?.ok_or_else(unknown_job)?;
    Ok(ok(&ExplanationBody {
        at: rfc3339(at_ms),
        previous_at: explanation.previous_ms.map(rfc3339),
        next_at: explanation.next_ms.map(rfc3339),
        explanation,
    }))
}

#[derive(Serialize)]
struct PreviewBody {
    words: String,
    zone: String,
    fires: Vec<FireBody>,
}

#[derive(Serialize)]
struct FireBody {
    fire_at: String,
    #[serde(flatten)]
    fire: PreviewedFire,
}

impl PreviewBody {
    fn of(timetable: &Timetable, from_ms: i64, count: i64) -> Self {
        let fires = timetable.preview(from_ms, usize::try_from(count).unwrap_or_default());
        let body = |fire: PreviewedFire| FireBody { fire_at: rfc3339(fire.at_ms), fire };
        Self {
            words: timetable.words(),
            zone: timetable.zone().as_str().to_owned(),
            fires: fires.into_iter().map(body).collect(),
        }
    }
}

async fn preview(admin: Data<AdminJobs>, request: HttpRequest, name: Path<String>) -> Answer {
    let query = Query::of(&request, &["count", "from"])?;
    let count = query.number("count", 1..=MOST_PREVIEW)?.unwrap_or(PREVIEW);
    let (job, store) = (job_name(&name)?, admin.jobs.store());
    let row = store.job(&job).await?.ok_or_else(unknown_job)?;
    let timetable = Timetable::parse(&row.spec.schedule, store.zone())
        .map_err(|error| invalid_job(&[SpecError::new(error.field(), error.to_string())]))?;
    let from_ms = match query.when("from")? {
        Some(from_ms) => from_ms,
        None => store.now_ms().await?,
    };
    Ok(ok(&PreviewBody::of(&timetable, from_ms, count)))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Check {
    schedule: Schedule,
    count: Option<i64>,
    from: Option<When>,
}

async fn check(admin: Data<AdminJobs>, request: HttpRequest, bytes: Bytes) -> Answer {
    Query::of(&request, &[])?;
    let asked: Check = body(&request, &bytes)?;
    let store = admin.jobs.store();
    let now_ms = store.now_ms().await?;
    let mut errors = Vec::new();
    if asked.count.is_some_and(|count| !(1..=MOST_PREVIEW).contains(&count)) {
        errors.push(SpecError::new("count", format!("must be 1 to {MOST_PREVIEW}")));
    }
    errors.extend(in_the_past(&asked.schedule, now_ms));
    let timetable = Timetable::parse(&asked.schedule, store.zone())
        .map_err(|error| errors.push(SpecError::new(error.field(), error.to_string())));
    match timetable {
        Ok(timetable) if errors.is_empty() => {
            let from_ms = asked.from.map_or(now_ms, |When(at_ms)| at_ms);
            Ok(ok(&PreviewBody::of(&timetable, from_ms, asked.count.unwrap_or(PREVIEW))))
        }
        Ok(_) | Err(()) => Err(invalid_job(&errors).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_name_what_they_do_not_know() {
        let wrong = serde_json::from_str::<RunNow>(r#"{"param":{}}"#).unwrap_err().to_string();
        assert!(wrong.contains("`param`") && wrong.contains("`params`"), "{wrong}");
        let wrong = serde_json::from_str::<Backfill>(r#"{"from":0}"#).unwrap_err().to_string();
        assert!(wrong.contains("`to`"), "{wrong}");
        let wrong = serde_json::from_str::<Check>(r#"{"schedule":{"kind":"cron"}}"#).unwrap_err();
        assert!(wrong.to_string().contains("`expression`"), "{wrong}");
        let asked: Backfill =
            serde_json::from_str(r#"{"from":"2023-11-14T22:13:20Z","to":1700000060000}"#).unwrap();
        assert_eq!(
            (asked.from.0, asked.to.0, asked.again),
            (1_700_000_000_000, 1_700_000_060_000, None)
        );
    }

    #[test]
    fn a_word_for_a_request_is_short_and_plain() {
        for (text, right) in [("2024-again", true), ("", false), ("a b", false), ("a:b", false)] {
            assert_eq!(is_word(text), right, "{text}");
        }
        assert!(!is_word(&"x".repeat(65)));
    }

    #[test]
    fn a_preview_has_words_and_times() {
        let schedule = Schedule::Cron {
            expression: "0 2 * * *".to_owned(),
            time_zone: Some("Europe/Oslo".to_owned()),
            gap: crate::spec::Gap::default(),
            fold: crate::spec::Fold::default(),
        };
        let timetable = Timetable::parse(&schedule, &crate::schedule::ZoneName::utc()).unwrap();
        let body = serde_json::to_value(PreviewBody::of(&timetable, 1_700_000_000_000, 2)).unwrap();
        assert_eq!(body["zone"], "Europe/Oslo");
        assert_eq!(body["fires"].as_array().unwrap().len(), 2);
        assert_eq!(body["fires"][0]["fire_at"], "2023-11-15T01:00:00Z");
        assert!(body["fires"][0]["at_ms"].is_i64() && body["words"].is_string(), "{body}");
    }
}
