//! Who may do what on the admin port: bearer tokens with roles, compared in constant time, deny by default.
//!
//! A request that only looks needs the role viewer, any other the role operator; what needs more asks for it with
//! [`require`]. A token counts only in the `Authorization` header: one in a URL would end up in logs.

use actix_web::dev::ServiceRequest;
use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpMessage, HttpRequest};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use tracing::info;

use crate::config::AdminConfig;
use crate::http::problem::Problem;
use crate::http::{health, request_id};

/// What somebody may do; each role may do all that the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look.
    Viewer,
    /// Run the node: drain, run jobs, end sessions.
    Operator,
    /// Everything.
    Admin,
}

/// Who sent a request to the admin port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Principal {
    /// What they may do.
    pub role: Role,
}

/// The tokens of the admin port.
#[derive(Debug)]
pub(crate) struct AdminAccess {
    /// Digests, so that all have one length and none stays in memory as it is.
    tokens: Vec<(Role, [u8; 32])>,
}

impl AdminAccess {
    pub(crate) fn new(config: &AdminConfig) -> Self {
        let tokens = [
            (Role::Admin, &config.token),
            (Role::Operator, &config.operator_token),
            (Role::Viewer, &config.viewer_token),
        ];
        let digest = |token: &String| Sha256::digest(token.as_bytes()).into();
        let digests = tokens
            .into_iter()
            .filter_map(|(role, token)| token.as_ref().map(|token| (role, digest(token.expose()))));
        Self { tokens: digests.collect() }
    }

    /// Decides whether a request may come in, and notes who sent it.
    pub(crate) fn admit(&self, request: &ServiceRequest) -> Result<(), Problem> {
        if health::is_health(request.path()) {
            return Ok(());
        }
        let role = self.role_of(request)?;
        let needed = needed_for(request.method());
        if role < needed {
            return Err(forbidden(needed));
        }
        if needed > Role::Viewer {
            let id = request_id(request.request());
            let (method, path) = (request.method(), request.path());
            info!(%role, request_id = %id, http.method = %method, http.path = path, "admin action");
        }
        request.extensions_mut().insert(Principal { role });
        Ok(())
    }

    fn role_of(&self, request: &ServiceRequest) -> Result<Role, Problem> {
        if self.tokens.is_empty() {
            return open_on_loopback(request);
        }
        let given = request.headers().get(header::AUTHORIZATION);
        let token = given.and_then(|value| value.to_str().ok()).and_then(bearer);
        // Missing and wrong look the same, and take the same time.
        self.role_of_token(token.unwrap_or_default()).ok_or_else(unauthorized)
    }

    fn role_of_token(&self, token: &str) -> Option<Role> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let mut found = None;
        for (role, known) in &self.tokens {
            let same: Choice = known.ct_eq(&digest);
            // All are compared, whichever matches.
            if bool::from(same) {
                found = found.max(Some(*role));
            }
        }
        found
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        })
    }
}

/// Returns who sent a request; `None` on the public port.
#[must_use]
pub fn principal(request: &HttpRequest) -> Option<Principal> {
    request.extensions().get::<Principal>().copied()
}

/// Demands a role, for a resource that needs more than its method does.
///
/// # Errors
/// A 403 problem when the sender has less, or is not known.
pub fn require(request: &HttpRequest, needed: Role) -> Result<Principal, Problem> {
    principal(request).filter(|principal| principal.role >= needed).ok_or_else(|| forbidden(needed))
}

fn needed_for(method: &Method) -> Role {
    match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => Role::Viewer,
        _ => Role::Operator,
    }
}

/// Without any token the port listens on loopback only, and whoever reaches it may look.
///
/// A page in a browser on this machine could reach it too, under a name of its own that it lets point here: so
/// the request must be addressed to loopback by name.
fn open_on_loopback(request: &ServiceRequest) -> Result<Role, Problem> {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if host.is_some_and(|host| !is_loopback_name(host)) {
        return Err(forbidden(Role::Viewer));
    }
    match needed_for(request.method()) {
        Role::Viewer => Ok(Role::Viewer),
        Role::Operator | Role::Admin => Err(unauthorized()),
    }
}

fn is_loopback_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn unauthorized() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "A valid token is needed")
}

fn forbidden(needed: Role) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "forbidden", "The token does not allow this")
        .with_member("needed_role", needed.to_string())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;
    use crate::config::Config;
    use crate::secret::Secret;

    fn access() -> AdminAccess {
        let mut config = Config::for_test().admin;
        config.token = Some(Secret::new("all-of-it".to_owned()));
        config.operator_token = Some(Secret::new("run-it".to_owned()));
        config.viewer_token = Some(Secret::new("see-it".to_owned()));
        AdminAccess::new(&config)
    }

    fn ask(access: &AdminAccess, method: Method, authorization: &str) -> u16 {
        let mut request = TestRequest::with_uri("/v1/about?token=all-of-it").method(method);
        if !authorization.is_empty() {
            request = request.insert_header((header::AUTHORIZATION, authorization));
        }
        access.admit(&request.to_srv_request()).err().map_or(200, |problem| problem.status.as_u16())
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
            assert_eq!(ask(&access, Method::GET, authorization), get, "GET {authorization}");
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
                assert_eq!(ask(&access, method, authorization), post, "{authorization}");
            }
        }
    }

    #[test]
    fn x1_without_a_token_loopback_may_look_and_no_more() {
        let access = AdminAccess::new(&Config::for_test().admin);
        assert_eq!(ask(&access, Method::GET, ""), 200);
        assert_eq!(ask(&access, Method::POST, ""), 401);
        for (host, status) in [
            ("127.0.0.1:9090", 200),
            ("localhost", 200),
            ("[::1]:9090", 200),
            ("evil.test:9090", 403),
            ("127.0.0.1.evil.test", 403),
            ("localhost.evil.test", 403),
        ] {
            let request = TestRequest::with_uri("/v1/about").insert_header((header::HOST, host));
            let answer = access.admit(&request.to_srv_request());
            assert_eq!(
                answer.err().map_or(200, |problem| problem.status.as_u16()),
                status,
                "{host}"
            );
        }
    }

    #[test]
    fn x1_health_needs_no_token() {
        let request = TestRequest::with_uri("/health/ready").to_srv_request();
        assert!(access().admit(&request).is_ok());
    }

    #[test]
    fn x1_a_resource_may_demand_more() {
        let request = TestRequest::default().to_http_request();
        assert!(require(&request, Role::Viewer).is_err());
        request.extensions_mut().insert(Principal { role: Role::Operator });
        assert!(require(&request, Role::Operator).is_ok());
        assert_eq!(require(&request, Role::Admin).unwrap_err().status, 403);
    }

    #[test]
    fn x1_refusals_look_the_same_whatever_was_wrong() {
        let bodies = ["", "Bearer wrong", "Bearer see-i"].map(|authorization| {
            let request =
                TestRequest::default().insert_header((header::AUTHORIZATION, authorization));
            access().admit(&request.to_srv_request()).unwrap_err().body(None)
        });
        assert!(bodies.iter().all(|body| *body == bodies[0]));
    }
}
