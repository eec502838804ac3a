//! What a balancer and an orchestrator ask: does the process live, should it get requests, has it started.
//!
//! `live` looks at nothing but the process: an outage of a database must not make an orchestrator kill every
//! node. `ready` is answered from what the monitor found within the last second, so that asking often costs
//! nothing. The reasons are shown on the admin port only.

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HeaderValue};
use actix_web::{HttpResponse, web};
use serde::Serialize;

use crate::node::{Lifecycle, Phase, Reason};

/// How much an answer tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// A word: for the public port.
    Word,
    /// The reasons: for the admin port.
    Reasons,
}

const LIVE: [&str; 2] = ["/health/live", "/livez"];
const READY: [&str; 2] = ["/health/ready", "/readyz"];
const STARTUP: [&str; 2] = ["/health/startup", "/startupz"];

/// Adds the resources and their usual aliases.
pub(crate) fn configure(app: &mut web::ServiceConfig, lifecycle: &Lifecycle, detail: Detail) {
    type Answer = fn(&Lifecycle, Detail) -> HttpResponse;
    let all: [([&str; 2], Answer); 3] = [(LIVE, live), (READY, ready), (STARTUP, startup)];
    for (paths, answer) in all {
        let lifecycle = lifecycle.clone();
        let handler = move || std::future::ready(answer(&lifecycle, detail));
        app.service(
            web::resource(paths.to_vec())
                .route(web::get().to(handler.clone()))
                .route(web::head().to(handler)),
        );
    }
}

/// Returns whether a path is one of these: they are exempt from every check of the public port.
pub(crate) fn is_health(path: &str) -> bool {
    // Most paths are told apart by their first bytes.
    let candidate = path.starts_with("/health/") || path.ends_with('z');
    candidate && [LIVE, READY, STARTUP].iter().flatten().any(|known| *known == path)
}

fn live(_: &Lifecycle, _: Detail) -> HttpResponse {
    respond(StatusCode::OK, "live", None)
}

fn ready(lifecycle: &Lifecycle, detail: Detail) -> HttpResponse {
    if lifecycle.is_ready() {
        return respond(StatusCode::OK, "ready", None);
    }
    let reasons = (detail == Detail::Reasons).then(|| lifecycle.reasons());
    respond(StatusCode::SERVICE_UNAVAILABLE, "not_ready", reasons)
}

fn startup(lifecycle: &Lifecycle, detail: Detail) -> HttpResponse {
    if lifecycle.phase() > Phase::Starting {
        return respond(StatusCode::OK, "started", None);
    }
    let reasons = (detail == Detail::Reasons).then(|| lifecycle.reasons());
    respond(StatusCode::SERVICE_UNAVAILABLE, "starting", reasons)
}

#[derive(Serialize)]
struct HealthBody {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasons: Option<Vec<Reason>>,
}

fn respond(code: StatusCode, status: &'static str, reasons: Option<Vec<Reason>>) -> HttpResponse {
    HttpResponse::build(code)
        .insert_header((CACHE_CONTROL, HeaderValue::from_static("no-store")))
        .json(HealthBody { status, reasons })
}

#[cfg(test)]
mod tests {
    use actix_web::App;
    use actix_web::test::{TestRequest, call_service, init_service, read_body_json};
    use serde_json::{Value, json};

    use super::*;

    async fn ask(lifecycle: &Lifecycle, detail: Detail, path: &str) -> (u16, Value) {
        let app = init_service(App::new().configure(|app| configure(app, lifecycle, detail))).await;
        let response = call_service(&app, TestRequest::with_uri(path).to_request()).await;
        assert_eq!(response.headers().get(CACHE_CONTROL).unwrap(), "no-store");
        (response.status().as_u16(), read_body_json(response).await)
    }

    async fn statuses(lifecycle: &Lifecycle) -> [u16; 6] {
        let paths = [LIVE, READY, STARTUP].concat();
        let mut statuses = [0; 6];
        for (status, path) in statuses.iter_mut().zip(paths) {
            *status = ask(lifecycle, Detail::Word, path).await.0;
        }
        statuses
    }

    #[actix_web::test]
    async fn h1_health_follows_the_life_of_the_node() {
        let life = Lifecycle::starting();
        assert_eq!(statuses(&life).await, [200, 200, 503, 503, 503, 503]);
        life.set_reasons(Vec::new());
        life.enter(Phase::Running);
        assert_eq!(statuses(&life).await, [200; 6]);
        life.set_reasons(vec![Reason::new("database", "refused")]);
        assert_eq!(statuses(&life).await, [200, 200, 503, 503, 200, 200]);
        life.set_reasons(Vec::new());
        life.enter(Phase::Draining);
        assert_eq!(statuses(&life).await, [200, 200, 503, 503, 200, 200]);
    }

    #[actix_web::test]
    async fn h1_reasons_are_shown_to_operators_only() {
        let life = Lifecycle::starting();
        life.waits_for("migrating", "another node is at it");
        let (_, public) = ask(&life, Detail::Word, "/readyz").await;
        assert_eq!(public, json!({"status": "not_ready"}));
        let (_, admin) = ask(&life, Detail::Reasons, "/health/ready").await;
        assert_eq!(
            admin["reasons"][0],
            json!({"code": "migrating", "detail": "another node is at it"})
        );
    }

    #[test]
    fn h1_only_the_health_paths_are_exempt() {
        for path in
            ["/health/live", "/livez", "/health/ready", "/readyz", "/health/startup", "/startupz"]
        {
            assert!(is_health(path), "{path}");
        }
        for path in [
            "/health",
            "/health/",
            "/health/live/",
            "/healthz",
            "/x/livez",
            "/health/../livez",
            "/z",
        ] {
            assert!(!is_health(path), "{path}");
        }
    }
}
