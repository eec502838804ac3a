//! Both listeners of a node, and what they answer while it starts.
//!
//! They are opened before anything else: a wrong address is known at once, and a balancer that asks early gets an
//! honest 503 instead of a refused connection. While the node starts, a small application answers on them; when
//! all services have started, the real one takes over the same sockets, so that not a single connection is refused
//! in between.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::web;

use super::{Lifecycle, NodeError};
use crate::admin::{self, AdminAccess, AdminState};
use crate::config::Config;
use crate::http::edge::EdgeContext;
use crate::http::health::{self, Detail};
use crate::http::problem::Problem;
use crate::http::server::{Configure, ServerOptions, listen, serve};
use crate::http::settings::{HttpSettings, Shared};

/// How long a request of the starting node may take to finish when the real application takes over.
const HANDOVER: Duration = Duration::from_secs(2);
/// How long connections that the server before has accepted may wait for their worker.
const HANDOVER_QUEUE: Duration = Duration::from_millis(200);
/// The same when nobody takes over: short, since what arrives meanwhile will be refused only after it.
const LAST_QUEUE: Duration = Duration::from_millis(20);
/// What a client is told while the node starts.
const STARTING_RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long to wait for the workers of a server to be there.
const WORKERS_LIMIT: Duration = Duration::from_secs(10);

/// One port of a node.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) address: SocketAddr,
    socket: TcpListener,
    serving: Option<ServerHandle>,
}

/// The ports of a node.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) public: Port,
    pub(super) admin: Option<Port>,
}

impl Listeners {
    /// Opens both, or fails with the address that is not free; another one is never tried.
    pub(super) fn open(config: &Config) -> Result<Self, NodeError> {
        let public = Port::open(config.http.bind, "UNDERSTUDY_HTTP_BIND")?;
        let admin = config.admin.bind.map(|bind| Port::open(bind, "UNDERSTUDY_ADMIN_BIND"));
        Ok(Self { public, admin: admin.transpose()? })
    }
}

impl Port {
    fn open(address: SocketAddr, option: &'static str) -> Result<Self, NodeError> {
        let failed = |source| NodeError::Bind { address, option, source };
        let socket = listen(address).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { address, socket, serving: None })
    }

    /// Lets an application answer from now on, in place of the one before, which may finish its requests.
    pub(super) async fn serve(
        &mut self,
        options: ServerOptions,
        context: EdgeContext,
        configure: Configure,
    ) -> Result<(), NodeError> {
        let failed =
            |source| NodeError::Failed(format!("cannot serve on {}: {source}", self.address));
        let socket = self.socket.try_clone().map_err(failed)?;
        let (built, mut workers) = tokio::sync::mpsc::channel(options.workers.max(1));
        let counting: Configure = Arc::new(move |app: &mut web::ServiceConfig| {
            configure(app);
            // A worker that is built later, after a panic, finds the channel closed.
            built.try_send(()).ok();
        });
        let server = serve(socket, options, context, counting).map_err(failed)?;
        let handle = server.handle();
        actix_web::rt::spawn(server);
        let all_built = async {
            for _ in 0..options.workers {
                workers.recv().await;
            }
        };
        tokio::time::timeout(WORKERS_LIMIT, all_built).await.map_err(|_elapsed| {
            NodeError::Failed(format!("the workers of {} did not start", self.address))
        })?;
        if let Some(before) = self.serving.replace(handle) {
            leave(&before, HANDOVER_QUEUE).await;
        }
        Ok(())
    }

    /// Takes no more connections and waits until the requests are answered, as long as the server's options allow.
    pub(super) async fn stop(&mut self) {
        if let Some(serving) = self.serving.take() {
            leave(&serving, LAST_QUEUE).await;
        }
    }
}

/// Stops a server without dropping what it has accepted: connections wait for a moment between its accepting thread
/// and its workers, and a server that is told to stop at once forgets those.
async fn leave(server: &ServerHandle, queue: Duration) {
    server.pause().await;
    tokio::time::sleep(queue).await;
    server.stop(true).await;
}

/// Lets the small application answer on both ports.
pub(super) async fn serve_while_starting(
    listeners: &mut Listeners,
    settings: &Shared,
    admin: &AdminState,
) -> Result<(), NodeError> {
    let options = ServerOptions { workers: 1, keep_alive: HANDOVER, drain_timeout: HANDOVER };
    let lifecycle = admin.lifecycle.clone();
    let context = EdgeContext::new(Arc::clone(settings), lifecycle.clone());
    let starting: Configure = Arc::new(move |app: &mut web::ServiceConfig| {
        health::configure(app, &lifecycle, Detail::Word);
        app.default_service(web::to(|| std::future::ready(not_yet())));
    });
    listeners.public.serve(options, context, starting).await?;
    serve_admin(listeners, options, settings, admin.clone()).await
}

/// Lets the administration answer on its port, if there is one.
pub(super) async fn serve_admin(
    listeners: &mut Listeners,
    options: ServerOptions,
    settings: &Shared,
    state: AdminState,
) -> Result<(), NodeError> {
    let Some(port) = &mut listeners.admin else { return Ok(()) };
    let access = AdminAccess::new(&state.config.admin);
    let lifecycle: Lifecycle = state.lifecycle.clone();
    let settings = Arc::new(HttpSettings::for_admin(settings));
    let mut context = EdgeContext::new(settings, lifecycle);
    context.gate = Some(Arc::new(move |request| access.admit(request)));
    let configure: Configure =
        Arc::new(move |app: &mut web::ServiceConfig| admin::configure(app, &state));
    port.serve(ServerOptions { workers: 1, ..options }, context, configure).await
}

fn not_yet() -> actix_web::HttpResponse {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "starting", "The node is starting")
        .with_retry_after(STARTING_RETRY_AFTER)
        .response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn t10_an_address_in_use_is_told_and_no_other_is_tried() {
        let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = occupied.local_addr().unwrap();
        let mut config = Config::for_test();
        config.http.bind = address;
        let error = Listeners::open(&config).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot listen on {address} (UNDERSTUDY_HTTP_BIND)"));
        assert_eq!(error.exit_code(), 1);
        let mut config = Config::for_test();
        config.admin.bind = Some(address);
        let error = Listeners::open(&config).unwrap_err();
        assert!(error.to_string().contains("UNDERSTUDY_ADMIN_BIND"), "{error}");
    }

    #[actix_web::test]
    async fn t10_a_port_that_was_just_left_is_taken_again() {
        let config = Config::for_test();
        let first = Listeners::open(&config).unwrap();
        let address = first.public.address;
        let client = std::net::TcpStream::connect(address).unwrap();
        let (server_side, _) = first.public.socket.accept().unwrap();
        // Closed here first: the address lingers in TIME_WAIT.
        drop((server_side, first));
        drop(client);
        let mut config = Config::for_test();
        config.http.bind = address;
        assert_eq!(Listeners::open(&config).unwrap().public.address, address);
    }
}
