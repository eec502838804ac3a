use actix_web::http::Method;
use actix_web::test::TestRequest;

use super::*;
use crate::clock::SystemClock;
use crate::secret::Secret;

const SOME: &[Operation] = &[
    Operation::get("about.show", "/v1/about", "Shows the node"),
    Operation::post("node.drain", "/v1/about", "Drains it"),
    Operation::get("sessions.list", "/v1/sessions", "Lists sessions").role(Role::Support),
    Operation::put("tokens.make", "/v1/tokens", "Makes a token").role(Role::Admin),
];

fn port(config: &Config) -> AdminPort {
    let port = AdminPort::new(config, Audit::unwritten(), SystemClock::shared());
    port.set_operations(Operations::new([SOME]));
    port
}

fn access() -> AdminPort {
    let mut config = Config::for_test();
    config.admin.token = Some(Secret::new("all-of-it".to_owned()));
    config.admin.operator_token = Some(Secret::new("run-it".to_owned()));
    config.admin.viewer_token = Some(Secret::new("see-it".to_owned()));
    port(&config)
}

fn ask_for(access: &AdminPort, (method, path): (&str, &str), authorization: &str) -> u16 {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = TestRequest::with_uri(path).method(method);
    if !authorization.is_empty() {
        request = request.insert_header((header::AUTHORIZATION, authorization));
    }
    access.admit(&request.to_srv_request()).err().map_or(200, |problem| problem.status.as_u16())
}

fn ask(access: &AdminPort, method: &str, authorization: &str) -> u16 {
    ask_for(access, (method, "/v1/about?token=all-of-it"), authorization)
}

#[test]
fn x1_every_role_may_do_what_it_may_and_nothing_else() {
    let access = access();
    let table = [
        // (token, GET, POST)
        ("Bearer all-of-it", 200, 200),
        ("Bearer run-it", 200, 200),
        ("Bearer see-it", 200, 403),
        ("bearer see-it", 200, 403),
        ("Bearer wrong", 401, 401),
        ("Bearer ", 401, 401),
        ("Bearer", 401, 401),
        ("Basic YWxsLW9mLWl0", 401, 401),
        ("all-of-it", 401, 401),
        ("", 401, 401),
    ];
    for (authorization, get, post) in table {
        assert_eq!(ask(&access, "GET", authorization), get, "GET {authorization}");
        assert_eq!(ask(&access, "POST", authorization), post, "{authorization}");
    }
    for (role, status) in [("run-it", 403), ("all-of-it", 200)] {
        let tokens = ("PUT", "/v1/tokens");
        assert_eq!(ask_for(&access, tokens, &format!("Bearer {role}")), status, "{role}");
    }
    assert_eq!(ask_for(&access, ("GET", "/v1/sessions"), "Bearer see-it"), 403);
}

#[test]
fn x1_where_a_browser_is_is_believed_with_a_seal_of_this_node_only() {
    let access = access();
    let seal = access.on_behalf_of(&Principal::new(Role::Viewer, "mary"));
    let told = |value: &str| {
        let request = TestRequest::with_uri("/v1/about").insert_header((BROWSER, value));
        let request = request.to_srv_request();
        drop(access.admit(&request));
        request.extensions().get::<Browser>().map(|browser| browser.0.to_string())
    };
    assert_eq!(told(&format!("{seal} 203.0.113.9")).as_deref(), Some("203.0.113.9"));
    for wrong in
        [format!("{seal}x 203.0.113.9"), format!("{seal} nowhere"), "203.0.113.9".to_owned()]
    {
        assert_eq!(told(&wrong), None, "{wrong}");
    }
}

#[test]
fn x1_what_is_written_down_nowhere_is_refused_to_everybody() {
    let access = access();
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "PURGE"] {
        assert_eq!(ask(&access, method, "Bearer all-of-it"), 405, "{method}");
        assert_eq!(ask(&access, method, "Bearer wrong"), 401, "{method}");
    }
    for path in ["/v1/secret", "/v1/about/", "/v2/about", "/v1//about", "/consoles"] {
        assert_eq!(ask_for(&access, ("GET", path), "Bearer all-of-it"), 404, "{path}");
        assert_eq!(ask_for(&access, ("GET", path), ""), 401, "{path}");
    }
}

#[test]
fn x1_without_a_token_loopback_may_look_and_no_more() {
    let access = port(&Config::for_test());
    assert_eq!(ask(&access, "GET", ""), 200);
    assert_eq!(ask(&access, "POST", ""), 401);
    assert_eq!(ask(&access, "GET", "Bearer wrong"), 401);
    for (host, status) in [
        ("127.0.0.1:9090", 200),
        ("localhost", 200),
        ("[::1]:9090", 200),
        ("evil.test:9090", 403),
        ("127.0.0.1.evil.test", 403),
        ("localhost.evil.test", 403),
    ] {
        for path in ["/v1/about", "/console/nodes"] {
            let request = TestRequest::with_uri(path).insert_header((header::HOST, host));
            let answer = access.admit(&request.to_srv_request());
            let answered = answer.err().map_or(200, |problem| problem.status.as_u16());
            assert_eq!(answered, status, "{host}");
        }
    }
}

#[test]
fn x1_health_needs_no_token() {
    let request = TestRequest::with_uri("/health/ready").to_srv_request();
    assert!(access().admit(&request).is_ok());
}

#[test]
fn x2_a_page_is_let_in_but_not_when_another_site_sends_it() {
    let access = access();
    for page in ["/", "/console", "/console/jobs"] {
        assert_eq!(ask_for(&access, ("GET", page), ""), 200, "{page}");
        // A browser always says where a form comes from; what does not say it is refused.
        assert_eq!(ask_for(&access, ("POST", page), ""), 403, "{page}");
        for (site, status) in [("same-origin", 200), ("cross-site", 403), ("none", 403)] {
            let request = TestRequest::with_uri(page)
                .method(Method::POST)
                .insert_header(("sec-fetch-site", site));
            let answer = access.admit(&request.to_srv_request());
            let answered = answer.err().map_or(200, |problem| problem.status.as_u16());
            assert_eq!(answered, status, "{page} {site}");
        }
    }
}

#[test]
fn x1_a_node_asks_itself_on_behalf_of_whom_has_signed_in() {
    let access = access();
    let operator = access.owner_of("run-it").unwrap();
    assert_eq!((operator.role, &*operator.name), (Role::Operator, "operator"));
    let (cookie, _) = access.sign_in(&operator);
    let signed_in = access.browser(Some(&cookie)).unwrap();
    let inside = access.on_behalf_of(&signed_in);
    assert_eq!(ask(&access, "POST", &format!("Bearer {inside}")), 200);
    let admin_only = ("PUT", "/v1/tokens");
    assert_eq!(ask_for(&access, admin_only, &format!("Bearer {inside}")), 403);
    // What the browser has is no token of the API.
    assert_eq!(ask(&access, "GET", &format!("Bearer {cookie}")), 401);
    assert_eq!(access.browser(Some(&inside)), None);
    assert_eq!(access.browser(None), None);
}

#[test]
fn x1_who_has_signed_out_is_not_believed_any_more_whoever_shows_the_copy() {
    let access = access();
    let operator = access.owner_of("run-it").unwrap();
    let (first, _) = access.sign_in(&operator);
    let (second, _) = access.sign_in(&operator);
    assert_ne!(first, second, "one can end without the other");
    let (digest, until_ms) = access.good_until(&first).unwrap();
    access.end_browser(digest, until_ms);
    assert_eq!(access.browser(Some(&first)), None);
    assert_eq!(access.browser(Some(&second)), Some(operator));
    access.forget_ended(until_ms - 1);
    assert_eq!(access.browser(Some(&first)), None, "it would still be good");
    access.forget_ended(until_ms);
    assert!(access.browser(Some(&first)).is_some(), "only that it ended is forgotten");
    let inside = access.on_behalf_of(&Principal::new(Role::Admin, "mary"));
    for wrong in ["", "x.y", &inside] {
        assert_eq!(access.good_until(wrong), None, "{wrong}");
    }
}

#[test]
fn x1_a_resource_may_demand_more() {
    let request = TestRequest::default().to_http_request();
    assert!(require(&request, Role::Viewer).is_err());
    request.extensions_mut().insert(Principal::new(Role::Operator, "o"));
    assert!(require(&request, Role::Operator).is_ok());
    assert_eq!(require(&request, Role::Admin).unwrap_err().status, 403);
}

#[test]
fn x1_refusals_look_the_same_whatever_was_wrong() {
    let bodies = ["", "Bearer wrong", "Bearer see-i"].map(|authorization| {
        let request = TestRequest::with_uri("/v1/about")
            .insert_header((header::AUTHORIZATION, authorization));
        access().admit(&request.to_srv_request()).unwrap_err().body(None)
    });
    assert!(bodies.iter().all(|body| *body == bodies[0]));
}
