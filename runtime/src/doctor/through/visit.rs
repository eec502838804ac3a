//! The requests that the doctor sends through the balancer.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder};
use rustls::{ClientConfig, RootCertStore};

use super::super::cluster::announce;
use super::super::probes::{HEADER, PATH, Seen};
use super::Url;
use crate::error::chain;
use crate::service::NodeContext;

/// How long one request may take, and one with a large body.
const LIMIT: Duration = Duration::from_secs(3);
const BODY_LIMIT: Duration = Duration::from_secs(10);
/// How often health and a page are asked for.
const TIMES: usize = 10;
/// So many requests for each node that could answer, and in all at most.
const TIMES_A_NODE: usize = 6;
const MOST: usize = 60;
/// So many requests at a time.
const AT_A_TIME: usize = 6;
/// Larger bodies are not tried, bytes.
const LARGEST: usize = 16 << 20;
/// The largest answer of a node that is read, bytes.
const ANSWER: usize = 4_096;

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Visit {
    /// Statuses of `/health/ready`; 0 for no answer.
    pub(super) ready: Vec<u16>,
    /// Statuses of the page.
    pub(super) page: Vec<u16>,
    /// What nodes said that were reached.
    pub(super) seen: Vec<Seen>,
    /// Statuses of whatever else answered in their place; 0 for no answer.
    pub(super) strange: Vec<u16>,
    /// What came of the large body.
    pub(super) body: Option<Body>,
    /// Whether a request for a WebSocket arrived as one; else the status of what answered, 0 for none.
    pub(super) websocket: Option<Result<bool, u16>>,
}

/// A large body and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Body {
    pub(super) sent: usize,
    /// The largest that nodes take.
    pub(super) limit: usize,
    /// How much of it reached a node.
    pub(super) arrived: Option<u64>,
    /// The status of the answer; 0 for none.
    pub(super) status: u16,
}

struct Visitor<'a> {
    client: Client,
    url: &'a Url,
    word: String,
}

/// Sends all requests; fails when none can be sent.
pub(super) async fn visit(node: &NodeContext, url: &Url) -> Result<Visit, String> {
    let client = client()?;
    let word = format!("{:032x}", rand::random::<u128>());
    let told = announce(node, &word).await;
    let visitor = Visitor { client, url, word };
    let mut visit = Visit {
        ready: visitor.statuses("/health/ready").await,
        page: visitor.statuses("/").await,
        ..Visit::default()
    };
    let mut left = (told.max(1) * TIMES_A_NODE).min(MOST);
    while left > 0 {
        let some = left.min(AT_A_TIME);
        left -= some;
        for probed in join_all((0..some).map(|_| visitor.probe())).await {
            match probed {
                Ok(seen) => visit.seen.push(seen),
                Err(status) => visit.strange.push(status),
            }
        }
    }
    // Where no node answers a question, a large one tells nothing.
    if !visit.seen.is_empty() {
        visit.body = Some(visitor.body(node.config.http.body_limit_bytes).await);
        visit.websocket = Some(visitor.websocket().await);
    }
    Ok(visit)
}

impl Visitor<'_> {
    async fn statuses(&self, path: &str) -> Vec<u16> {
        let each = (0..TIMES).map(async |_| {
            let answer = self.client.get(self.url.to(path)).timeout(LIMIT).send().await;
            answer.map_or(0, |answer| answer.status().as_u16())
        });
        join_all(each).await
    }

    async fn probe(&self) -> Result<Seen, u16> {
        let request = self.client.get(self.url.to(PATH)).timeout(LIMIT);
        self.ask(request).await
    }

    async fn body(&self, limit: usize) -> Body {
        let sent = limit.min(LARGEST);
        let request = self.client.post(self.url.to(PATH)).timeout(BODY_LIMIT);
        match self.ask(request.body(vec![b'x'; sent])).await {
            Ok(seen) => Body { sent, limit, arrived: Some(seen.bytes), status: 200 },
            Err(status) => Body { sent, limit, arrived: None, status },
        }
    }

    /// Asks for a WebSocket: the node says how that arrived, and makes none.
    async fn websocket(&self) -> Result<bool, u16> {
        let request = self.client.get(self.url.to(PATH)).timeout(LIMIT);
        let request = request
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dW5kZXJzdHVkeS1kb2N0b3I=");
        self.ask(request).await.map(|seen| seen.websocket)
    }

    /// Gives what a node of this cluster says, or else the status of what answered.
    async fn ask(&self, request: RequestBuilder) -> Result<Seen, u16> {
        let answer = request.header(HEADER, &self.word).send().await;
        let mut answer = answer.map_err(|error| error.status().map_or(0, |it| it.as_u16()))?;
        let status = answer.status().as_u16();
        let mut read = Vec::new();
        while let Ok(Some(chunk)) = answer.chunk().await {
            read.extend_from_slice(&chunk);
            if read.len() > ANSWER {
                return Err(status);
            }
        }
        serde_json::from_slice(&read).map_err(|_| status)
    }
}

/// A client that makes a new connection for each request, so that a balancer can choose anew, and follows nothing.
fn client() -> Result<Client, String> {
    let client = Client::builder()
        .user_agent(concat!("understudy-doctor/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(LIMIT)
        .pool_max_idle_per_host(0)
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .tls_backend_preconfigured(tls()?)
        .build();
    client.map_err(|error| chain(&error))
}

fn tls() -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| chain(&error))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
