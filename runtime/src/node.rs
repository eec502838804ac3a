//! A node from its first line to its last: both listeners, the start of everything in order, and the drain.
//!
//! This is the composition root of the runtime. It names no capability: those come in through
//! [`crate::service::Service`].

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web;

use crate::config::Config;
use crate::service::{Health, NodeContext, Service};

mod assembly;
pub(crate) mod checks;
mod error;
mod gauges;
mod lifecycle;
mod listeners;
mod notify;
mod process;
mod readiness;
mod running;
#[cfg(test)]
mod tests;

use assembly::Base;
use checks::{Checks, Named};
use running::{Booting, Brought, Running};

pub use checks::HealthCheck;
pub use error::NodeError;
pub use lifecycle::{Lifecycle, Phase, Reason};

/// Adds an application's routes; called once on each worker thread.
type Routes = Arc<dyn Fn(&mut web::ServiceConfig) + Send + Sync>;

/// Puts a node together.
pub struct NodeBuilder {
    config: Config,
    services: Vec<Box<dyn Service>>,
    routes: Routes,
    checks: Vec<Arc<dyn HealthCheck>>,
}

impl NodeBuilder {
    /// Begins with the options of the node.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config, services: Vec::new(), routes: Arc::new(|_| {}), checks: Vec::new() }
    }

    /// Adds a service; services start in the order they were added and stop in the reverse order.
    #[must_use]
    pub fn service(mut self, service: impl Service) -> Self {
        self.services.push(Box::new(service));
        self
    }

    /// Adds the application's routes to the public port, after those of the services.
    #[must_use]
    pub fn routes(
        mut self,
        routes: impl Fn(&mut web::ServiceConfig) + Send + Sync + 'static,
    ) -> Self {
        self.routes = Arc::new(routes);
        self
    }

    /// Adds a part of the application whose health counts; see [`HealthCheck`] for what `name` may be and what comes of
    /// the answers.
    #[must_use]
    pub fn health<F, Fut>(self, name: &str, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Health> + Send + 'static,
    {
        self.health_check(Named { name: name.to_owned(), check })
    }

    /// Adds a check of a type of its own.
    #[must_use]
    pub fn health_check(mut self, check: impl HealthCheck) -> Self {
        self.checks.push(Arc::new(check));
        self
    }

    /// Runs the node until it is told to stop by SIGTERM or SIGINT; blocks the thread.
    ///
    /// # Errors
    /// See [`NodeError`]; its [`exit_code`](NodeError::exit_code) is what `main` should end with.
    pub fn run(self) -> Result<(), NodeError> {
        process::run(self)
    }

    /// Starts the node inside a running actix system, for tests within one process; no signal is listened to.
    ///
    /// # Errors
    /// See [`NodeError`].
    pub async fn start(self) -> Result<RunningNode, NodeError> {
        let checks = Checks::new(self.checks)?;
        let booting = Box::pin(Booting::begin(Base::new(self.config))).await?;
        let brought = Brought { services: self.services, routes: self.routes, checks };
        let running = Box::pin(booting.bring_up(brought)).await?;
        Ok(RunningNode {
            public_addr: running.listeners.public.address,
            admin_addr: running.listeners.admin.as_ref().map(|port| port.address),
            running,
        })
    }
}

impl fmt::Debug for NodeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let services: Vec<&str> = self.services.iter().map(|service| service.name()).collect();
        f.debug_struct("NodeBuilder").field("services", &services).finish_non_exhaustive()
    }
}

/// A node that was started inside a running system.
pub struct RunningNode {
    /// Where the public port listens.
    pub public_addr: SocketAddr,
    /// Where the admin port listens, unless it is off.
    pub admin_addr: Option<SocketAddr>,
    running: Running,
}

impl RunningNode {
    /// Returns what the node hands to its services.
    #[must_use]
    pub fn context(&self) -> &NodeContext {
        &self.running.context
    }

    /// Returns how long [`stop`](Self::stop) may take at most, with the options and services the node has: what ends its
    /// process must wait for longer.
    #[must_use]
    pub fn stop_limit(&self) -> Duration {
        self.running.stop_limit()
    }

    /// Drains and stops the node, as SIGTERM would.
    pub async fn stop(self) {
        self.running.stop().await;
    }
}

impl fmt::Debug for RunningNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningNode")
            .field("public_addr", &self.public_addr)
            .field("admin_addr", &self.admin_addr)
            .finish_non_exhaustive()
    }
}
