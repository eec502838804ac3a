//! A small application behind the middleware, asked as a client would.

use std::time::Duration;

use actix_web::http::header::HeaderMap;
use actix_web::test::{TestRequest, init_service, read_body, try_call_service};
use actix_web::{App, HttpRequest, HttpResponse, error, web};
use futures_util::stream;
use serde_json::Value;

use super::*;
use crate::http::requests::Cancelling;
use crate::http::settings::HttpSettings;
use crate::http::{client_addr, extractors};
use crate::node::Phase;

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn code(&self) -> String {
        let problem: Value =
            serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{}", self.body));
        assert_eq!(problem["status"], self.status);
        problem["code"].as_str().unwrap().to_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

fn context(change: impl FnOnce(&mut HttpSettings)) -> EdgeContext {
    let mut settings = HttpSettings::for_test();
    change(&mut settings);
    EdgeContext::new(Shared::new(settings), Lifecycle::starting())
}

fn routes(app: &mut web::ServiceConfig) {
    app.route("/", web::get().to(async || HttpResponse::Ok().body("home")))
        .route("/", web::post().to(async |body: web::Bytes| HttpResponse::Ok().body(body)))
        .route("/page", web::get().to(async || web::Html::new("<p>")))
        .route("/panic", web::get().to(async || -> HttpResponse { panic!("canary-7") }))
        .route("/slow", web::get().to(async || -> HttpResponse { std::future::pending().await }))
        .route(
            "/secret",
            web::get().to(async || Err::<String, _>(error::ErrorInternalServerError("canary-8"))),
        )
        .route(
            "/teapot",
            web::get().to(async || Err::<String, _>(error::ErrorImATeapot("short and stout"))),
        )
        .route(
            "/own",
            web::get().to(async || HttpResponse::NotFound().json(Value::from("own form"))),
        )
        .route(
            "/problem",
            web::get().to(async || Err::<String, _>(Problem::from_status(StatusCode::CONFLICT))),
        )
        .route("/ip", web::get().to(async |request: HttpRequest| client_addr(&request).to_string()))
        .route(
            "/id",
            web::get()
                .to(async |request: HttpRequest| crate::http::request_id(&request).to_string()),
        )
        .default_service(web::to(async || Problem::from_status(StatusCode::NOT_FOUND).response()));
}

async fn ask_in(context: EdgeContext, request: TestRequest) -> Answer {
    let lifecycle = context.lifecycle.clone();
    let app = App::new()
        .app_data(Arc::clone(&context.settings))
        .configure(|app| extractors::configure(app, 1_000))
        .configure(|app| health::configure(app, &lifecycle, health::Detail::Word))
        .configure(routes)
        .wrap(Edge::new(context));
    let app = init_service(app).await;
    match try_call_service(&app, request.to_request()).await {
        Ok(response) => {
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let body = String::from_utf8(read_body(response).await.to_vec()).unwrap();
            Answer { status, headers, body }
        }
        Err(error) => {
            let response = error.error_response();
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let body = actix_web::body::to_bytes(response.into_body()).await.unwrap();
            Answer { status, headers, body: String::from_utf8(body.to_vec()).unwrap() }
        }
    }
}

async fn ask(request: TestRequest) -> Answer {
    ask_in(context(|_| {}), request).await
}

fn get(path: &str) -> TestRequest {
    TestRequest::get().uri(path)
}

#[actix_web::test]
async fn an_ordinary_answer_is_left_alone_but_for_its_safety() {
    let answer = ask(get("/")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "home"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("x-request-id"), None);
    assert_eq!(answer.header("x-understudy-node"), None);
    assert_eq!(ask(get("/page")).await.header("x-frame-options"), Some("SAMEORIGIN"));
}

#[actix_web::test]
async fn o8_the_node_is_told_only_when_asked_for() {
    let named = context(|settings| settings.exposed_node = Some(HeaderValue::from_static("web-1")));
    assert_eq!(ask_in(named, get("/")).await.header("x-understudy-node"), Some("web-1"));
}

#[actix_web::test]
async fn every_error_is_a_problem_that_names_the_request() {
    let nowhere = ask(get("/nowhere")).await;
    assert_eq!((nowhere.status, nowhere.code().as_str()), (404, "not_found"));
    let id = nowhere.header("x-request-id").unwrap();
    assert!(nowhere.body.contains(&format!("urn:understudy:request:{id}")), "{}", nowhere.body);
    let problem = ask(get("/problem")).await;
    assert_eq!((problem.status, problem.code().as_str()), (409, "conflict"));
    assert!(problem.body.contains("instance"));
    let teapot = ask(get("/teapot")).await;
    assert_eq!((teapot.status, teapot.code().as_str()), (418, "client_error"));
    assert!(teapot.body.contains("short and stout"));
}

#[actix_web::test]
async fn a_cause_on_our_side_is_not_for_the_client() {
    let secret = ask(get("/secret")).await;
    assert_eq!((secret.status, secret.code().as_str()), (500, "internal"));
    assert!(!secret.body.contains("canary"), "{}", secret.body);
}

#[actix_web::test]
async fn an_application_may_give_errors_its_own_form() {
    let own = ask(get("/own")).await;
    assert_eq!((own.status, own.body.as_str()), (404, "\"own form\""));
}

#[actix_web::test]
async fn a_panic_is_answered_and_tells_nothing() {
    let answer = ask(get("/panic")).await;
    assert_eq!((answer.status, answer.code().as_str()), (500, "internal"));
    assert!(!answer.body.contains("canary"), "{}", answer.body);
    assert!(answer.header("x-request-id").is_some());
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}

#[actix_web::test]
async fn a_handler_that_does_not_end_is_given_up() {
    let short = context(|settings| settings.request_timeout = Duration::from_millis(50));
    let answer = ask_in(short, get("/slow")).await;
    assert_eq!((answer.status, answer.code().as_str()), (504, "timeout"));
}

#[actix_web::test]
async fn u15_a_request_that_an_operator_ends_is_answered_and_its_connection_closed() {
    let context = context(|_| {});
    let requests = context.requests.clone();
    let settings = Arc::clone(&context.settings);
    let app = App::new().app_data(settings).configure(routes).wrap(Edge::new(context));
    let app = init_service(app).await;
    let operator = async {
        let id = loop {
            match requests.list().await.requests.first() {
                Some(request) => break request.id.clone(),
                None => tokio::task::yield_now().await,
            }
        };
        assert_eq!(requests.cancel(&id).await, Cancelling::Done);
    };
    let slow = try_call_service(&app, get("/slow").to_request());
    let (answer, ()) = tokio::join!(slow, operator);
    let response = answer.unwrap_err().error_response();
    assert_eq!(response.status(), 504);
    assert_eq!(response.head().connection_type(), actix_web::http::ConnectionType::Close);
    let body = actix_web::body::to_bytes(response.into_body()).await.unwrap();
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["code"], "cancelled_by_operator");
    assert!(requests.list().await.requests.is_empty());
}

#[actix_web::test]
async fn u18_the_body_of_an_answer_may_take_longer_than_its_head() {
    let short = context(|settings| settings.request_timeout = Duration::from_millis(50));
    let settings = Arc::clone(&short.settings);
    let slowly = stream::unfold(0, async |number: u32| {
        tokio::time::sleep(Duration::from_millis(40)).await;
        (number < 5).then(|| (Ok::<_, Error>(web::Bytes::from_static(b"x")), number + 1))
    });
    let slowly = std::cell::Cell::new(Some(Box::pin(slowly)));
    let slowly = Rc::new(slowly);
    let route = web::get().to(move || {
        let body = slowly.take().unwrap();
        async move { HttpResponse::Ok().streaming(body) }
    });
    let app = App::new().app_data(settings).route("/stream", route).wrap(Edge::new(short));
    let app = init_service(app).await;
    let answer = try_call_service(&app, get("/stream").to_request()).await.unwrap();
    assert_eq!(read_body(answer).await, web::Bytes::from_static(b"xxxxx"));
}

#[actix_web::test]
async fn o3_maintenance_turns_away_all_but_health() {
    let full = || {
        let config = crate::config::Config::for_test();
        let maintenance = Maintenance::new(&config, crate::clock::SystemClock::shared());
        maintenance.apply(r#"{"mode":"full","message":"Back at noon","retry_after_s":9}"#);
        EdgeContext { maintenance: Some(maintenance), ..context(|_| {}) }
    };
    for request in [get("/"), get("/nowhere"), TestRequest::post().uri("/")] {
        let answer = ask_in(full(), request).await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "maintenance"));
        assert_eq!(answer.header("retry-after"), Some("9"));
        assert!(answer.body.contains("Back at noon"), "{}", answer.body);
        assert!(answer.body.contains("urn:understudy:request:"), "{}", answer.body);
    }
    let page = ask_in(full(), get("/").insert_header((header::ACCEPT, "text/html"))).await;
    assert_eq!((page.status, page.header("retry-after")), (503, Some("9")));
    assert!(page.header("content-type").unwrap().starts_with("text/html"), "{}", page.body);
    assert!(page.body.contains("Back at noon"), "{}", page.body);
    for health in ["/health/live", "/readyz", "/health/startup"] {
        assert_ne!(ask_in(full(), get(health)).await.body.find("maintenance"), Some(0));
    }
    assert_eq!(ask_in(full(), get("/health/live")).await.status, 200);
    let off = EdgeContext {
        maintenance: Some(Maintenance::new(
            &crate::config::Config::for_test(),
            crate::clock::SystemClock::shared(),
        )),
        ..context(|_| {})
    };
    assert_eq!(ask_in(off, get("/")).await.status, 200);
}

#[actix_web::test]
async fn methods_that_are_not_offered_are_refused_with_those_that_are() {
    for method in [Method::TRACE, Method::CONNECT] {
        let answer = ask(TestRequest::with_uri("/").method(method)).await;
        assert_eq!((answer.status, answer.code().as_str()), (405, "method_not_allowed"));
        assert!(answer.header("allow").unwrap().contains("GET"));
    }
}

#[actix_web::test]
async fn targets_and_cookies_are_bounded() {
    let long = ask(get(&format!("/{}", "x".repeat(9_000)))).await;
    assert_eq!((long.status, long.code().as_str()), (414, "uri_too_long"));
    let cookies = get("/").append_header(("cookie", "a".repeat(9_000)));
    let cookies = cookies.append_header(("cookie", "b".repeat(9_000)));
    let many = ask(cookies).await;
    assert_eq!((many.status, many.code().as_str()), (431, "headers_too_large"));
    assert_eq!(ask(get("/").insert_header(("cookie", "c".repeat(8_192)))).await.status, 200);
}

#[actix_web::test]
async fn a_body_is_bounded_with_and_without_a_length() {
    let post = |bytes: usize| TestRequest::post().uri("/").set_payload("x".repeat(bytes));
    assert_eq!(ask(post(1_000)).await.body.len(), 1_000);
    let known = ask(post(1_001).insert_header(("content-length", "1001"))).await;
    assert_eq!((known.status, known.code().as_str()), (413, "too_large"));
    let unknown = ask(post(1_001)).await;
    assert_eq!((unknown.status, unknown.code().as_str()), (413, "too_large"));
}

#[actix_web::test]
async fn a_body_that_stops_is_answered_408() {
    let context = context(|_| {});
    let settings = Arc::clone(&context.settings);
    let app = App::new().app_data(settings).configure(routes).wrap(Edge::new(context));
    let app = init_service(app).await;
    let request = TestRequest::post().uri("/").to_request();
    let silent: Payload =
        Payload::Stream { payload: Box::pin(stream::pending::<Result<web::Bytes, _>>()) };
    let (request, _) = request.replace_payload(silent);
    let response = try_call_service(&app, request).await.unwrap();
    assert_eq!(response.status(), 408);
    let connection = response.response().head().connection_type();
    assert_eq!(connection, actix_web::http::ConnectionType::Close);
    let problem: Value = serde_json::from_slice(&read_body(response).await).unwrap();
    assert_eq!(problem["code"], "body_timeout");
}

#[actix_web::test]
async fn a_request_names_one_host_that_is_served() {
    let served = || context(|settings| settings.hosts = vec!["app.test".to_owned()]);
    let to = |host: &'static str| get("/").insert_header(("host", host));
    assert_eq!(ask_in(served(), to("app.test:8080")).await.status, 200);
    let other = ask_in(served(), to("evil.test")).await;
    assert_eq!((other.status, other.code().as_str()), (421, "misdirected_request"));
    let two = ask(to("app.test").append_header(("host", "evil.test"))).await;
    assert_eq!((two.status, two.code().as_str()), (400, "bad_host"));
    let absolute = ask(get("http://evil.test/").insert_header(("host", "app.test"))).await;
    assert_eq!((absolute.status, absolute.code().as_str()), (400, "bad_host"));
    let proxied = to("nodes").peer_addr("127.0.0.1:1".parse().unwrap());
    let proxied = proxied.insert_header(("x-forwarded-host", "app.test"));
    assert_eq!(ask_in(served(), proxied).await.status, 200);
    let pretended = to("nodes").peer_addr("198.51.100.7:1".parse().unwrap());
    let pretended = pretended.insert_header(("x-forwarded-host", "app.test"));
    assert_eq!(ask_in(served(), pretended).await.status, 421);
}

#[actix_web::test]
async fn x2_other_sites_cannot_make_a_browser_change_something() {
    let post = || TestRequest::post().uri("/").insert_header(("host", "app.test:8080"));
    assert_eq!(ask(post()).await.status, 200);
    assert_eq!(ask(post().insert_header(("sec-fetch-site", "same-origin"))).await.status, 200);
    assert_eq!(ask(post().insert_header(("origin", "http://app.test:8080"))).await.status, 200);
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("origin", "null"),
        ("origin", "http://evil.test"),
        ("origin", "https://app.test:8080"),
    ] {
        let refused = ask(post().insert_header((name, value))).await;
        assert_eq!((refused.status, refused.code().as_str()), (403, "cross_site"), "{value}");
    }
    let off = context(|settings| settings.csrf = false);
    assert_eq!(ask_in(off, post().insert_header(("origin", "null"))).await.status, 200);
    assert_eq!(ask(get("/").insert_header(("sec-fetch-site", "cross-site"))).await.status, 200);
}

#[actix_web::test]
async fn x2_behind_a_proxy_the_origin_is_what_the_browser_used() {
    let proxied = |origin: &'static str| {
        TestRequest::post()
            .uri("/")
            .peer_addr("127.0.0.1:1".parse().unwrap())
            .insert_header(("host", "nodes"))
            .insert_header(("x-forwarded-for", "203.0.113.9"))
            .insert_header(("x-forwarded-proto", "https"))
            .insert_header(("x-forwarded-host", "app.test"))
            .insert_header(("origin", origin))
    };
    assert_eq!(ask(proxied("https://app.test")).await.status, 200);
    assert_eq!(ask(proxied("http://nodes")).await.status, 403);
    let external = || crate::config::ExternalUrl {
        scheme: crate::config::Scheme::Https,
        authority: "public.test".to_owned(),
        path: String::new(),
    };
    let configured = || context(|settings| settings.external_url = Some(external()));
    assert_eq!(ask_in(configured(), proxied("https://public.test")).await.status, 200);
    let refused = ask_in(configured(), proxied("https://app.test")).await;
    assert_eq!(refused.status, 403);
    assert!(refused.header("strict-transport-security").is_some());
}

#[actix_web::test]
async fn t5_a_handler_sees_the_client_behind_trusted_proxies_only() {
    let from = |peer: &str| {
        get("/ip")
            .peer_addr(format!("{peer}:1").parse().unwrap())
            .insert_header(("x-forwarded-for", "6.6.6.6, 203.0.113.9"))
    };
    assert_eq!(ask(from("127.0.0.1")).await.body, "203.0.113.9");
    assert_eq!(ask(from("198.51.100.7")).await.body, "198.51.100.7");
}

#[actix_web::test]
async fn a_request_that_was_named_answers_with_its_name() {
    let asked = ask(get("/id")).await;
    assert_eq!(asked.header("x-request-id"), Some(asked.body.as_str()));
    let brought = get("/").insert_header(("x-request-id", "abc-1"));
    let brought = ask(brought.peer_addr("127.0.0.1:1".parse().unwrap())).await;
    assert_eq!(brought.header("x-request-id"), Some("abc-1"));
}

#[actix_web::test]
async fn o2_a_draining_node_sends_away_what_others_can_serve() {
    let draining = |others_ready: bool| {
        let mut context = context(|_| {});
        context.lifecycle.enter(Phase::Draining);
        context.others_ready = Some(Arc::new(move || others_ready));
        context
    };
    let sent_away = ask_in(draining(true), get("/")).await;
    assert_eq!((sent_away.status, sent_away.code().as_str()), (503, "draining"));
    assert_eq!(sent_away.header("retry-after"), Some("1"));
    assert_eq!(ask_in(draining(true), TestRequest::post().uri("/")).await.status, 200);
    assert_eq!(ask_in(draining(false), get("/")).await.status, 200);
}

#[actix_web::test]
async fn h1_health_is_exempt_from_every_check() {
    let strict = context(|settings| settings.hosts = vec!["app.test".to_owned()]);
    strict.lifecycle.enter(Phase::Draining);
    let probe = get("/health/live").append_header(("host", "10.0.0.5"));
    let probe = probe.append_header(("sec-fetch-site", "cross-site"));
    let answer = ask_in(strict, probe).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"status\":\"live\"}"));
}

struct Stamp;

impl RequestWrap for Stamp {
    fn on_request(&self, request: &ServiceRequest) {
        request.extensions_mut().insert(7_u8);
    }

    fn on_response(&self, request: &HttpRequest, status: u16, headers: &mut HeaderMap) {
        let seen = request.extensions().get::<u8>().copied().unwrap_or_default();
        let value = HeaderValue::from_str(&format!("{seen}-{status}")).unwrap();
        headers.insert(header::SET_COOKIE, value);
    }
}

#[actix_web::test]
async fn services_see_requests_and_answers() {
    for (path, expected) in [("/", "7-200"), ("/problem", "7-409")] {
        let mut context = context(|_| {});
        context.wraps.push(Arc::new(Stamp));
        assert_eq!(ask_in(context, get(path)).await.header("set-cookie"), Some(expected));
    }
}
