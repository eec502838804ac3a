//! What is asked for, beyond what every resource reads: jobs, runs, revisions, and who asks.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use understudy_runtime::admin::{Role, require};
use understudy_runtime::http::problem::Problem;

pub(super) use understudy_runtime::admin::asked::{
    Nothing, PossibleReason, Query, Reason, When, bad_form, body, header,
};

use super::answer::{Refusal, unknown_job, unknown_run};
use crate::run::RunId;
use crate::spec::JobName;

/// The name of a job in a query.
pub(super) fn job(query: &Query, name: &str) -> Result<Option<JobName>, Problem> {
    query.parsed(name, "the name of a job", |text| text.parse().ok())
}

/// The number of a run in a query.
pub(super) fn run(query: &Query, name: &str) -> Result<Option<RunId>, Problem> {
    query.parsed(name, "the number of a run", |text| text.parse().ok())
}

/// The name of a job in a path.
pub(super) fn job_name(text: &str) -> Result<JobName, Refusal> {
    text.parse().map_err(|error: crate::spec::InvalidJobName| {
        Refusal(unknown_job().with_detail(error.to_string()))
    })
}

/// The number of a run in a path.
pub(super) fn run_id(text: &str) -> Result<RunId, Refusal> {
    let right = "the number of a run is a whole number";
    text.parse().map_err(|_| Refusal(unknown_run().with_detail(right)))
}

/// Who asks, for the record: the name of their token.
pub(super) fn by(request: &HttpRequest) -> Result<String, Problem> {
    Ok(require(request, Role::Operator)?.name.to_string())
}

/// Which revision of a job a request is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// Any, or none at all.
    Anything,
    /// Any that is there.
    Existing,
    /// This one; 0 is one that is not there.
    Revision(i64),
}

/// Reads `If-Match` and `If-None-Match`.
pub(super) fn revision(request: &HttpRequest) -> Result<Match, Problem> {
    let wrong = |name: &str, right: &str| {
        let (status, code) = (StatusCode::BAD_REQUEST, "bad_header");
        Problem::new(status, code, "A header of the request is not as expected")
            .with_detail(format!("`{name}` must be {right}"))
    };
    match (header(request, "if-match")?, header(request, "if-none-match")?) {
        (None, None) => Ok(Match::Anything),
        (None, Some("*")) => Ok(Match::Revision(0)),
        (None, Some(_)) => Err(wrong("If-None-Match", "*")),
        (Some(_), Some(_)) => Err(wrong("If-None-Match", "left out where there is If-Match")),
        (Some("*"), None) => Ok(Match::Existing),
        (Some(text), None) => {
            let number =
                text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
            let number = number.parse().ok().filter(|number| *number > 0);
            number.map(Match::Revision).ok_or_else(|| wrong("If-Match", "a revision, or *"))
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::HttpMessage as _;
    use actix_web::test::TestRequest;
    use understudy_runtime::admin::Principal;

    use super::*;

    #[test]
    fn a_wrong_name_is_refused_with_what_would_be_right() {
        let query = Query::parse("job=a%20b&before=x", &["job", "before"]).unwrap();
        let wrong = [job(&query, "job").unwrap_err(), run(&query, "before").unwrap_err()];
        let details = wrong.map(|problem| problem.detail.unwrap().into_owned());
        assert_eq!(details[0], "`job` must be the name of a job");
        assert_eq!(details[1], "`before` must be the number of a run");
    }

    #[test]
    fn a_revision_may_be_quoted() {
        let read = |name: &'static str, value: &'static str| {
            let request = TestRequest::default().insert_header((name, value)).to_http_request();
            revision(&request).map_err(|problem| problem.code)
        };
        assert_eq!(read("if-match", "7"), Ok(Match::Revision(7)));
        assert_eq!(read("if-match", "\"7\""), Ok(Match::Revision(7)));
        assert_eq!(read("if-match", "*"), Ok(Match::Existing));
        assert_eq!(read("if-none-match", "*"), Ok(Match::Revision(0)));
        assert_eq!(read("accept", "*"), Ok(Match::Anything));
        for (name, value) in [
            ("if-match", "0"),
            ("if-match", "W/\"7\""),
            ("if-match", "\"7"),
            ("if-none-match", "7"),
        ] {
            assert_eq!(read(name, value), Err("bad_header"), "{name}: {value}");
        }
    }

    #[test]
    fn a_change_needs_somebody_who_may() {
        let request = TestRequest::default().to_http_request();
        assert_eq!(by(&request).unwrap_err().status.as_u16(), 403);
        request.extensions_mut().insert(Principal::new(Role::Admin, "mary"));
        assert_eq!(by(&request).unwrap(), "mary");
    }
}
