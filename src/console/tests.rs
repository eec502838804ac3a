//! The console as a browser meets it, with a made-up API behind it.

use reqwest::header::{CONTENT_SECURITY_POLICY, COOKIE, LOCATION, SET_COOKIE};
use reqwest::{Client, Response};
use understudy_runtime::admin::Role;

use super::stub::{HOSTILE, Mood, Stub};
use super::{actions, assets};

mod doing;
mod door;
mod pages;

/// All pages, each with something to show.
pub(super) const PAGES: [&str; 40] = [
    "/console",
    "/console/problems",
    "/console/problems/doctor?node=hamlet",
    "/console/nodes",
    "/console/nodes/hamlet",
    "/console/nodes/horatio",
    "/console/nodes/hamlet/config",
    "/console/nodes/hamlet/tasks",
    "/console/config",
    "/console/migrations",
    "/console/leader",
    "/console/jobs",
    "/console/jobs/nightly-report",
    "/console/jobs/nightly-report?at=2026-11-25T02:30",
    "/console/jobs/nightly-report/edit",
    "/console/new-job",
    "/console/schedule?expression=30+2+*+*+*",
    "/console/runs?job=nightly-report&state=failed&state=lost",
    "/console/tasks",
    "/console/runs/4812",
    "/console/runs/4811",
    "/console/sessions?user=yorick",
    "/console/sessions/9f86d0818884c7d659a2feaa0c55ad00",
    "/console/settings",
    "/console/maintenance",
    "/console/actors?node=hamlet",
    "/console/actors?type=session&id=9f86d0818884c7d659a2feaa0c55ad00",
    "/console/requests",
    "/console/log",
    "/console/files",
    "/console/files?space=avatars",
    "/console/files?unused=yes",
    "/console/locks",
    "/console/caches",
    "/console/audit",
    "/console/tokens",
    "/console/do/nodes.drain?name=hamlet",
    "/console/do/sessions.end_user?user=yorick",
    "/console/do/tokens.create",
    "/console/do/jobs.run?name=nightly-report",
];

/// A browser that follows nothing by itself.
pub(super) struct Browser {
    client: Client,
    stub: Stub,
    cookies: String,
}

/// What a page answered.
pub(super) struct Seen {
    pub(super) status: u16,
    pub(super) location: String,
    pub(super) cookies: Vec<String>,
    pub(super) policy: String,
    pub(super) body: String,
}

impl Browser {
    /// Somebody who has not signed in.
    pub(super) fn outside(mood: Mood) -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let client = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let client = client.build().unwrap();
        Self { client, stub: Stub::start(mood), cookies: String::new() }
    }

    /// Somebody who has signed in.
    pub(super) fn inside(mood: Mood, role: Role) -> Self {
        Self { cookies: format!("us_console=sealed-{role}"), ..Self::outside(mood) }
    }

    pub(super) fn with_cookie(mut self, cookie: &str) -> Self {
        self.cookies = format!("{}; {cookie}", self.cookies);
        self
    }

    pub(super) async fn get(&self, path: &str) -> Seen {
        self.get_with(path, &[]).await
    }

    pub(super) async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Seen {
        let mut request = self.client.get(self.stub.url(path)).header(COOKIE, &self.cookies);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Seen::of(request.send().await.unwrap()).await
    }

    pub(super) async fn post(&self, path: &str, form: &[(&str, &str)]) -> Seen {
        let form: Vec<String> = form
            .iter()
            .map(|(name, value)| format!("{name}={}", super::api::encoded(value)))
            .collect();
        let request = self
            .client
            .post(self.stub.url(path))
            .header(COOKIE, &self.cookies)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.join("&"));
        Seen::of(request.send().await.unwrap()).await
    }
}

impl Seen {
    async fn of(response: Response) -> Self {
        let header = |name: reqwest::header::HeaderName| {
            let value = response.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let cookies = response.headers().get_all(SET_COOKIE).iter();
        Self {
            status: response.status().as_u16(),
            location: header(LOCATION),
            policy: header(CONTENT_SECURITY_POLICY),
            cookies: cookies.filter_map(|cookie| Some(cookie.to_str().ok()?.to_owned())).collect(),
            body: response.text().await.unwrap(),
        }
    }

    /// The cookie that was set under a name, with all its attributes.
    pub(super) fn cookie(&self, name: &str) -> &str {
        let found = self.cookies.iter().find(|cookie| cookie.starts_with(&format!("{name}=")));
        found.map(String::as_str).unwrap_or_default()
    }
}
