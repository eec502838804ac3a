//! How the resources answer: JSON that is not cached, or a problem with a stable code.

use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HeaderValue};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use tracing::warn;
use understudy_runtime::database::DatabaseError;
use understudy_runtime::error::chain;
use understudy_runtime::http::problem::Problem;

use crate::jobs::{BackfillError, CancelError};
use crate::spec::SpecError;
use crate::store::{DefinitionError, EnqueueError};

/// What a resource answers.
pub(super) type Answer = Result<HttpResponse, Refusal>;

/// A request was not carried out.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) Problem);

/// Answers 200.
pub(super) fn ok(body: &impl Serialize) -> HttpResponse {
    answer(StatusCode::OK).json(body)
}

/// Answers 202: it will be done.
pub(super) fn accepted(body: &impl Serialize) -> HttpResponse {
    answer(StatusCode::ACCEPTED).json(body)
}

/// Begins an answer that is not cached.
pub(super) fn answer(status: StatusCode) -> HttpResponseBuilder {
    let mut answer = HttpResponse::build(status);
    answer.insert_header((CACHE_CONTROL, HeaderValue::from_static("no-store")));
    answer
}

/// Writes a time for people: RFC 3339, in UTC. Times that no calendar has stay numbers.
pub(super) fn rfc3339(at_ms: i64) -> String {
    Timestamp::from_millisecond(at_ms).map_or_else(|_| at_ms.to_string(), |at| at.to_string())
}

/// Something that the state of things does not allow.
pub(super) fn conflict(code: &'static str, title: &'static str) -> Problem {
    Problem::new(StatusCode::CONFLICT, code, title)
}

/// A value in a body has the right form and cannot be used; `detail` names it and says what would be right.
pub(super) fn invalid_value(detail: String) -> Problem {
    let (status, code) = (StatusCode::UNPROCESSABLE_ENTITY, "invalid_value");
    Problem::new(status, code, "A value in the body cannot be used").with_detail(detail)
}

pub(super) fn unknown_job() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "unknown_job", "There is no job of this name")
}

pub(super) fn unknown_run() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "unknown_run", "There is no such run")
}

fn runs_everywhere() -> Problem {
    conflict("runs_everywhere", "A job that runs on every node cannot be started by itself")
}

/// A definition, or a part of it, does not make sense.
pub(super) fn invalid_job(errors: &[SpecError]) -> Problem {
    invalid("invalid_job", "The definition of the job is wrong", errors)
}

fn invalid(code: &'static str, title: &'static str, errors: &[SpecError]) -> Problem {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let members: Vec<_> = errors
        .iter()
        .map(|error| json!({ "field": error.field, "problem": error.problem }))
        .collect();
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, title)
        .with_detail(texts.join("; "))
        .with_member("errors", members)
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<DatabaseError> for Refusal {
    fn from(error: DatabaseError) -> Self {
        // The client is not told what the database said.
        warn!(error = chain(&error), "a request of an operator failed at the database");
        if error.is_retryable() {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            let away =
                Problem::new(status, "database_unavailable", "The database is not available");
            return Self(away.with_retry_after(Duration::from_secs(1)));
        }
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self(Problem::new(status, "database_refuses", "The database refuses; the log says why"))
    }
}

impl From<DefinitionError> for Refusal {
    fn from(error: DefinitionError) -> Self {
        let text = error.to_string();
        Self(match error {
            DefinitionError::Invalid(errors) => invalid_job(&errors),
            DefinitionError::Unknown => unknown_job(),
            DefinitionError::Changed(revision) => revision_changed(revision),
            DefinitionError::NotYours(_) => {
                conflict("job_not_yours", "The job would come back").with_detail(text)
            }
            DefinitionError::Database(error) => return error.into(),
        })
    }
}

/// The job is another than the one that was read.
pub(super) fn revision_changed(revision: i64) -> Problem {
    let (code, title) = ("revision_changed", "The job was changed since it was read");
    let problem = Problem::new(StatusCode::PRECONDITION_FAILED, code, title);
    let detail = match revision {
        0 => "it is not there".to_owned(),
        revision => format!("it has revision {revision}"),
    };
    problem.with_detail(detail).with_member("revision", revision)
}

impl From<EnqueueError> for Refusal {
    fn from(error: EnqueueError) -> Self {
        Self(match error {
            EnqueueError::UnknownJob => unknown_job(),
            EnqueueError::RunsEverywhere => runs_everywhere(),
            EnqueueError::Busy(run) => {
                conflict("already_running", "An earlier run of the job has not ended")
                    .with_detail(format!("it is run {run}"))
                    .with_member("run", run.0)
            }
            EnqueueError::Params(error) => {
                let title = "The parameters are not what the job takes";
                invalid("invalid_params", title, std::slice::from_ref(&error))
            }
            EnqueueError::Key => {
                let (status, code) = (StatusCode::BAD_REQUEST, "bad_idempotency_key");
                Problem::new(status, code, "The header Idempotency-Key is not as expected")
                    .with_detail("it must be 1 to 200 printable ASCII characters without spaces")
            }
            EnqueueError::Database(error) => return error.into(),
        })
    }
}

impl From<CancelError> for Refusal {
    fn from(error: CancelError) -> Self {
        Self(match error {
            CancelError::Unknown => unknown_run(),
            CancelError::Ended(state) => {
                conflict("run_ended", "The run has ended").with_member("state", state)
            }
            CancelError::Database(error) => return error.into(),
        })
    }
}

impl From<BackfillError> for Refusal {
    fn from(error: BackfillError) -> Self {
        let text = error.to_string();
        Self(match error {
            BackfillError::Unknown => unknown_job(),
            BackfillError::RunsEverywhere => runs_everywhere(),
            BackfillError::Range | BackfillError::TooMany => {
                let (status, code) = (StatusCode::UNPROCESSABLE_ENTITY, "invalid_range");
                Problem::new(status, code, "The range cannot be used").with_detail(text)
            }
            BackfillError::Database(error) => return error.into(),
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        self.0.status
    }

    fn error_response(&self) -> HttpResponse {
        self.0.response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::RunId;

    async fn body(refusal: Refusal) -> (u16, serde_json::Value) {
        let answer = refusal.error_response();
        let status = answer.status().as_u16();
        let bytes = actix_web::body::to_bytes(answer.into_body()).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    #[actix_web::test]
    async fn all_mistakes_of_a_definition_are_told_with_their_fields() {
        let errors =
            vec![SpecError::new("priority", "must be -100 to 100"), SpecError::new("then", "x")];
        let (status, told) = body(DefinitionError::Invalid(errors).into()).await;
        assert_eq!((status, &told["code"]), (422, &json!("invalid_job")));
        assert_eq!(
            told["errors"][0],
            json!({ "field": "priority", "problem": "must be -100 to 100" })
        );
        assert_eq!(told["errors"][1]["field"], "then");
    }

    #[actix_web::test]
    async fn a_refusal_says_what_to_look_at() {
        let (status, told) = body(EnqueueError::Busy(RunId(7)).into()).await;
        assert_eq!(
            (status, &told["code"], &told["run"]),
            (409, &json!("already_running"), &json!(7))
        );
        let (status, told) = body(DefinitionError::Changed(3).into()).await;
        assert_eq!((status, &told["revision"]), (412, &json!(3)));
        let (status, told) = body(DefinitionError::NotYours("the program").into()).await;
        assert_eq!((status, &told["code"]), (409, &json!("job_not_yours")));
        let (status, told) = body(CancelError::Ended("completed".to_owned()).into()).await;
        assert_eq!((status, &told["state"]), (409, &json!("completed")));
    }

    #[test]
    fn times_are_written_in_utc() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_700_000_000_250), "2023-11-14T22:13:20.25Z");
        assert_eq!(rfc3339(i64::MAX), i64::MAX.to_string());
    }
}
