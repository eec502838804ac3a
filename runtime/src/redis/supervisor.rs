//! Keeps one connection going: replaces the client when it is silent, lost, superseded or when its server is back.
//!
//! A client is always replaced as a whole. Telling the library to reconnect would wait behind its queue and up to
//! five seconds for the old socket to close, and a queue that lost its reader never flushes again.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use fred::clients::{Client, WithOptions};
use fred::interfaces::{ClientInterface, ClientLike, EventInterface};
use fred::types::Value;
use fred::types::config::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;

use super::health::Health;
use super::settings::{FirstAttempt, Settings};
use super::{AbortOnDrop, sentinel};

/// How often it is looked whether a server that was away answers again.
const PROBE_EVERY: Duration = Duration::from_millis(250);
/// A server that answers, but not as it should, is not asked more often than this.
const REPLACE_AT_MOST_EVERY: Duration = Duration::from_millis(500);
/// A client that is not connected to a server that answers is given so long: more than any handshake takes.
const SIT_OUT_AT_MOST: Duration = Duration::from_secs(3);
/// A connection over which nothing came for so long is asked whether it is alive.
const QUIET: Duration = Duration::from_secs(1);
/// Why a client is replaced that could not connect, or gave up.
const ENDED: &str = "the client ended";

/// The present client of a connection.
pub(super) struct Link {
    commands: ArcSwap<WithOptions<Client>>,
}

impl Link {
    pub(super) fn commands(&self) -> Arc<WithOptions<Client>> {
        self.commands.load_full()
    }

    pub(super) fn client(&self) -> Client {
        Client::clone(&self.commands.load())
    }
}

/// Begins to connect on the present runtime.
pub(super) fn start(
    settings: Settings,
    name: String,
    health: Arc<Health>,
) -> (Arc<Link>, AbortHandle) {
    let client = settings.client(FirstAttempt::AtOnce);
    let link = Arc::new(Link { commands: ArcSwap::from_pointee(settings.commands(&client)) });
    let watch = settings.sentinels.clone().map(|(service, sentinels)| {
        sentinel::Enrolment::join(&service, sentinels, &health, settings.clone())
    });
    let supervisor = Supervisor {
        settings,
        name,
        health,
        link: link.clone(),
        watch,
        answered: true,
        replaced_at: Instant::now(),
        ping: None,
        told: None,
    };
    let task = tokio::spawn(supervisor.run(client));
    (link, task.abort_handle())
}

struct Supervisor {
    settings: Settings,
    name: String,
    health: Arc<Health>,
    link: Arc<Link>,
    watch: Option<sentinel::Enrolment>,
    /// Whether the last look at a server that is away found it answering.
    answered: bool,
    replaced_at: Instant,
    /// The question whether a quiet connection is alive, while it is under way.
    ping: Option<JoinHandle<()>>,
    /// The trouble that was logged last, so that a long outage is one line.
    told: Option<String>,
}

/// What a client tells of itself.
struct Events {
    connects: broadcast::Receiver<Server>,
    errors: broadcast::Receiver<(fred::error::Error, Option<Server>)>,
    end: JoinHandle<Result<(), fred::error::Error>>,
}

impl Events {
    /// Begins to connect; listens first, so that nothing can happen unheard.
    fn of(client: &Client) -> Self {
        Self { connects: client.reconnect_rx(), errors: client.error_rx(), end: client.connect() }
    }
}

enum Step {
    Connected(Server),
    Trouble(String),
    Replace(&'static str),
    Look,
    Nothing,
}

impl Supervisor {
    async fn run(mut self, mut client: Client) {
        if let Some(watch) = &self.watch {
            watch.keep_watching();
        }
        let mut attempt = FirstAttempt::AtOnce;
        loop {
            let events = Events::of(&client);
            let _stop = AbortOnDrop(events.end.abort_handle());
            let reason = self.drive(&client, events).await;
            attempt = if reason == ENDED && attempt == FirstAttempt::AtOnce {
                FirstAttempt::AfterAPause
            } else {
                tracing::info!(redis.client = %self.name, reason, "replacing the connection");
                let early = (self.replaced_at + REPLACE_AT_MOST_EVERY)
                    .saturating_duration_since(Instant::now());
                tokio::time::sleep(early + jitter()).await;
                self.replaced_at = Instant::now();
                FirstAttempt::AtOnce
            };
            client = self.settings.client(attempt);
            self.link.commands.store(Arc::new(self.settings.commands(&client)));
        }
    }

    /// Follows one client until it must be replaced; returns why.
    async fn drive(&mut self, client: &Client, mut events: Events) -> &'static str {
        let mut look = tokio::time::interval_at(Instant::now() + PROBE_EVERY, PROBE_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let step = tokio::select! {
                connected = events.connects.recv() => match connected {
                    Ok(server) => Step::Connected(server),
                    Err(RecvError::Lagged(_)) => Step::Nothing,
                    Err(RecvError::Closed) => Step::Replace("its events ended"),
                },
                error = events.errors.recv() => match error {
                    Ok((error, _)) => Step::Trouble(error.to_string()),
                    Err(_) => Step::Nothing,
                },
                reason = self.health.reconnect_asked() => Step::Replace(reason),
                _ = &mut events.end => Step::Replace(ENDED),
                _ = look.tick() => Step::Look,
            };
            match step {
                Step::Connected(server) => self.connected(client, &server).await,
                Step::Trouble(reason) => self.tell(reason),
                Step::Replace(reason) => return reason,
                Step::Look => {
                    if let Some(reason) = self.look(client).await {
                        return reason;
                    }
                }
                Step::Nothing => {}
            }
        }
    }

    async fn connected(&mut self, client: &Client, server: &Server) {
        // Waits in the queue until the connection is usable, so what hears of the connection can use it.
        let named = if client.is_clustered() {
            client.with_cluster_node(server).client_setname(self.name.as_str()).await
        } else {
            client.client_setname(self.name.as_str()).await
        };
        if let Err(error) = named {
            return self.tell(error.to_string());
        }
        if self.told.take().is_some() || *self.health.connects().borrow() == 0 {
            tracing::info!(redis.client = %self.name, redis.server = %server, "connected to redis");
        }
        self.health.connected();
    }

    fn tell(&mut self, reason: String) {
        if self.told.as_ref() != Some(&reason) {
            tracing::warn!(redis.client = %self.name, %reason, "no connection to redis");
            self.told = Some(reason);
        }
    }

    /// A connection that is not used could be dead for long; the first request should not have to find it out.
    fn ping_if_quiet(&mut self) {
        let under_way = self.ping.as_ref().is_some_and(|ping| !ping.is_finished());
        if !under_way && self.health.is_quiet(Instant::now(), QUIET) {
            self.ping = Some(tokio::spawn(ping(self.link.clone(), self.health.clone())));
        }
    }

    /// Looks, while there is no connection, whether a server began to answer: the back-off of the client may be long.
    async fn look(&mut self, client: &Client) -> Option<&'static str> {
        if let Some(watch) = &self.watch {
            watch.keep_watching();
        }
        if client.is_connected() {
            self.answered = true;
            self.ping_if_quiet();
            return None;
        }
        let before =
            std::mem::replace(&mut self.answered, anybody_answers(&self.settings.hosts()).await);
        // A client whose attempt failed although the server answers would sit out its own back-off.
        let overdue = self.replaced_at.elapsed() >= SIT_OUT_AT_MOST;
        let back = self.answered && (!before || overdue) && !client.is_connected();
        back.then_some("the server answers again")
    }
}

async fn ping(link: Arc<Link>, health: Arc<Health>) {
    match link.commands().ping::<Value>(None).await {
        Ok(_) => health.heard(Instant::now()),
        Err(error) => health.failed(&error, Instant::now()),
    }
}

/// Spreads the connections of many nodes that learnt the same at the same moment.
fn jitter() -> Duration {
    Duration::from_millis(rand::random_range(0..50))
}

async fn anybody_answers(hosts: &[Server]) -> bool {
    for host in hosts {
        if tokio::time::timeout(PROBE_EVERY, answers(host)).await == Ok(true) {
            return true;
        }
    }
    false
}

/// Any reaction is an answer, be it that a password or TLS is wanted; a stopped process shows none.
async fn answers(host: &Server) -> bool {
    let Ok(mut stream) = TcpStream::connect((&*host.host, host.port)).await else {
        return false;
    };
    stream.write_all(b"PING\r\n").await.is_ok() && stream.read(&mut [0; 16]).await.is_ok()
}
