//! The web console: pages for the people who run a cluster, on the admin port under `/console`.
//!
//! It is rendered on the server and embedded in the program: one style sheet, one small script, nothing from elsewhere. All
//! of it works without the script; with it, a page looks again by itself, and keys lead from page to page.
//!
//! **Invariant:** the console knows nothing that the admin API does not tell, and does nothing but by asking it, on behalf
//! of whoever has signed in. So roles, audit and answers are those of the API, and whatever can be seen or done here can
//! be from a program and from the command line too: [`actions`] lists it.
//!
//! It has no state of its own but the last few readings of counters for the charts of the overview.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header;
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Route};
use async_trait::async_trait;
use futures_util::future::LocalBoxFuture;
use tokio::sync::Semaphore;
use understudy_runtime::admin::{AdminPort, Principal, SignOuts};
use understudy_runtime::clock::SharedClock;
use understudy_runtime::service::{NodeContext, Service, ServiceError};

mod action;
mod api;
mod assets;
mod backstage;
mod chart;
mod cookies;
mod deeds;
mod doing;
mod events;
mod icons;
mod layout;
mod login;
mod look;
mod pages;
mod parts;
mod states;
mod visit;
mod words;

#[cfg(test)]
#[expect(dead_code, reason = "the tests in a browser use more of it")]
mod stub;
#[cfg(test)]
mod tests;

pub use action::{Action, actions};
pub use backstage::Backstage;

use api::Api;
use layout::Page;
use pages::{
    actors, audit, caches, configuration, doctor, doing_now, files, job, job_edit, jobs, leader,
    locks, log, maintenance, migrations, node, nodes, overview, problems, requests, run, runs,
    session, sessions, settings, tokens,
};
use visit::Visit;

/// The console of a node.
#[derive(Debug)]
pub struct Console {
    backstage: Arc<dyn Backstage>,
    api: Api,
    /// The last readings of the counters that the overview draws.
    readings: overview::Readings,
    /// Places for those who showed a wrong token and wait.
    wrong_ones: Semaphore,
}

impl Console {
    /// Makes the console of this node.
    pub fn new(backstage: Arc<dyn Backstage>) -> Self {
        let api = Api::new(Arc::clone(&backstage));
        let readings = overview::Readings::default();
        Self { backstage, api, readings, wrong_ones: Semaphore::new(login::MOST_WRONG_ONES) }
    }

    /// Adds the pages under `/console`, and the way there from `/`.
    pub fn routes(console: &Data<Self>, app: &mut ServiceConfig) {
        let forms = web::FormConfig::default().limit(doing::LONGEST_FORM);
        app.app_data(console.clone())
            .app_data(forms)
            .route("/", web::get().to(to_console))
            .route("/console/", web::get().to(to_console))
            .route("/console/assets/{hash}/{name}", web::get().to(assets::file))
            .route("/console/login", web::get().to(login::show))
            .route("/console/login", web::post().to(login::enter))
            .route("/console/logout", web::post().to(login::leave))
            .route("/console/theme", web::post().to(login::taste))
            .route("/console/events", web::get().to(events::watch))
            .route("/console/log/stream", web::get().to(events::follow_log))
            .route("/console/do/{deed}", page(async |visit| doing::ask(visit).await))
            .route("/console/do/{deed}", web::post().to(doing::act));
        cluster_pages(app);
        work_pages(app);
        app.route("/console/{rest:.*}", page(async |visit| pages::lost(visit)));
    }

    /// A word that no other call gives.
    fn fresh_word(&self) -> u128 {
        use std::hash::{BuildHasher as _, RandomState};
        // Each of these states has random keys of its own.
        let half = |number: u64| u128::from(RandomState::new().hash_one(number));
        half(self.backstage.now_ms()) << 64 | half(0)
    }
}

fn cluster_pages(app: &mut ServiceConfig) {
    app.route("/console", page(async |visit| overview::show(visit).await))
        .route("/console/nodes", page(async |visit| nodes::show(visit).await))
        .route("/console/nodes/{name}", page(async |visit| node::show(visit).await))
        .route(
            "/console/nodes/{name}/config",
            page(async |visit| configuration::of_node(visit).await),
        )
        .route("/console/config", page(async |visit| configuration::drift(visit).await))
        .route("/console/nodes/{name}/tasks", page(async |visit| doing_now::show(visit).await))
        .route("/console/migrations", page(async |visit| migrations::show(visit).await))
        .route("/console/log", page(async |visit| log::show(visit).await))
        .route("/console/leader", page(async |visit| leader::show(visit).await))
        .route("/console/problems", page(async |visit| problems::show(visit).await))
        .route("/console/problems/doctor", page(async |visit| doctor::show(visit).await))
        .route("/console/settings", page(async |visit| settings::show(visit).await))
        .route("/console/maintenance", page(async |visit| maintenance::show(visit).await))
        .route("/console/locks", page(async |visit| locks::show(visit).await))
        .route("/console/caches", page(async |visit| caches::show(visit).await))
        .route("/console/actors", page(async |visit| actors::show(visit).await))
        .route("/console/requests", page(async |visit| requests::show(visit).await))
        .route("/console/audit", page(async |visit| audit::show(visit).await))
        .route("/console/tokens", page(async |visit| tokens::show(visit).await));
}

fn work_pages(app: &mut ServiceConfig) {
    app.route("/console/jobs", page(async |visit| jobs::show(visit).await))
        .route("/console/jobs/{name}", page(async |visit| job::show(visit).await))
        .route("/console/jobs/{name}/edit", page(async |visit| job_edit::edit(visit).await))
        .route("/console/new-job", page(async |visit| job_edit::create(visit).await))
        .route("/console/schedule", page(async |visit| job_edit::schedule(visit).await))
        .route("/console/runs", page(async |visit| runs::show(visit).await))
        .route("/console/tasks", page(async |visit| runs::tasks(visit).await))
        .route("/console/runs/{id}", page(async |visit| run::show(visit).await))
        .route("/console/sessions", page(async |visit| sessions::show(visit).await))
        .route("/console/sessions/{id}", page(async |visit| session::show(visit).await))
        .route("/console/files", page(async |visit| files::show(visit).await));
}

/// The route of a page: what all pages tell is asked for while the page asks for its own.
fn page<F>(show: F) -> Route
where
    F: AsyncFn(&Visit) -> Page + Copy + 'static,
{
    web::get().to(move |request: HttpRequest, visit: Visit| async move {
        let (head, page) = tokio::join!(visit.head(), show(&visit));
        layout::page(&request, &visit, &head, &page)
    })
}

async fn to_console() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header((header::LOCATION, "/console")).finish()
}

/// Brings the console to a node that has an admin port.
#[derive(Debug, Default)]
pub struct ConsoleService {
    console: Option<Data<Console>>,
}

impl ConsoleService {
    /// Makes the service; it does nothing before it is started.
    #[must_use]
    pub const fn new() -> Self {
        Self { console: None }
    }
}

#[async_trait(?Send)]
impl Service for ConsoleService {
    fn name(&self) -> &'static str {
        "console"
    }

    async fn start(&mut self, node: &NodeContext) -> Result<(), ServiceError> {
        let node = OwnNode {
            admin: node.admin.clone(),
            sign_outs: SignOuts::of(node),
            name: node.node_id.name().as_str().to_owned(),
            clock: node.clock.clone(),
        };
        self.console = Some(Data::new(Console::new(Arc::new(node))));
        Ok(())
    }

    fn admin(&self, app: &mut ServiceConfig) {
        if let Some(console) = &self.console {
            Console::routes(console, app);
        }
    }
}

/// The operations that the console asks about gravely: the command line must ask about them too.
#[cfg(test)]
pub(crate) fn grave_operations() -> Vec<&'static str> {
    let grave = deeds::deeds().filter(|deed| deed.weight == deeds::Weight::Grave);
    grave.map(|deed| deed.id).collect()
}

/// The node that the console is part of.
#[derive(Debug)]
struct OwnNode {
    admin: AdminPort,
    sign_outs: SignOuts,
    name: String,
    clock: SharedClock,
}

impl Backstage for OwnNode {
    fn address(&self) -> Option<SocketAddr> {
        self.admin.address()
    }

    fn node(&self) -> String {
        self.name.clone()
    }

    fn owner_of(&self, token: &str) -> Option<Principal> {
        self.admin.owner_of(token)
    }

    fn sign_in(&self, who: &Principal) -> (String, Duration) {
        self.admin.sign_in(who)
    }

    fn browser(&self, sealed: Option<&str>) -> Option<Principal> {
        self.admin.browser(sealed)
    }

    fn sign_out(&self, sealed: &str) -> LocalBoxFuture<'static, ()> {
        let (sign_outs, sealed) = (self.sign_outs.clone(), sealed.to_owned());
        Box::pin(async move { sign_outs.sign_out(&sealed).await })
    }

    fn on_behalf_of(&self, who: &Principal) -> String {
        self.admin.on_behalf_of(who)
    }

    fn is_open(&self) -> bool {
        self.admin.is_open()
    }

    fn now_ms(&self) -> u64 {
        self.clock.wall_ms()
    }
}
