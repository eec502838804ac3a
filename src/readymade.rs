//! The node that needs no Rust code: a page or a static web app, sessions over HTTP, and jobs from a file.
//!
//! It is an application like any other: everything here uses only what [`crate::prelude`] offers. Only [`jobs`] is part of
//! every node, since each may be given a file of them.

use std::path::PathBuf;
use std::process::ExitCode;

use actix_web::web::ServiceConfig;
use understudy_runtime::config::{Config, EXIT_CONFIG};
use understudy_runtime::telemetry::{Label, Metric};

mod api;
mod files;
pub(crate) mod jobs;
mod page;
mod ranges;
mod strict_json;
mod web_app;

/// The metrics that are counted here.
pub(crate) static METRICS: &[Metric] = &[Metric::counter(
    "jobs_file_reloads_total",
    "Times that the jobs file was read anew because it had changed: `broken` if it is no jobs file, `refused` if a job in \
     it may not be so",
)
.by(&[Label::of("result", &["ok", "broken", "refused"])])];

/// Runs the ready-made node with the options in the environment; gives the exit status.
#[must_use]
pub fn main() -> ExitCode {
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{errors}");
            return crate::status(EXIT_CONFIG);
        }
    };
    let routes = routes(&config);
    crate::ended(crate::Node::new(config).routes(routes).run())
}

/// Adds the files of users under `/api/files`, as `UNDERSTUDY_FILES_API` does on the ready-made node; for applications that
/// want the same. All files of one user may have so many bytes together.
pub fn files(app: &mut ServiceConfig, user_bytes: u64) {
    files::routes(app, user_bytes);
}

/// Gives the routes of the ready-made node: the session API under `/api/session`, that of files under `/api/files` if it is on,
/// and at `/` the web app of `UNDERSTUDY_WEB_ROOT` or a small page.
pub fn routes(config: &Config) -> impl Fn(&mut ServiceConfig) + Send + Sync + 'static {
    let node = api::Answering(config.node.id.to_string());
    let root: Option<PathBuf> = config.node.web_root.clone();
    let user_bytes = config.files.api_user_bytes;
    move |app| {
        app.app_data(actix_web::web::Data::new(node.clone()));
        api::routes(app);
        if let Some(user_bytes) = user_bytes {
            files::routes(app, user_bytes);
        }
        match &root {
            Some(root) => web_app::routes(app, root),
            None => page::routes(app),
        }
    }
}
