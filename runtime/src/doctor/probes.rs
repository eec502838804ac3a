//! What a node answers to the doctor when he looks at it through the balancer: who it is, and how the request looked from
//! here.
//!
//! Only requests with a word that the doctor has told all nodes shortly before are answered; for all others the path is
//! not there.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HOST, UPGRADE};
use actix_web::web;
use actix_web::{HttpRequest, HttpResponse};
use dashmap::DashMap;
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};

use crate::bus::BusRequest;
use crate::clock::{BootInstant, SharedClock};
use crate::http::client_addr::origin;
use crate::http::problem::Problem;
use crate::ids::NodeId;
use crate::service::NodeContext;

/// Where the doctor asks.
pub(super) const PATH: &str = "/health/understudy-probe";
/// The header with the word.
pub(super) const HEADER: &str = "x-understudy-probe";
/// For how long a word is good.
const GOOD_FOR: Duration = Duration::from_secs(60);
/// So many words are good at a time.
const MOST: usize = 16;

/// The words that are good now; a cheap clone.
#[derive(Clone)]
pub(crate) struct Probes {
    until: Arc<DashMap<String, BootInstant>>,
    clock: SharedClock,
}

/// Tells a node that the doctor will come with this word.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ExpectProbe {
    pub(super) word: String,
}

impl BusRequest for ExpectProbe {
    const NAME: &'static str = "doctor.expect_probe";
    type Reply = bool;
}

/// How a request looked to the node that it reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    /// The name of the node.
    pub(super) node: String,
    /// The address at the other end of the connection.
    pub(super) peer: String,
    /// Who the client is, as far as the proxies are believed.
    pub(super) client: String,
    /// What the proxies say of the client's scheme and host, if they are believed.
    pub(super) scheme: Option<String>,
    pub(super) forwarded_host: Option<String>,
    /// The `Host` of the request itself.
    pub(super) host: String,
    /// Whether it had forwarding headers that were not believed.
    pub(super) ignored: bool,
    /// How long its body was.
    pub(super) bytes: u64,
    /// Whether it asked for a WebSocket, as it arrived.
    #[serde(default)]
    pub(super) websocket: bool,
}

impl Probes {
    pub(crate) fn new(clock: SharedClock) -> Self {
        Self { until: Arc::default(), clock }
    }

    /// Listens to the doctors of all nodes.
    pub(super) fn listen(&self, node: &NodeContext) {
        let probes = self.clone();
        node.bus.handle(move |_from, ExpectProbe { word }| std::future::ready(probes.expect(word)));
    }

    /// Adds the resource to the public port.
    pub(crate) fn configure(&self, app: &mut web::ServiceConfig, node: &NodeId) {
        let (probes, name) = (self.clone(), node.name().as_str().to_owned());
        let handler = move |request: HttpRequest, body: web::Payload| {
            answer(probes.clone(), name.clone(), request, body)
        };
        app.service(
            web::resource(PATH)
                .route(web::get().to(handler.clone()))
                .route(web::post().to(handler))
                .default_service(web::to(|| async { not_there().response() })),
        );
    }

    /// Answers requests with this word for a while; not when too many words are good already.
    fn expect(&self, word: String) -> bool {
        let now = self.clock.now();
        self.until.retain(|_, until| now < *until);
        let room = self.until.len() < MOST && (16..=64).contains(&word.len());
        if room {
            self.until.insert(word, now + GOOD_FOR);
        }
        room
    }

    fn knows(&self, word: &str) -> bool {
        let now = self.clock.now();
        self.until.get(word).is_some_and(|until| now < *until)
    }
}

async fn answer(
    probes: Probes,
    node: String,
    request: HttpRequest,
    mut body: web::Payload,
) -> HttpResponse {
    let word = request.headers().get(HEADER).and_then(|word| word.to_str().ok());
    if !word.is_some_and(|word| probes.knows(word)) {
        return not_there().response();
    }
    let (mut bytes, websocket) = (0, wants_websocket(&request));
    // What comes after such a request is no body, and ends with the connection.
    while let Some(chunk) = if websocket { None } else { body.next().await } {
        match chunk {
            Ok(chunk) => bytes += chunk.len() as u64,
            Err(_) => return Problem::from_status(StatusCode::BAD_REQUEST).response(),
        }
    }
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let origin = origin(&request);
    let peer = request.peer_addr().map_or_else(String::new, |peer| peer.ip().to_string());
    let seen = Seen {
        node,
        peer,
        client: origin.client.to_string(),
        scheme: origin.scheme.map(|scheme| scheme.to_string()),
        forwarded_host: origin.host,
        host: host.to_owned(),
        ignored: origin.ignored,
        bytes,
        websocket,
    };
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(seen)
}

fn wants_websocket(request: &HttpRequest) -> bool {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let is_named = header(UPGRADE).is_some_and(|what| what.eq_ignore_ascii_case("websocket"));
    is_named && request.head().upgrade()
}

fn not_there() -> Problem {
    Problem::from_status(StatusCode::NOT_FOUND)
}

#[cfg(test)]
mod tests {
    use actix_web::App;
    use actix_web::test::{TestRequest, call_service, init_service, read_body_json};

    use super::*;
    use crate::clock::ManualClock;

    const WORD: &str = "0123456789abcdef0123456789abcdef";

    #[actix_web::test]
    async fn h8_only_who_has_the_word_is_told_anything_and_only_for_a_while() {
        let clock = Arc::new(ManualClock::new());
        let probes = Probes::new(clock.clone());
        let node = NodeId::begin("web-1".parse().unwrap());
        let app = init_service(App::new().configure(|app| probes.configure(app, &node))).await;
        let ask = |word: &'static str| {
            TestRequest::post().uri(PATH).insert_header((HEADER, word)).set_payload("12345")
        };
        assert_eq!(call_service(&app, ask(WORD).to_request()).await.status().as_u16(), 404);
        assert!(probes.expect(WORD.to_owned()));
        let answer = call_service(&app, ask(WORD).to_request()).await;
        assert_eq!(answer.status().as_u16(), 200);
        let seen: Seen = read_body_json(answer).await;
        assert_eq!((seen.node.as_str(), seen.bytes), ("web-1", 5));
        assert_eq!(call_service(&app, ask("other").to_request()).await.status().as_u16(), 404);
        clock.advance(GOOD_FOR);
        assert_eq!(call_service(&app, ask(WORD).to_request()).await.status().as_u16(), 404);
    }

    #[test]
    fn h8_words_are_bounded() {
        let probes = Probes::new(Arc::new(ManualClock::new()));
        assert!(!probes.expect("short".to_owned()));
        let taken = (0..40).filter(|n| probes.expect(format!("{n:032x}"))).count();
        assert_eq!(taken, MOST);
    }
}
