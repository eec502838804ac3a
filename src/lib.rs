//! # Understudy
//!
//! An actor-based runtime that lets a stateful web application run on many nodes as if it were one process. When a node
//! dies, another steps in, and the show goes on.
//!
//! Write an ordinary actix-web program, ask for a [`Session`](prelude::Session) where you need one, and start as many
//! copies of it as you like:
//!
//! ```no_run
//! use understudy::prelude::*;
//!
//! async fn count(session: Session) -> Result<impl Responder, SessionError> {
//!     let visits = session.increment("visits", 1).await?; // durable, and the same on every node
//!     Ok(HttpResponse::Ok().body(format!("visit {visits}")))
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     understudy::main(|app| {
//!         app.route("/", web::get().to(count));
//!     })
//! }
//! ```
//!
//! Without any variable set it runs on its own, with sessions in a SQLite file. With `UNDERSTUDY_CLUSTER_ENABLED=true`,
//! Redis and PostgreSQL, any number of nodes share them; see `docs/configuration.md`.

use std::process::ExitCode;

use actix_web::web::ServiceConfig;

pub use understudy_runtime as runtime;
pub use understudy_scheduler as scheduler;
pub use understudy_session as session;

use understudy_runtime::config::{Config, ConfigErrors};
use understudy_runtime::error::chain;
use understudy_runtime::node::{NodeBuilder, NodeError};
use understudy_session::SessionService;

pub mod readymade;

/// What an application needs, in one line.
pub mod prelude {
    pub use actix_web::{HttpRequest, HttpResponse, Responder, web};
    pub use understudy_runtime::config::Config;
    pub use understudy_runtime::http::problem::Problem;
    pub use understudy_session::{Session, SessionError, SessionInfo};

    pub use crate::Node;
}

/// One node of an application, with everything Understudy brings.
pub struct Node {
    builder: NodeBuilder,
}

impl Node {
    /// Reads the options from the environment.
    ///
    /// # Errors
    /// All mistakes at once, each with the variable's name and what would be right; never with a value of a secret.
    pub fn from_env() -> Result<Self, ConfigErrors> {
        Config::from_env().map(Self::new)
    }

    /// Makes a node with the options given.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { builder: NodeBuilder::new(config).service(SessionService::new()) }
    }

    /// Adds the application's routes; called once on each worker thread.
    #[must_use]
    pub fn routes(self, routes: impl Fn(&mut ServiceConfig) + Send + Sync + 'static) -> Self {
        Self { builder: self.builder.routes(routes) }
    }

    /// Runs the node until SIGTERM or SIGINT, then hands over to the other nodes; blocks the thread.
    ///
    /// # Errors
    /// When the node cannot start; [`NodeError::exit_code`] says with which status the process should end.
    pub fn run(self) -> Result<(), NodeError> {
        self.builder.run()
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").finish_non_exhaustive()
    }
}

/// Does what `main` of an application does: reads the environment, runs the node, tells what went wrong on standard
/// error, and gives the exit status (78: an option is wrong).
#[must_use]
pub fn main(routes: impl Fn(&mut ServiceConfig) + Send + Sync + 'static) -> ExitCode {
    match Node::from_env() {
        Ok(node) => ended(node.routes(routes).run()),
        Err(errors) => {
            eprintln!("{errors}");
            status(understudy_runtime::config::EXIT_CONFIG)
        }
    }
}

fn ended(result: Result<(), NodeError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", chain(&error));
            status(error.exit_code())
        }
    }
}

fn status(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
