//! The one form in which the node tells a client that something went wrong: `application/problem+json` (RFC 9457).
//!
//! Every problem has a stable `code` that programs may match; title and detail are for people and may change.
//! A problem never carries a Debug print, a cause from another system, or anything a client did not send itself.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use serde_json::{Map, Value};

/// The media type of every problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// An answer that says what is wrong, in the form of RFC 9457.
///
/// It is a [`ResponseError`], so a handler may return it with `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status of the answer.
    pub status: StatusCode,
    /// The stable name of this kind of problem: `a-z 0-9 _`.
    pub code: &'static str,
    /// What kind of problem it is, the same for every occurrence.
    pub title: Cow<'static, str>,
    /// What is wrong this time, and what would be right.
    pub detail: Option<Cow<'static, str>>,
    /// When the same request may succeed; sent as `Retry-After` in whole seconds, rounded up.
    pub retry_after: Option<Duration>,
    /// Further members of the JSON object, such as a position in the body.
    members: Map<String, Value>,
}

/// Maps the error of one operation onto what a client is told.
///
/// [`answer_with_problem!`](crate::answer_with_problem) makes an error that implements it a [`ResponseError`].
pub trait ApiError: std::error::Error {
    /// Returns what a client is told; causes stay in the log.
    fn problem(&self) -> Problem;
}

/// Makes an [`ApiError`] what a handler may return with `?`: its client is told the problem.
///
/// ```
/// # use actix_web::http::StatusCode;
/// # use understudy_runtime::http::problem::{ApiError, Problem};
/// #[derive(Debug, thiserror::Error)]
/// #[error("the shop is closed")]
/// struct Closed;
///
/// impl ApiError for Closed {
///     fn problem(&self) -> Problem {
///         Problem::new(StatusCode::CONFLICT, "closed", "The shop is closed")
///     }
/// }
///
/// understudy_runtime::answer_with_problem!(Closed);
/// # assert_eq!(actix_web::ResponseError::error_response(&Closed).status(), 409);
/// ```
#[macro_export]
macro_rules! answer_with_problem {
    ($error:ty) => {
        impl ::actix_web::ResponseError for $error {
            fn status_code(&self) -> ::actix_web::http::StatusCode {
                $crate::http::problem::ApiError::problem(self).status
            }

            fn error_response(&self) -> ::actix_web::HttpResponse {
                $crate::http::problem::ApiError::problem(self).response()
            }
        }
    };
}

impl Problem {
    /// Describes a kind of problem.
    #[must_use]
    pub fn new(
        status: StatusCode,
        code: &'static str,
        title: impl Into<Cow<'static, str>>,
    ) -> Self {
        let title = title.into();
        Self { status, code, title, detail: None, retry_after: None, members: Map::new() }
    }

    /// Describes a status for which nothing more special is known; `code` is derived from the status.
    #[must_use]
    pub fn from_status(status: StatusCode) -> Self {
        Self::new(status, code_of(status), status.canonical_reason().unwrap_or("Error"))
    }

    /// Says what is wrong this time.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Says when the same request may succeed.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Adds a member to the JSON object; the members of RFC 9457 cannot be replaced.
    #[must_use]
    pub fn with_member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Answers with this problem.
    #[must_use]
    pub fn response(&self) -> HttpResponse {
        self.response_for(None)
    }

    /// Answers with this problem; `instance` names the request in the node's log.
    #[must_use]
    pub(crate) fn response_for(&self, instance: Option<&str>) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON)));
        response.insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")));
        if let Some(after) = self.retry_after {
            response.insert_header((header::RETRY_AFTER, whole_seconds(after)));
        }
        let mut response = response.body(self.body(instance));
        // The outermost middleware knows the request's id and writes the body again with it.
        response.extensions_mut().insert(self.clone());
        response
    }

    /// Writes the JSON object.
    pub(crate) fn body(&self, instance: Option<&str>) -> String {
        let body = ProblemBody {
            r#type: format!("urn:understudy:problem:{}", self.code),
            title: &self.title,
            status: self.status.as_u16(),
            code: self.code,
            detail: self.detail.as_deref(),
            instance: instance.map(|id| format!("urn:understudy:request:{id}")),
            members: &self.members,
        };
        serde_json::to_string(&body).expect("strings and JSON values always serialise")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.detail {
            Some(detail) => write!(f, "{} ({}): {detail}", self.code, self.status.as_u16()),
            None => write!(f, "{} ({})", self.code, self.status.as_u16()),
        }
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        self.response()
    }
}

impl ApiError for Problem {
    fn problem(&self) -> Problem {
        self.clone()
    }
}

#[derive(Serialize)]
struct ProblemBody<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    #[serde(flatten)]
    members: &'a Map<String, Value>,
}

/// Rounds up: a client that comes back at the second told must not be early.
fn whole_seconds(duration: Duration) -> HeaderValue {
    HeaderValue::from(duration.as_secs() + u64::from(duration.subsec_nanos() > 0))
}

fn code_of(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "bad_request",
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not_found",
        405 => "method_not_allowed",
        406 => "not_acceptable",
        408 => "request_timeout",
        409 => "conflict",
        410 => "gone",
        411 => "length_required",
        412 => "precondition_failed",
        413 => "too_large",
        414 => "uri_too_long",
        415 => "unsupported_media_type",
        416 => "range_not_satisfiable",
        421 => "misdirected_request",
        422 => "unprocessable",
        429 => "too_many_requests",
        431 => "headers_too_large",
        501 => "not_implemented",
        503 => "unavailable",
        504 => "timeout",
        _ if status.is_client_error() => "client_error",
        _ => "internal",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(problem: &Problem, instance: Option<&str>) -> Value {
        serde_json::from_str(&problem.body(instance)).unwrap()
    }

    #[test]
    fn a_problem_has_the_members_of_rfc_9457_and_its_code() {
        let problem = Problem::new(StatusCode::CONFLICT, "stale", "The value changed")
            .with_detail("version 3 was expected")
            .with_member("version", 4);
        assert_eq!(
            parsed(&problem, Some("abc")),
            serde_json::json!({
                "type": "urn:understudy:problem:stale", "title": "The value changed", "status": 409,
                "code": "stale", "detail": "version 3 was expected",
                "instance": "urn:understudy:request:abc", "version": 4,
            })
        );
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let problem = parsed(&Problem::from_status(StatusCode::NOT_FOUND), None);
        let members: Vec<&String> = problem.as_object().unwrap().keys().collect();
        assert_eq!(members.len(), 4, "{members:?}");
    }

    #[test]
    fn retry_after_is_rounded_up_to_seconds() {
        let busy = Problem::from_status(StatusCode::SERVICE_UNAVAILABLE);
        for (millis, seconds) in [(1, "1"), (1000, "1"), (1001, "2"), (0, "0")] {
            let response =
                busy.clone().with_retry_after(Duration::from_millis(millis)).error_response();
            assert_eq!(response.headers().get(header::RETRY_AFTER).unwrap(), seconds);
        }
    }

    #[test]
    fn a_problem_is_never_cached_and_says_what_it_is() {
        let response = Problem::from_status(StatusCode::BAD_REQUEST).error_response();
        assert_eq!(response.headers().get(header::CONTENT_TYPE).unwrap(), PROBLEM_JSON);
        assert_eq!(response.headers().get(header::CACHE_CONTROL).unwrap(), "no-store");
    }

    #[test]
    fn text_of_a_client_cannot_break_out_of_the_json() {
        let problem = Problem::from_status(StatusCode::BAD_REQUEST)
            .with_detail("\"}\r\n\u{1b}[31m{\"level\":\"error\"}".to_owned());
        assert!(!problem.body(None).contains(['\r', '\n', '\u{1b}']));
        assert!(parsed(&problem, None)["detail"].as_str().unwrap().contains("level"));
    }
}
