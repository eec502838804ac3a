//! The way to the admin port of a node: one request at a time, each bounded in time.
//!
//! No redirect is followed and no proxy is used: the token is for the node that was named and nobody else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER,
};
use reqwest::redirect::Policy;
use reqwest::{Method, RequestBuilder, Response, Url};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::time::timeout;
use understudy_runtime::error::chain;
use understudy_runtime::secret::Secret;

use super::failure::Failure;
use super::problem::Problem;

/// The largest problem document that is read.
const LARGEST_PROBLEM: usize = 1 << 20;

/// Where a node is asked, as whom, and how long it may take to answer.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    /// Without a slash at the end.
    base: String,
    token: Option<Secret<String>>,
    /// How long the node may take to begin to answer, and between two parts of the answer.
    patience: Duration,
}

/// What a node is asked.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Request {
    pub(super) method: &'static str,
    /// Already encoded.
    pub(super) path: String,
    pub(super) query: BTreeMap<&'static str, String>,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Option<Vec<u8>>,
}

impl Request {
    /// Asks for something.
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self { method: "GET", path: path.into(), ..Self::default() }
    }

    /// Path and query, as they are sent.
    pub(super) fn target(&self) -> String {
        let pairs: Vec<String> =
            self.query.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        match pairs.is_empty() {
            true => self.path.clone(),
            false => format!("{}?{}", self.path, pairs.join("&")),
        }
    }
}

/// Writes a text so that it can stand in a path or a query: as one segment, as one value.
pub(super) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Reads the address of an admin port; a path may follow when it lies behind a balancer.
pub(super) fn base_of(url: &str) -> Result<String, String> {
    let right = "must be the address of an admin port, such as http://127.0.0.1:9090";
    let parsed = Url::parse(url.trim()).map_err(|_| right.to_owned())?;
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
        return Err(right.to_owned());
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(format!(
            "{right}; a token belongs into UNDERSTUDY_TOKEN_FILE or UNDERSTUDY_TOKEN"
        ));
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(format!("{right}, without `?` and `#`"));
    }
    Ok(parsed.as_str().trim_end_matches('/').to_owned())
}

impl Client {
    /// Makes a client; nothing is connected yet.
    pub(super) fn new(
        base: String,
        token: Option<Secret<String>>,
        patience: Duration,
    ) -> Result<Self, Failure> {
        let failed =
            |error: String| Failure::Configuration(format!("no client can be made: {error}"));
        let tls = tls(base.starts_with("https:")).map_err(|error| failed(chain(&error)))?;
        let http = reqwest::Client::builder()
            .user_agent(concat!("understudy-cli/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(patience)
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .tls_backend_preconfigured(tls)
            .build()
            .map_err(|error| failed(chain(&error)))?;
        Ok(Self { http, base, token, patience })
    }

    /// Where the node is.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// How long a node may take.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Sends a request; an answer that is a problem is a failure.
    pub(super) async fn send(&self, request: &Request) -> Result<Answer, Failure> {
        let mut building = self.building(request)?;
        if let Some(body) = &request.body {
            building = building.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        let sent = timeout(self.patience, building.send()).await.map_err(|_| self.silent())?;
        self.answered(sent).await
    }

    /// Sends a request whose body comes piece by piece, of this length if that is known. How long that may take is decided
    /// by the caller, who sees how far it is.
    pub(super) async fn stream(
        &self,
        request: &Request,
        body: reqwest::Body,
        length: Option<u64>,
    ) -> Result<Answer, Failure> {
        let mut building = self.building(request)?.body(body);
        if let Some(length) = length {
            building = building.header(CONTENT_LENGTH, length);
        }
        self.answered(building.send().await).await
    }

    fn building(&self, request: &Request) -> Result<RequestBuilder, Failure> {
        let method =
            Method::from_bytes(request.method.as_bytes()).expect("the table has methods only");
        let mut building = self.http.request(method, format!("{}{}", self.base, request.target()));
        building = building.header(ACCEPT, "application/json, application/problem+json, */*");
        if let Some(token) = &self.token {
            building = building.header(AUTHORIZATION, bearer(token)?);
        }
        for (name, value) in &request.headers {
            building = building.header(*name, value);
        }
        Ok(building)
    }

    async fn answered(&self, sent: reqwest::Result<Response>) -> Result<Answer, Failure> {
        let response = sent.map_err(|error| self.unreachable(error))?;
        let mut answer = Answer { response, client: self.clone() };
        match answer.response.status().as_u16() {
            200..=299 => Ok(answer),
            300..=399 => Err(self.stranger("it sends elsewhere, which a node never does")),
            status => Err(answer.problem(status).await?),
        }
    }

    /// Sends a request whose answer is JSON.
    pub(super) async fn json(&self, request: &Request) -> Result<Value, Failure> {
        let bytes = self.send(request).await?.bytes().await?;
        serde_json::from_slice(&bytes).map_err(|_| self.stranger("it did not answer with JSON"))
    }

    /// Somebody answered who is no node.
    pub(super) fn stranger(&self, why: &str) -> Failure {
        Failure::Unreachable {
            url: self.base.clone(),
            why: format!("this is no admin port: {why}"),
        }
    }

    /// It took too long.
    pub(super) fn silent(&self) -> Failure {
        let waited = humantime::format_duration(self.patience);
        let why = format!("no answer within {waited} (--timeout)");
        Failure::Unreachable { url: self.base.clone(), why }
    }

    fn unreachable(&self, error: reqwest::Error) -> Failure {
        // The address is told anyway.
        let why = chain(&error.without_url());
        Failure::Unreachable { url: self.base.clone(), why }
    }
}

/// An answer that has begun.
#[derive(Debug)]
pub(super) struct Answer {
    response: Response,
    client: Client,
}

impl Answer {
    /// Whether it is a part of what was asked for.
    pub(super) fn is_part(&self) -> bool {
        self.response.status() == reqwest::StatusCode::PARTIAL_CONTENT
    }

    /// The next part; `None` at the end.
    pub(super) async fn part(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        self.part_within(self.client.patience).await
    }

    /// The next part, which may take so long.
    pub(super) async fn part_within(
        &mut self,
        patience: Duration,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let part =
            timeout(patience, self.response.chunk()).await.map_err(|_| self.client.silent())?;
        let part = part.map_err(|error| self.client.unreachable(error))?;
        Ok(part.map(|bytes| bytes.to_vec()))
    }

    /// All of it.
    pub(super) async fn bytes(mut self) -> Result<Vec<u8>, Failure> {
        let mut all = Vec::new();
        while let Some(part) = self.part().await? {
            all.extend_from_slice(&part);
        }
        Ok(all)
    }

    async fn problem(&mut self, status: u16) -> Result<Failure, Failure> {
        let wait = self
            .response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let mut raw = Vec::new();
        while raw.len() < LARGEST_PROBLEM
            && let Some(part) = self.part().await?
        {
            raw.extend_from_slice(&part);
        }
        Ok(Failure::Refused(Box::new(Problem::of(status, wait, raw))))
    }
}

fn bearer(token: &Secret<String>) -> Result<HeaderValue, Failure> {
    let wrong = || {
        Failure::Configuration(
            "the token must consist of printable ASCII characters without blanks".to_owned(),
        )
    };
    if !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong());
    }
    let mut value =
        HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(|_| wrong())?;
    value.set_sensitive(true);
    Ok(value)
}

/// TLS with the authorities of the system, or of `SSL_CERT_FILE`; they are read only where they are needed.
fn tls(is_needed: bool) -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    if is_needed {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_so_that_they_stay_one_segment() {
        for (name, written) in [
            ("node-a.b_1~", "node-a.b_1~"),
            ("a/b", "a%2Fb"),
            ("a b?c#d%", "a%20b%3Fc%23d%25"),
            ("ø", "%C3%B8"),
            ("", ""),
        ] {
            assert_eq!(encoded(name), written);
        }
        let mut request = Request::get("/v1/runs");
        assert_eq!(request.target(), "/v1/runs");
        request.query.insert("state", "dead,lost".to_owned());
        request.query.insert("job", "a&b".to_owned());
        assert_eq!(request.target(), "/v1/runs?job=a%26b&state=dead%2Clost");
    }

    #[test]
    fn the_address_of_an_admin_port_is_a_url_without_credentials() {
        for (given, base) in [
            ("http://127.0.0.1:9090", "http://127.0.0.1:9090"),
            ("http://node-a:9090/", "http://node-a:9090"),
            ("https://ops.example/understudy/", "https://ops.example/understudy"),
            ("http://[::1]:9090", "http://[::1]:9090"),
        ] {
            assert_eq!(base_of(given).unwrap(), base);
        }
        for wrong in [
            "127.0.0.1:9090",
            "localhost:9090",
            "",
            "ftp://a",
            "http://u:secret@a",
            "http://a/?x=1",
            "http://a/#b",
        ] {
            let told = base_of(wrong).unwrap_err();
            assert!(told.contains("http://127.0.0.1:9090") && !told.contains("secret"), "{told}");
        }
    }

    #[test]
    fn a_token_that_cannot_be_sent_is_told_without_it() {
        for wrong in ["two words", "ä-umlaut", "line\nend"] {
            let failure = bearer(&Secret::new(wrong.to_owned())).unwrap_err();
            assert_eq!(failure.status(), 78);
            assert!(!failure.to_string().contains(wrong));
        }
        assert!(bearer(&Secret::new("fine".to_owned())).unwrap().is_sensitive());
    }
}
