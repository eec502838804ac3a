//! The console as a client of the admin API of its own node: every look and every change is a request over loopback, on
//! behalf of whoever is signed in, so that roles, audit and answers are the same as for everybody else.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response, Url};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use understudy_runtime::admin::{BROWSER, Principal, Role};

use super::backstage::Backstage;
use super::look::Look as _;

/// How long an answer may take: a page shows what it has by then.
const LIMIT: Duration = Duration::from_secs(4);
/// An action may take longer: another leader is waited for.
const ACTION_LIMIT: Duration = Duration::from_secs(20);
/// How long a connection is kept for the next request.
const IDLE: Duration = Duration::from_secs(15);
/// No answer of the API is longer.
const LONGEST: usize = 16 * 1024 * 1024;

/// What the API told.
pub(super) type Told = Result<Value, Trouble>;

/// The API did not do what was asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Trouble {
    /// What kind of trouble it is.
    pub(super) kind: Kind,
    /// The status of the answer; 0 when there was none.
    pub(super) status: u16,
    /// The stable name of the problem, if the answer had one.
    pub(super) code: String,
    /// What kind of problem it is.
    pub(super) title: String,
    /// What is wrong this time.
    pub(super) detail: String,
    /// All of the answer.
    pub(super) body: Value,
}

/// What a page makes of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Whoever asks is not signed in any more.
    SignedOut,
    /// Whoever asks may not.
    Forbidden,
    /// The node does not have this.
    NotThere,
    /// There is no such thing: the address names something that is gone.
    Unknown,
    /// Something that is needed is away for now.
    Away,
    /// It was refused, for a reason that the text gives.
    Refused,
}

impl Trouble {
    /// Trouble without an answer.
    pub(super) fn away(detail: impl Into<String>) -> Self {
        Self {
            kind: Kind::Away,
            status: 0,
            code: "no_answer".to_owned(),
            title: "The node did not answer".to_owned(),
            detail: detail.into(),
            body: Value::Null,
        }
    }

    fn of(status: u16, body: Value) -> Self {
        let code = body.text("code").to_owned();
        let kind = match (status, code.as_str()) {
            (401, _) => Kind::SignedOut,
            (403, _) => Kind::Forbidden,
            (404, "not_found" | "") | (405 | 501, _) => Kind::NotThere,
            (404, _) => Kind::Unknown,
            (502..=504, _) => Kind::Away,
            _ => Kind::Refused,
        };
        let title = match body.text("title") {
            "" => format!("The node answered with status {status}"),
            title => title.to_owned(),
        };
        Self { kind, status, code, title, detail: body.text("detail").to_owned(), body }
    }

    /// Title and detail in one line.
    pub(super) fn text(&self) -> String {
        match self.detail.as_str() {
            "" => self.title.clone(),
            detail => format!("{}: {detail}", self.title),
        }
    }
}

/// Who asks, and under which name of a request.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    /// The bearer token.
    pub(super) token: String,
    /// Where the browser is, with a seal of this node that says so: for the audit log.
    pub(super) browser: String,
}

impl Asker {
    /// Somebody who has signed in with a browser at this address.
    pub(super) fn signed_in(backstage: &dyn Backstage, who: &Principal, at: IpAddr) -> Self {
        let token = backstage.on_behalf_of(who);
        Self { browser: format!("{token} {at}"), token }
    }

    /// Somebody at this address who shows a token that may be anybody's or nobody's.
    pub(super) fn stranger(backstage: &dyn Backstage, token: &str, at: IpAddr) -> Self {
        let seal = backstage.on_behalf_of(&Principal::new(Role::Viewer, "console"));
        Self { browser: format!("{seal} {at}"), token: token.to_owned() }
    }
}

/// A change.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    /// `POST`, `PUT` or `DELETE`.
    pub(super) method: &'static str,
    /// Where, with its query.
    pub(super) target: String,
    /// The body, unless it is null.
    pub(super) body: Value,
    /// Further headers.
    pub(super) headers: Vec<(&'static str, String)>,
}

/// The API of this node.
#[derive(Debug)]
pub(super) struct Api {
    http: Client,
    /// Tells where it is: not known yet when the console is made.
    backstage: Arc<dyn Backstage>,
}

impl Api {
    /// Prepares to ask.
    pub(super) fn new(backstage: Arc<dyn Backstage>) -> Self {
        let http = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            // Sooner than the other end, so that no request is sent into a connection that just closes.
            .pool_idle_timeout(IDLE)
            // What was asked for may have been done although no answer came.
            .retry(reqwest::retry::never())
            .tls_backend_preconfigured(tls())
            .build()
            .expect("a client that trusts nobody needs nothing from outside");
        Self { http, backstage }
    }

    /// Looks at something.
    pub(super) async fn get(&self, asker: &Asker, target: &str) -> Told {
        let request = self.request(asker, Method::GET, target)?;
        read(request.timeout(LIMIT).send().await.map_err(|error| no_answer(&error))?).await
    }

    /// Looks at something that is text and not JSON.
    pub(super) async fn text(&self, asker: &Asker, target: &str) -> Result<String, Trouble> {
        let request = self.request(asker, Method::GET, target)?;
        let response = request.timeout(LIMIT).send().await.map_err(|error| no_answer(&error))?;
        let status = response.status();
        if !status.is_success() {
            let problem = response.json().await.unwrap_or_default();
            return Err(Trouble::of(status.as_u16(), problem));
        }
        response.text().await.map_err(|error| no_answer(&error))
    }

    /// Asks for a change; an empty answer is null.
    pub(super) async fn change(&self, asker: &Asker, change: &Change) -> Told {
        let method = Method::from_bytes(change.method.as_bytes())
            .map_err(|_| Trouble::away(format!("{} is no method", change.method)))?;
        let mut request = self.request(asker, method, &change.target)?.timeout(ACTION_LIMIT);
        for (name, value) in &change.headers {
            request = request.header(*name, value);
        }
        if !change.body.is_null() {
            request = request.json(&change.body);
        }
        read(request.send().await.map_err(|error| no_answer(&error))?).await
    }

    /// Opens a stream that ends when the one who asked goes away.
    pub(super) async fn stream(&self, asker: &Asker, target: &str) -> Result<Response, Trouble> {
        let send = self.request(asker, Method::GET, target)?.send();
        let response = tokio::time::timeout(LIMIT, send)
            .await
            .map_err(|_| Trouble::away("it took too long"))?
            .map_err(|error| no_answer(&error))?;
        let status = response.status().as_u16();
        if status == 200 { Ok(response) } else { Err(Trouble::of(status, Value::Null)) }
    }

    fn request(
        &self,
        asker: &Asker,
        method: Method,
        target: &str,
    ) -> Result<RequestBuilder, Trouble> {
        let address = self.backstage.address();
        let address = address.ok_or_else(|| Trouble::away("its admin port is off"))?;
        let url = Url::parse(&format!("http://{address}{target}"));
        // A name of dots would be a step upwards: to something else than was asked for.
        let url = url.ok().filter(|url| target.split('?').next() == Some(url.path()));
        let url = url.ok_or_else(|| Trouble::away("nothing of this name can be asked for"))?;
        let request = self
            .http
            .request(method, url)
            .bearer_auth(&asker.token)
            .header(BROWSER, &asker.browser);
        Ok(request)
    }
}

/// Nothing is encrypted within a machine, but the library does not begin without knowing how it would be done.
fn tls() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the usual versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth()
}

async fn read(mut response: Response) -> Told {
    let status = response.status();
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| no_answer(&error))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LONGEST {
            return Err(Trouble::away("its answer is too long to be shown"));
        }
    }
    let body = serde_json::from_slice(&bytes);
    if !status.is_success() {
        return Err(Trouble::of(status.as_u16(), body.unwrap_or_default()));
    }
    match body {
        Ok(body) => Ok(body),
        Err(_) if bytes.is_empty() => Ok(Value::Null),
        Err(_) => Err(Trouble::away("its answer is not JSON")),
    }
}

fn no_answer(error: &reqwest::Error) -> Trouble {
    Trouble::away(match () {
        () if error.is_timeout() => "it took too long".to_owned(),
        () if error.is_connect() => "its admin port cannot be reached".to_owned(),
        () => "the connection broke".to_owned(),
    })
}

/// One segment of a path, or one value of a query, with everything written as `%xx` that could mean something else.
pub(super) fn encoded(text: &str) -> String {
    let mut told = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            told.push(char::from(byte));
        } else {
            told.push_str(&format!("%{byte:02X}"));
        }
    }
    told
}

/// A path with a query of those values that are not empty.
pub(super) fn target(path: &str, query: &[(&str, &str)]) -> String {
    let given = query.iter().filter(|(_, value)| !value.is_empty());
    let pairs: Vec<String> =
        given.map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use serde_json::json;

    use super::*;

    #[derive(Debug)]
    struct Nowhere;

    impl Backstage for Nowhere {
        fn address(&self) -> Option<SocketAddr> {
            "127.0.0.1:9".parse().ok()
        }

        fn node(&self) -> String {
            String::new()
        }

        fn owner_of(&self, _: &str) -> Option<Principal> {
            None
        }

        fn sign_in(&self, _: &Principal) -> (String, Duration) {
            (String::new(), Duration::ZERO)
        }

        fn browser(&self, _: Option<&str>) -> Option<Principal> {
            None
        }

        fn sign_out(&self, _: &str) -> futures_util::future::LocalBoxFuture<'static, ()> {
            Box::pin(std::future::ready(()))
        }

        fn on_behalf_of(&self, _: &Principal) -> String {
            String::new()
        }

        fn is_open(&self) -> bool {
            false
        }

        fn now_ms(&self) -> u64 {
            0
        }
    }

    #[test]
    fn what_an_answer_means_follows_status_and_code() {
        let kind = |status, code: &str| Trouble::of(status, json!({ "code": code })).kind;
        assert_eq!(kind(401, "unauthorized"), Kind::SignedOut);
        assert_eq!(kind(403, "forbidden"), Kind::Forbidden);
        assert_eq!((kind(404, "not_found"), kind(404, "")), (Kind::NotThere, Kind::NotThere));
        assert_eq!((kind(501, "x"), kind(405, "x")), (Kind::NotThere, Kind::NotThere));
        assert_eq!(kind(404, "unknown_job"), Kind::Unknown);
        assert_eq!((kind(503, "database_unavailable"), kind(504, "x")), (Kind::Away, Kind::Away));
        assert_eq!((kind(409, "last_node"), kind(500, "internal")), (Kind::Refused, Kind::Refused));
    }

    #[test]
    fn trouble_is_told_in_a_line() {
        let trouble = Trouble::of(409, json!({ "title": "No", "detail": "it leads" }));
        assert_eq!(trouble.text(), "No: it leads");
        assert_eq!(Trouble::of(500, Value::Null).text(), "The node answered with status 500");
    }

    #[test]
    fn names_cannot_leave_their_place_in_an_address() {
        for (name, told) in [
            ("nightly-report_1.x", "nightly-report_1.x"),
            ("a/b?c#d&e=f%", "a%2Fb%3Fc%23d%26e%3Df%25"),
            ("ä b", "%C3%A4%20b"),
        ] {
            assert_eq!(encoded(name), told);
        }
        assert_eq!(target("/v1/runs", &[("job", "a&b"), ("state", "")]), "/v1/runs?job=a%26b");
        assert_eq!(target("/v1/runs", &[("state", "")]), "/v1/runs");
    }

    #[test]
    fn a_name_of_dots_is_no_step_upwards() {
        let api = Api::new(Arc::new(Nowhere));
        let asker = Asker { token: "t".to_owned(), browser: "t 127.0.0.1".to_owned() };
        for (name, asked) in [("..", false), (".", false), ("...", true), ("a.b", true)] {
            let target = format!("/v1/users/{}/sessions", encoded(name));
            assert_eq!(api.request(&asker, Method::DELETE, &target).is_ok(), asked, "{name}");
        }
    }
}
