//! A browser without a window: keeps cookies, and shows all of what a node answered.
//!
//! Cookies belong to a host, not to a port, so that nodes on different ports of 127.0.0.1 share
//! them as nodes behind a balancer do. They are kept by hand: a jar would hold back `Secure` and
//! `__Host-` cookies on plain HTTP, while the tests play the balancer that ends TLS.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use reqwest::header::{COOKIE, HeaderMap, SET_COOKIE};
use reqwest::{Method, RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

const TIMEOUT: Duration = Duration::from_secs(30);

/// A client with its cookies; clones share them, so that parallel requests belong to one session.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    token: Option<String>,
    cookies: Arc<RwLock<BTreeMap<String, String>>>,
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl Client {
    /// Makes a client without cookies that waits 30 s for an answer and follows no redirection.
    pub fn new() -> Self {
        Self::with_timeout(TIMEOUT)
    }

    /// Makes a client that waits this long for an answer.
    pub fn with_timeout(timeout: Duration) -> Self {
        // Nothing is encrypted here, but the library does not begin without knowing how it would be done.
        rustls::crypto::ring::default_provider().install_default().ok();
        let http = reqwest::Client::builder()
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tcp_nodelay(true)
            // Nobody speaks TLS here, and to read the roots of the system takes longer than many a request.
            .tls_certs_only([])
            .build()
            .expect("a client without TLS needs nothing");
        Self { http, token: None, cookies: Arc::default() }
    }

    /// Sends this token with all requests from now on, as an operator does.
    #[must_use]
    pub fn bearing(self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self }
    }

    /// Makes a second browser: same connections, no cookies.
    #[must_use]
    pub fn stranger(&self) -> Self {
        Self { cookies: Arc::default(), ..self.clone() }
    }

    /// Makes a second browser that starts with today's cookies and then goes its own way.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { cookies: Arc::new(RwLock::new(self.cookies())), ..self.clone() }
    }

    /// All cookies by name.
    pub fn cookies(&self) -> BTreeMap<String, String> {
        self.cookies.read().expect("no holder panics").clone()
    }

    /// Sets one cookie by hand.
    pub fn set_cookie(&self, name: &str, value: &str) {
        self.change(|cookies| drop(cookies.insert(name.to_owned(), value.to_owned())));
    }

    /// Forgets all cookies.
    pub fn clear_cookies(&self) {
        self.change(BTreeMap::clear);
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, String>)) {
        change(&mut self.cookies.write().expect("no holder panics"));
    }

    /// GET of `base` + `path`.
    ///
    /// # Errors
    /// No answer: connection refused or broken, or too late. A status of any kind is an answer.
    pub async fn get(&self, base: &str, path: &str) -> Result<Answer, reqwest::Error> {
        self.send(self.build(Method::GET, base, path)).await
    }

    /// POST without a body.
    ///
    /// # Errors
    /// Like [`get`](Self::get).
    pub async fn post(&self, base: &str, path: &str) -> Result<Answer, reqwest::Error> {
        self.send(self.build(Method::POST, base, path)).await
    }

    /// POST of a value as JSON.
    ///
    /// # Errors
    /// Like [`get`](Self::get).
    pub async fn post_json<T: Serialize + ?Sized + Sync>(
        &self,
        base: &str,
        path: &str,
        body: &T,
    ) -> Result<Answer, reqwest::Error> {
        self.send(self.build(Method::POST, base, path).json(body)).await
    }

    /// PUT of a value as JSON.
    ///
    /// # Errors
    /// Like [`get`](Self::get).
    pub async fn put_json<T: Serialize + ?Sized + Sync>(
        &self,
        base: &str,
        path: &str,
        body: &T,
    ) -> Result<Answer, reqwest::Error> {
        self.send(self.build(Method::PUT, base, path).json(body)).await
    }

    /// DELETE.
    ///
    /// # Errors
    /// Like [`get`](Self::get).
    pub async fn delete(&self, base: &str, path: &str) -> Result<Answer, reqwest::Error> {
        self.send(self.build(Method::DELETE, base, path)).await
    }

    /// Begins a request with the cookies, for headers and bodies of any kind; then [`send`](Self::send).
    pub fn build(&self, method: Method, base: &str, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{base}{path}"));
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let cookies: Vec<String> =
            self.cookies().iter().map(|(name, value)| format!("{name}={value}")).collect();
        if cookies.is_empty() { request } else { request.header(COOKIE, cookies.join("; ")) }
    }

    /// Sends a request and keeps the cookies of the answer.
    ///
    /// # Errors
    /// Like [`get`](Self::get).
    pub async fn send(&self, request: RequestBuilder) -> Result<Answer, reqwest::Error> {
        let answer = Answer::read(request.send().await?).await?;
        self.change(|cookies| answer.set_cookies().iter().for_each(|line| keep(cookies, line)));
        Ok(answer)
    }
}

/// Follows one `Set-Cookie` line; an empty value or an age of nothing removes the cookie.
fn keep(cookies: &mut BTreeMap<String, String>, line: &str) {
    let mut parts = line.split(';').map(str::trim);
    let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
        return;
    };
    let expired = parts.any(|attribute| {
        let attribute = attribute.to_ascii_lowercase();
        attribute == "max-age=0"
            || attribute.starts_with("max-age=-")
            || (attribute.starts_with("expires=") && attribute.contains(" 1970 "))
    });
    if expired || value.is_empty() {
        cookies.remove(name);
    } else {
        cookies.insert(name.to_owned(), value.to_owned());
    }
}

/// A complete answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// The body as text; bytes that are not UTF-8 are replaced.
    pub text: String,
}

impl Answer {
    async fn read(response: Response) -> Result<Self, reqwest::Error> {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        Ok(Self { status, headers, text: response.text().await? })
    }

    /// Demands a status; fails the test with the whole answer otherwise.
    pub fn expect(self, status: u16) -> Self {
        assert!(self.status == status, "status {} instead of {status}: {self:?}", self.status);
        self
    }

    /// The body as a value.
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{error} in the answer {self:?}"))
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The node that answered, as it names itself with `UNDERSTUDY_HTTP_EXPOSE_NODE`.
    pub fn node(&self) -> Option<&str> {
        self.header("x-understudy-node")
    }

    /// The `Set-Cookie` lines.
    pub fn set_cookies(&self) -> Vec<String> {
        let lines = self.headers.get_all(SET_COOKIE).iter();
        lines.map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_kept_replaced_and_removed() {
        let mut cookies = BTreeMap::new();
        keep(&mut cookies, "__Host-usid=a.b; Path=/; Secure; HttpOnly; Max-Age=60");
        keep(&mut cookies, "other=1");
        keep(&mut cookies, "__Host-usid=c.d==; Path=/");
        assert_eq!(cookies.get("__Host-usid").map(String::as_str), Some("c.d=="));
        keep(&mut cookies, "__Host-usid=; Max-Age=0; Path=/");
        assert_eq!(cookies.keys().collect::<Vec<_>>(), ["other"]);
    }
}
