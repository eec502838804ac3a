//! Makes the extractors of actix-web answer with problems, and with the node's own limits.
//!
//! Their defaults answer with plain text, and with limits of their own that no option reaches. The text of a
//! parser is told to the client: it names a line and a column and repeats nothing but what the client sent.

use actix_web::Error;
use actix_web::error::{
    JsonPayloadError, PathError, PayloadError, QueryPayloadError, UrlencodedError,
};
use actix_web::http::StatusCode;
use actix_web::web::{
    FormConfig, JsonConfig, PathConfig, PayloadConfig, QueryConfig, ServiceConfig,
};

use super::problem::Problem;

/// Installs the configuration of all extractors.
pub(crate) fn configure(app: &mut ServiceConfig, body_limit: usize) {
    app.app_data(PayloadConfig::new(body_limit))
        .app_data(
            JsonConfig::default()
                .limit(body_limit)
                .error_handler(|error, _| Error::from(json_problem(&error))),
        )
        .app_data(
            FormConfig::default()
                .limit(body_limit)
                .error_handler(|error, _| Error::from(form_problem(&error))),
        )
        .app_data(PathConfig::default().error_handler(|error, _| Error::from(path_problem(&error))))
        .app_data(
            QueryConfig::default().error_handler(|error, _| Error::from(query_problem(&error))),
        );
}

/// Says what is wrong with a JSON text, and where.
///
/// For handlers that parse a body themselves; the answer is 400 in every case, as the form is at fault.
#[must_use]
pub fn json_text_problem(error: &serde_json::Error) -> Problem {
    let problem = match error.classify() {
        serde_json::error::Category::Data => {
            bad_request("bad_json_value", "The JSON value does not have the expected form")
        }
        serde_json::error::Category::Syntax
        | serde_json::error::Category::Eof
        | serde_json::error::Category::Io => {
            bad_request("bad_json", "The body of the request is not JSON")
        }
    };
    problem
        .with_detail(error.to_string())
        .with_member("line", error.line())
        .with_member("column", error.column())
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library may add reasons, and none deserves more than this"
)]
fn json_problem(error: &JsonPayloadError) -> Problem {
    match error {
        JsonPayloadError::OverflowKnownLength { limit, .. }
        | JsonPayloadError::Overflow { limit } => too_large(*limit),
        JsonPayloadError::ContentType => unsupported("the body must be sent as application/json"),
        JsonPayloadError::Deserialize(error) => json_text_problem(error),
        JsonPayloadError::Payload(error) => payload_problem(error),
        _ => bad_request("bad_json", "The body of the request is not JSON"),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library may add reasons, and none deserves more than this"
)]
fn form_problem(error: &UrlencodedError) -> Problem {
    match error {
        UrlencodedError::Overflow { limit, .. } => too_large(*limit),
        UrlencodedError::ContentType => {
            unsupported("the body must be sent as application/x-www-form-urlencoded")
        }
        UrlencodedError::Payload(error) => payload_problem(error),
        UrlencodedError::Parse(error) => bad_form().with_detail(error.to_string()),
        _ => bad_form(),
    }
}

fn path_problem(error: &PathError) -> Problem {
    let problem = Problem::new(StatusCode::NOT_FOUND, "not_found", "There is nothing at this path");
    match error {
        PathError::Deserialize(error) => problem.with_detail(error.to_string()),
        _ => problem,
    }
}

fn query_problem(error: &QueryPayloadError) -> Problem {
    let problem = bad_request("bad_query", "The query of the request is not as expected");
    match error {
        QueryPayloadError::Deserialize(error) => problem.with_detail(error.to_string()),
        _ => problem,
    }
}

/// Says what is wrong with a body that could not be read.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library may add reasons, and none deserves more than this"
)]
pub(crate) fn payload_problem(error: &PayloadError) -> Problem {
    match error {
        PayloadError::Overflow => Problem::from_status(StatusCode::PAYLOAD_TOO_LARGE),
        PayloadError::UnknownLength => Problem::from_status(StatusCode::LENGTH_REQUIRED),
        // A connection that ended in the middle: nobody will read this answer.
        _ => bad_request("incomplete_body", "The body of the request did not arrive whole"),
    }
}

fn too_large(limit: usize) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "The body of the request is too large")
        .with_detail(format!("at most {limit} bytes are accepted"))
        .with_member("limit_bytes", limit)
}

fn unsupported(detail: &'static str) -> Problem {
    Problem::from_status(StatusCode::UNSUPPORTED_MEDIA_TYPE).with_detail(detail)
}

fn bad_form() -> Problem {
    bad_request("bad_form", "The body of the request is not a form as expected")
}

fn bad_request(code: &'static str, title: &'static str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, code, title)
}

#[cfg(test)]
mod tests {
    use actix_web::test::{TestRequest, call_service, init_service, read_body_json};
    use actix_web::{App, HttpResponse, web};
    use serde::Deserialize;
    use serde_json::Value;

    use super::*;

    #[derive(Deserialize)]
    struct Item {
        #[expect(dead_code, reason = "only its form matters")]
        count: i64,
    }

    /// Sends a body to a handler that wants any JSON, and to one that wants an item.
    async fn send(path: &str, content_type: &str, body: impl Into<web::Bytes>) -> (u16, Value) {
        let app = init_service(
            App::new()
                .configure(|app| configure(app, 100_000))
                .route(
                    "/any",
                    web::post().to(async |_: web::Json<Value>| HttpResponse::Ok().json(0)),
                )
                .route(
                    "/item",
                    web::post().to(async |_: web::Json<Item>| HttpResponse::Ok().json(0)),
                )
                .route(
                    "/form",
                    web::post().to(async |_: web::Form<Item>| HttpResponse::Ok().json(0)),
                )
                .route(
                    "/n/{n}",
                    web::post().to(async |_: web::Path<u8>| HttpResponse::Ok().json(0)),
                )
                .route(
                    "/q",
                    web::post().to(async |_: web::Query<Item>| HttpResponse::Ok().json(0)),
                ),
        )
        .await;
        let request = TestRequest::post()
            .uri(path)
            .insert_header(("content-type", content_type))
            .set_payload(body.into());
        let response = call_service(&app, request.to_request()).await;
        (response.status().as_u16(), read_body_json(response).await)
    }

    #[actix_web::test]
    async fn json_that_is_none_gets_a_problem_with_its_position() {
        let deep = "[".repeat(10_000);
        let bad = [
            (deep.as_str(), "recursion limit"),
            ("{\"a\":1} trailing", "trailing characters"),
            ("1e400", "number out of range"),
            ("NaN", "expected value"),
            ("\"\\ud800\"", "hex escape"),
            ("\u{feff}{}", "expected value"),
            ("", "EOF"),
            ("{\"a\":\n  tru}", "expected ident"),
        ];
        for (body, expected) in bad {
            let (status, problem) = send("/any", "application/json", body.to_owned()).await;
            assert_eq!(status, 400, "{problem}");
            assert_eq!(problem["code"], "bad_json");
            assert!(problem["line"].is_u64() && problem["column"].is_u64(), "{problem}");
            assert!(problem["detail"].as_str().unwrap().contains(expected), "{problem}");
        }
    }

    #[actix_web::test]
    async fn a_value_of_the_wrong_type_is_told_apart_from_bad_syntax() {
        for body in ["{\"count\":\"x\"}", "{}", "[]", "{\"count\":1,\"count\":2}", "null"] {
            let (status, problem) = send("/item", "application/json", body).await;
            assert_eq!((status, &problem["code"]), (400, &Value::from("bad_json_value")), "{body}");
        }
    }

    #[actix_web::test]
    async fn x2_json_must_be_called_json() {
        for content_type in ["text/plain", "application/x-www-form-urlencoded", ""] {
            let (status, problem) = send("/any", content_type, "{}").await;
            assert_eq!((status, &problem["code"]), (415, &Value::from("unsupported_media_type")));
        }
    }

    #[actix_web::test]
    async fn the_limit_is_the_nodes_own() {
        let big = format!("\"{}\"", "x".repeat(100_000));
        let (status, problem) = send("/any", "application/json", big).await;
        assert_eq!((status, &problem["limit_bytes"]), (413, &Value::from(100_000)));
    }

    #[actix_web::test]
    async fn paths_queries_and_forms_answer_with_problems_too() {
        let form = "application/x-www-form-urlencoded";
        for (path, content_type, body, status) in [
            ("/n/300", form, "", 404),
            ("/q?count=x", form, "", 400),
            ("/q", form, "", 400),
            ("/form", form, "count=x", 400),
            ("/form", "text/plain", "count=1", 415),
        ] {
            let (answered, problem) = send(path, content_type, body).await;
            assert_eq!(answered, status, "{path} {problem}");
            assert_eq!(problem["status"], status);
        }
    }
}
