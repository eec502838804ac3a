//! How the resources answer: JSON that is not cached, or a problem with a stable code.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use tracing::warn;
use understudy_runtime::error::chain;
use understudy_runtime::http::problem::{ApiError as _, Problem};

use crate::error::SessionError;
use crate::handle::EndError;
use crate::store::StoreError;

/// What a resource answers.
pub(super) type Answer = Result<HttpResponse, Refusal>;

/// A request was not carried out.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) Problem);

/// Answers 200.
pub(super) fn ok(body: &impl Serialize) -> HttpResponse {
    with_status(StatusCode::OK, body)
}

/// Answers 202: it goes on.
pub(super) fn accepted(body: &impl Serialize) -> HttpResponse {
    with_status(StatusCode::ACCEPTED, body)
}

fn with_status(status: StatusCode, body: &impl Serialize) -> HttpResponse {
    let no_store = (CACHE_CONTROL, HeaderValue::from_static("no-store"));
    HttpResponse::build(status).insert_header(no_store).json(body)
}

pub(super) fn unknown_session() -> Problem {
    let title = "There is no such session";
    Problem::new(StatusCode::NOT_FOUND, "unknown_session", title)
}

pub(super) fn ambiguous_id() -> Problem {
    let title = "Several sessions have an id that begins so";
    Problem::new(StatusCode::CONFLICT, "ambiguous_id", title)
        .with_detail("give more of its 32 digits")
}

pub(super) fn no_user() -> Problem {
    let title = "Nobody is logged in in this session";
    Problem::new(StatusCode::CONFLICT, "no_user", title)
}

pub(super) fn invalid_value(detail: impl Into<String>) -> Problem {
    let (status, code) = (StatusCode::UNPROCESSABLE_ENTITY, "invalid_value");
    Problem::new(status, code, "A value cannot be used").with_detail(detail.into())
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        // The client is not told what the store said.
        warn!(error = chain(&error), "a request of an operator failed at the session store");
        Self(SessionError::from(error).problem())
    }
}

impl From<EndError> for Refusal {
    fn from(error: EndError) -> Self {
        match error {
            EndError::Store(error) => error.into(),
            EndError::Unconfirmed(nodes) => {
                let names: Vec<String> = nodes.iter().map(ToString::to_string).collect();
                let title = "The sessions are over, but a node did not say that it knows";
                let detail = "the nodes live, own some of the sessions and do not answer: do it again, or restart them";
                Self(
                    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "end_not_confirmed", title)
                        .with_detail(detail)
                        .with_member("nodes", names),
                )
            }
        }
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
