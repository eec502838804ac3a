//! A node that runs, and its way out: every step is bounded, none waits for one that does not answer.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::{info, warn};

use super::assembly::{Assembled, Base, Held, first_signs};
use super::checks::Checks;
use super::error::database_error;
use super::gauges::Gauges;
use super::listeners::{Listeners, serve_admin, serve_while_starting};
use super::readiness::Monitor;
use super::{NodeError, Phase, Routes};
use crate::admin::tokens::Tokens;
use crate::admin::{self, AdminState, nodes, tasks};
use crate::config::{Config, DrainMode};
use crate::doctor::{Doctor, Practice, Probes};
use crate::error::chain;
use crate::events::EventKind;
use crate::http::METRICS_PATH;
use crate::http::edge::EdgeContext;
use crate::http::health::{self, Detail};
use crate::http::requests::Requests;
use crate::http::server::{Configure, ServerOptions};
use crate::http::settings::{HttpSettings, Shared};
use crate::membership::{MemberRecord, MemberState, SESSION_KEYS};
use crate::problems::options::Options;
use crate::problems::{Problems, check_admission};
use crate::service::{NodeContext, SERVICE_LIMIT, Service, ServiceError};
use crate::settings::{LOG_FILTER, LOG_TAIL, MAINTENANCE};
use crate::supervise::{Backoff, Stopped, Supervised, spawn};
use crate::telemetry;
use crate::watchdog::Watchdog;

/// How long giving back leases and leaving the cluster may take.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);

/// How long to wait for a moment at which nobody comes.
const HINT_LIMIT: Duration = Duration::from_secs(3);
/// How long requests may take that came at the last moment; longer ones are told that sessions are not to be had here.
const LATE_REQUESTS: Duration = Duration::from_millis(500);
/// How long the workers may take to hear that they stop.
const HEARD: Duration = Duration::from_millis(50);

/// A node that has its addresses and whose admin port answers, and nothing more.
pub(super) struct Booting {
    base: Base,
    listeners: Listeners,
    settings: Shared,
    admin: AdminState,
    probes: Probes,
    watchdog: Watchdog,
}

/// A node that runs.
pub(super) struct Running {
    pub(super) context: NodeContext,
    pub(super) listeners: Listeners,
    pub(super) held: Held,
    services: Vec<Arc<dyn Service>>,
    /// Those of the public port.
    requests: Requests,
    _monitor: Supervised,
    _tokens: Supervised,
    _gauges: Supervised,
    _problems: Supervised,
    _watchdog: Watchdog,
    _followed: [Supervised; 2],
    _relayed: [Supervised; 2],
}

/// What the application brings.
pub(super) struct Brought {
    pub(super) services: Vec<Box<dyn Service>>,
    pub(super) routes: Routes,
    pub(super) checks: Checks,
}

#[cfg(test)]
impl Brought {
    pub(super) fn nothing() -> Self {
        Self { services: Vec::new(), routes: Arc::new(|_| {}), checks: Checks::default() }
    }
}

impl Booting {
    /// Takes the addresses and lets the admin port answer that the node starts.
    pub(super) async fn begin(base: Base) -> Result<Self, NodeError> {
        let mut listeners = Listeners::reserve(&base.config)?;
        let settings = Arc::new(HttpSettings::new(&base.config, &base.node_id));
        let admin = AdminState {
            config: Arc::clone(&base.config),
            node_id: base.node_id.clone(),
            lifecycle: base.lifecycle.clone(),
            clock: Arc::clone(&base.clock),
            started_ms: base.clock.wall_ms(),
            membership: None,
            locks: None,
            services: Vec::new(),
            checks: Checks::default(),
            options: None,
            problems: None,
            doctor: None,
            port: base.admin.clone(),
            context: None,
            tokens: None,
            requests: Requests::new(base.node_id.incarnation()),
            migrations: base.migrations.clone(),
        };
        serve_while_starting(&mut listeners, &settings, &admin).await?;
        info!(
            public = %listeners.public.address,
            admin = listeners.admin.as_ref().map(|port| tracing::field::display(port.address)),
            node.id = %base.node_id,
            version = env!("CARGO_PKG_VERSION"),
            cluster = base.config.cluster.enabled,
            "node is starting"
        );
        let probes = Probes::new(Arc::clone(&base.clock));
        let watchdog = Watchdog::begin(Arc::clone(&base.clock));
        Ok(Self { base, listeners, settings, admin, probes, watchdog })
    }

    #[cfg(test)]
    pub(super) fn addresses(&self) -> (std::net::SocketAddr, std::net::SocketAddr) {
        let admin = self.listeners.admin.as_ref().expect("tests have an admin port");
        (self.listeners.public.address, admin.address)
    }

    /// Starts everything else, in order; the node is ready when this returns.
    pub(super) async fn bring_up(
        mut self,
        Brought { mut services, routes, checks }: Brought,
    ) -> Result<Running, NodeError> {
        let record = self.record();
        let migrations: Vec<_> = services.iter().flat_map(|service| service.migrations()).collect();
        // Boxed: the states of all these steps together are larger than what a small stack holds.
        let assembling = Box::pin(self.base.assemble(record, &migrations));
        let Assembled { context, held } = assembling.await?;
        let alike = Options::start(&context);
        let admission = Box::pin(check_admission(&context, &alike)).await;
        admission.map_err(NodeError::Configuration)?;
        // Before the services: they may follow settings.
        let followed = follow(&context).await?;
        admin::requests::listen(&context.bus, &self.admin.requests);
        admin::actors::listen(&context);
        admin::caches::listen(&context);
        let relayed = context.caches.relay(&context.database);
        // Before the services: the one that schedules looks for duties when it starts.
        let keep = self.base.config.admin.audit_keep;
        context.duties.add(admin::audit::purging(&context.database, keep));
        for service in &mut services {
            start_service(service.as_mut(), &context).await?;
        }
        let (database, events) = (context.database.clone(), context.events.clone());
        context.admin.audit().write_to(database, events, context.node_id.to_string());
        let (tokens, tokens_task) = Tokens::start(&context).await;
        first_signs(&context).await;
        let services: Vec<Arc<dyn Service>> = services.into_iter().map(Arc::from).collect();
        let mut monitor = Monitor::new(context.clone(), services.clone(), checks.clone());
        let reasons = monitor.ask().await;
        self.admin.membership = Some(context.membership.clone());
        self.admin.locks = Some(context.locks.clone());
        self.admin.services.clone_from(&services);
        self.admin.context = Some(context.clone());
        self.admin.tokens = Some(tokens);
        self.admin.checks = checks;
        let names = migrations.iter().map(|migration| migration.name().to_owned()).collect();
        let problems_task = self.observe(&context, alike, names);
        let options = options(&self.base.config);
        serve_admin(&mut self.listeners, options, &self.settings, self.admin.clone()).await?;
        let requests = self.serve_public(options, &context, &services, routes).await?;
        context.lifecycle.set_reasons(reasons);
        context.lifecycle.enter(Phase::Running);
        context.membership.set_state(MemberState::Ready);
        let pauses = self.watchdog.pauses();
        nodes::listen(&context.bus, nodes::Here::new(&context, &services, &requests, pauses));
        let running = Running {
            _monitor: watch(monitor),
            _tokens: tokens_task,
            _gauges: look(Gauges::new(context.clone(), requests.clone())),
            _problems: problems_task,
            _watchdog: self.watchdog,
            _followed: followed,
            _relayed: relayed,
            listeners: self.listeners,
            context,
            held,
            services,
            requests,
        };
        info!(node.id = %running.context.node_id, "node has started");
        Ok(running)
    }

    /// Begins to look for what is wrong; `migrations` are those of the services. By now every pool is made, and every
    /// node that lives is known.
    fn observe(
        &mut self,
        context: &NodeContext,
        alike: Options,
        migrations: Vec<String>,
    ) -> Supervised {
        let (services, checks) = (self.admin.services.clone(), self.admin.checks.clone());
        let (requests, pauses) = (&self.admin.requests, self.watchdog.pauses());
        tasks::listen(&context.bus, tasks::Sources::new(context, &services, requests, pauses));
        let started = Problems::start(context, services.clone(), checks.clone(), alike.clone());
        let (problems, task) = started;
        let events = context.events.clone();
        problems.on_change(move || events.send(EventKind::Problems));
        self.admin.doctor = Some(Doctor::start(Practice {
            node: context.clone(),
            services,
            checks,
            options: alike.clone(),
            problems: problems.clone(),
            probes: self.probes.clone(),
            migrations,
            turn: tokio::sync::Mutex::default(),
        }));
        self.admin.options = Some(alike);
        self.admin.problems = Some(problems);
        task
    }

    async fn serve_public(
        &mut self,
        options: ServerOptions,
        context: &NodeContext,
        services: &[Arc<dyn Service>],
        routes: Routes,
    ) -> Result<Requests, NodeError> {
        let (membership, requests) = (context.membership.clone(), self.admin.requests.clone());
        let edge = EdgeContext {
            settings: Arc::clone(&self.settings),
            lifecycle: context.lifecycle.clone(),
            requests: requests.clone(),
            others_ready: Some(Arc::new(move || membership.others_ready())),
            gate: None,
            maintenance: Some(context.maintenance.clone()),
            wraps: services.iter().filter_map(|service| service.web_wrap()).collect(),
        };
        let (node, services, probes) = (context.clone(), services.to_vec(), self.probes.clone());
        let metrics = node.config.metrics.enabled && node.config.metrics.public;
        let configure: Configure = Arc::new(move |app| {
            health::configure(app, &node.lifecycle, Detail::Word);
            probes.configure(app, &node.node_id);
            node.maintenance.configure(app);
            if metrics {
                app.route(METRICS_PATH, actix_web::web::get().to(admin::metrics));
            }
            app.app_data(node.clone());
            for service in &services {
                service.web(app);
            }
            routes(app);
        });
        self.listeners.public.serve(options, edge, configure).await?;
        Ok(requests)
    }

    fn record(&self) -> MemberRecord {
        let config = &self.base.config;
        MemberRecord {
            id: self.base.node_id.clone(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            pid: std::process::id(),
            started_ms: self.admin.started_ms,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            public_addr: self.listeners.public.address.to_string(),
            admin_addr: self.listeners.admin.as_ref().map(|port| port.address.to_string()),
            state: MemberState::Starting,
            drained: None,
            labels: config.node.labels.clone(),
            config_hash: config.fingerprint(),
            secret_keys: config
                .session
                .secret
                .iter()
                .map(|key| key.fingerprint(SESSION_KEYS))
                .collect(),
        }
    }
}

impl Running {
    /// Stops: asks the balancer to send no more, waits for it, answers what is under way, hands over, leaves.
    ///
    /// The services finish while the server's workers still live, since actors live on their threads; and the leases are
    /// given back when nothing is under way any more, without waiting for clients that are slow to close.
    pub(super) async fn stop(mut self) {
        info!("node is draining");
        self.context.lifecycle.enter(Phase::Draining);
        self.context.membership.update(|record| {
            record.state = MemberState::Draining;
            // It goes, whoever had it out of service.
            record.drained = None;
        });
        tokio::join!(self.drain_services(), tokio::time::sleep(self.drain_delay()));
        self.nobody_comes().await;
        info!("node takes no more connections");
        self.context.lifecycle.enter(Phase::Stopping);
        self.listeners.public.close().await;
        let all_answered = none_under_way(&self.requests, &self.context.config).await;
        self.context.caches.end_loads();
        // Before the services hand over: what they own is nobody's from then until the leases are given back.
        self.nobody_comes().await;
        for service in self.services.iter().rev() {
            bounded(service.name(), service.stop_limit(), service.stop()).await;
        }
        tokio::join!(finish(&mut self.listeners, &self.context.config, all_answered), async {
            // Until the workers have heard that they stop, requests may still begin on connections that were kept. They
            // get a moment only: meanwhile nobody in the cluster can write what this node owns.
            tokio::time::sleep(HEARD).await;
            if all_answered {
                timeout(LATE_REQUESTS, self.requests.none_under_way()).await.ok();
            }
            bounded("leases", LEAVE_LIMIT, self.context.lease.release()).await;
        });
        bounded("membership", LEAVE_LIMIT, Box::pin(self.context.membership.leave())).await;
        if let Some(admin) = &mut self.listeners.admin {
            bounded("admin", LEAVE_LIMIT, admin.stop()).await;
        }
        self.context.caches.end();
        info!("node has stopped");
    }

    /// Waits for a moment at which no request of a balancer that watches answers can be on its way here.
    async fn nobody_comes(&self) {
        let config = &self.context.config;
        if config.cluster.enabled && config.ops.drain_mode == DrainMode::PassiveLb {
            // Whoever still comes after that takes no hint.
            timeout(HINT_LIMIT, self.requests.nobody_comes()).await.ok();
        }
    }

    /// Returns how long all of [`stop`](Self::stop) may take at most.
    pub(super) fn stop_limit(&self) -> Duration {
        let ops = &self.context.config.ops;
        let draining = SERVICE_LIMIT * u32::try_from(self.services.len()).unwrap_or(u32::MAX);
        ops.drain_delay.max(draining)
            + ops.drain_timeout * 2
            + self.services.iter().map(|service| service.stop_limit()).sum::<Duration>()
            + HINT_LIMIT * 2
            + LEAVE_LIMIT * 5
    }

    async fn drain_services(&self) {
        for service in self.services.iter().rev() {
            bounded(service.name(), SERVICE_LIMIT, service.drain()).await;
        }
    }

    /// A node that is alone has nobody who could take its requests: waiting would help nobody.
    fn drain_delay(&self) -> Duration {
        let config = &self.context.config;
        if config.cluster.enabled { config.ops.drain_delay } else { Duration::ZERO }
    }
}

fn options(config: &Config) -> ServerOptions {
    ServerOptions {
        workers: config.http.workers,
        keep_alive: config.http.keep_alive,
        drain_timeout: config.ops.drain_timeout,
        stalled_reader: config.http.stalled_reader,
    }
}

/// Puts the settings in force, as they are in the database, and follows them and what happens in the cluster.
async fn follow(context: &NodeContext) -> Result<[Supervised; 2], NodeError> {
    let events = context.events.connect(&context.bus, &context.membership);
    let settings = &context.settings;
    let maintenance = context.maintenance.clone();
    settings.applies(&MAINTENANCE, move |notice| maintenance.apply(notice));
    let usual = settings.default_of(&LOG_FILTER);
    settings.applies(&LOG_FILTER, move |filter| match telemetry::set_filter(filter) {
        Ok(()) => {}
        // An application that writes its own lines does so as it likes.
        Err(error) if *filter != *usual => {
            warn!(error = chain(&error), "the log filter has no effect here");
        }
        Err(_) => {}
    });
    settings.applies(&LOG_TAIL, |word| telemetry::tail::of_process().switch(word == "on"));
    let settings = settings.start(&context.lifecycle).await;
    Ok([events, settings.map_err(|error| database_error(&error))?])
}

async fn start_service(service: &mut dyn Service, context: &NodeContext) -> Result<(), NodeError> {
    let name = service.name();
    let mut backoff = Backoff::default();
    let mut told = String::new();
    loop {
        context.lifecycle.waits_for(name, "starting");
        match service.start(context).await {
            Ok(()) => return Ok(()),
            Err(ServiceError::Retryable(why)) => {
                if why != told {
                    warn!(service = name, error = why, "the service cannot start yet");
                }
                context.lifecycle.waits_for(name, why.clone());
                told = why;
                tokio::time::sleep(backoff.pause()).await;
            }
            Err(ServiceError::Configuration(why)) => return Err(NodeError::Configuration(why)),
            Err(error @ ServiceError::Failed { .. }) => {
                return Err(NodeError::Failed(format!("{name} did not start: {}", chain(&error))));
            }
        }
    }
}

fn watch(monitor: Monitor) -> Supervised {
    spawn("readiness", move || {
        let monitor = monitor.clone();
        async move {
            monitor.run().await;
            Stopped::Asked
        }
    })
}

fn look(gauges: Gauges) -> Supervised {
    spawn("gauges", move || {
        let gauges = gauges.clone();
        async move {
            gauges.run().await;
            Stopped::Asked
        }
    })
}

/// Waits for the requests under way, as long as they may take; returns whether all were answered.
async fn none_under_way(requests: &Requests, config: &Config) -> bool {
    bounded("requests", config.ops.drain_timeout, requests.none_under_way()).await
}

/// Closes the connections; those whose requests had all the time there is are not waited for once more.
async fn finish(listeners: &mut Listeners, config: &Config, gracefully: bool) {
    // The server's own limit comes first; this one is for a server that does not keep it.
    let limit = config.ops.drain_timeout + LEAVE_LIMIT;
    bounded("connections", limit, listeners.public.finish(gracefully)).await;
}

/// Takes a step, for so long at most; returns whether it was finished.
async fn bounded(what: &str, limit: Duration, step: impl Future<Output = ()>) -> bool {
    let finished = timeout(limit, step).await.is_ok();
    if !finished {
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        warn!(step = what, limit_ms, "a step of stopping took too long and was left behind");
    }
    finished
}
