//! Both listeners of a node, and what they answer while it starts.
//!
//! Their addresses are taken before anything else, so that a wrong one is known at once. The admin port answers from the
//! beginning, first a small application with the health and the reasons, then the real one, which takes over the same
//! socket. The public port is opened only when the node can serve: a balancer that is refused sends a request to another
//! node, whatever its method, while an honest 503 to a POST would have to be handed on to the client.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::web;
use tokio::net::TcpSocket;

use super::{Lifecycle, NodeError};
use crate::admin::{self, AdminState};
use crate::config::Config;
use crate::http::edge::EdgeContext;
use crate::http::server::{Configure, ServerOptions, open, refuse, reserve, serve, turn_away};
use crate::http::settings::{HttpSettings, Shared};

/// How long a request of the starting node may take to finish when the real application takes over.
const HANDOVER: Duration = Duration::from_secs(2);
/// How long connections that the server before has accepted may wait for their worker.
const HANDOVER_QUEUE: Duration = Duration::from_millis(200);
/// The same when nobody takes over: short, since who tries to connect meanwhile waits for a second.
const LAST_QUEUE: Duration = Duration::from_millis(50);
/// How long the accepting thread of a server may take to hear that it is to pause.
const PAUSED_BY: Duration = Duration::from_millis(150);
/// How long to wait for the workers of a server to be there.
const WORKERS_LIMIT: Duration = Duration::from_secs(10);

/// One port of a node.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) address: SocketAddr,
    /// The variable that names the address.
    option: &'static str,
    socket: Socket,
    serving: Option<ServerHandle>,
}

/// What the system knows of a port.
#[derive(Debug)]
enum Socket {
    /// It is ours, and who connects is refused.
    Reserved(TcpSocket),
    /// Who connects is let in.
    Open(TcpListener),
    Closed,
}

/// The ports of a node.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) public: Port,
    pub(super) admin: Option<Port>,
}

impl Listeners {
    /// Takes both, or fails with the address that is not free; another one is never tried.
    pub(super) fn reserve(config: &Config) -> Result<Self, NodeError> {
        let public = Port::reserve(config.http.bind, "UNDERSTUDY_HTTP_BIND")?;
        let admin = config.admin.bind.map(|bind| Port::reserve(bind, "UNDERSTUDY_ADMIN_BIND"));
        Ok(Self { public, admin: admin.transpose()? })
    }
}

impl Port {
    fn reserve(address: SocketAddr, option: &'static str) -> Result<Self, NodeError> {
        let failed = |source| NodeError::Bind { address, option, source };
        let socket = reserve(address).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { address, option, socket: Socket::Reserved(socket), serving: None })
    }

    /// Opens the port if it is not open yet.
    fn listener(&mut self) -> Result<TcpListener, NodeError> {
        let (address, option) = (self.address, self.option);
        let failed = |source| NodeError::Bind { address, option, source };
        let listener = match std::mem::replace(&mut self.socket, Socket::Closed) {
            Socket::Reserved(socket) => open(socket).map_err(failed)?,
            Socket::Open(listener) => listener,
            Socket::Closed => return Err(NodeError::Failed(format!("{address} is closed"))),
        };
        let clone = listener.try_clone().map_err(failed)?;
        self.socket = Socket::Open(listener);
        Ok(clone)
    }

    /// Lets an application answer from now on, in place of the one before, which may finish its requests.
    pub(super) async fn serve(
        &mut self,
        options: ServerOptions,
        context: EdgeContext,
        configure: Configure,
    ) -> Result<(), NodeError> {
        let address = self.address;
        let failed = |source| NodeError::Failed(format!("cannot serve on {address}: {source}"));
        let socket = self.listener()?;
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

    /// Takes no more connections; those that are there go on.
    ///
    /// The port is closed as soon as everybody is in who has connected: while this node still answers them, others are
    /// refused at once and can go elsewhere.
    pub(super) async fn close(&mut self) {
        let socket = match std::mem::replace(&mut self.socket, Socket::Closed) {
            Socket::Open(socket) => socket,
            Socket::Reserved(_) | Socket::Closed => return,
        };
        turn_away(&socket);
        tokio::time::sleep(LAST_QUEUE).await;
        if let Some(serving) = &self.serving {
            serving.pause().await;
            // Its accepting thread hears of it a little later, and would take the closed socket for an error.
            tokio::time::sleep(PAUSED_BY).await;
        }
        // The server keeps a copy of the socket until it is stopped; whoever connects is refused from here on.
        refuse(&socket);
    }

    /// Closes the connections; gracefully: each after the request that is under way on it, as long as the server's
    /// options allow.
    pub(super) async fn finish(&mut self, gracefully: bool) {
        if let Some(serving) = self.serving.take() {
            serving.stop(gracefully).await;
        }
    }

    /// Does both.
    pub(super) async fn stop(&mut self) {
        self.close().await;
        self.finish(true).await;
    }
}

/// Stops a server without dropping what it has accepted: connections wait for a moment between its accepting thread
/// and its workers, and a server that is told to stop at once forgets those.
async fn leave(server: &ServerHandle, queue: Duration) {
    server.pause().await;
    tokio::time::sleep(queue).await;
    server.stop(true).await;
}

/// Lets the small application answer on the admin port.
pub(super) async fn serve_while_starting(
    listeners: &mut Listeners,
    settings: &Shared,
    admin: &AdminState,
) -> Result<(), NodeError> {
    let options = ServerOptions {
        workers: 1,
        keep_alive: HANDOVER,
        drain_timeout: HANDOVER,
        stalled_reader: admin.config.http.stalled_reader,
    };
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
    let access = state.port.clone();
    access.set_address(port.address);
    access.set_operations(state.operations());
    let lifecycle: Lifecycle = state.lifecycle.clone();
    let settings = Arc::new(HttpSettings::for_admin(settings));
    let mut context = EdgeContext::new(settings, lifecycle);
    context.wraps.push(access.audit().watch());
    context.gate = Some(Arc::new(move |request| access.admit(request)));
    let configure: Configure =
        Arc::new(move |app: &mut web::ServiceConfig| admin::configure(app, &state));
    port.serve(ServerOptions { workers: 1, ..options }, context, configure).await
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
        let error = Listeners::reserve(&config).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot listen on {address} (UNDERSTUDY_HTTP_BIND)"));
        assert_eq!(error.exit_code(), 1);
        let mut config = Config::for_test();
        config.admin.bind = Some(address);
        let error = Listeners::reserve(&config).unwrap_err();
        assert!(error.to_string().contains("UNDERSTUDY_ADMIN_BIND"), "{error}");
    }

    #[actix_web::test]
    async fn t10_of_two_that_start_at_once_on_an_address_one_is_told() {
        let mut config = Config::for_test();
        let mut first = Listeners::reserve(&config).unwrap();
        config.http.bind = first.public.address;
        // The kernel lets both have it as long as nobody listens.
        let mut second = Listeners::reserve(&config).unwrap();
        first.public.listener().unwrap();
        let error = second.public.listener().unwrap_err();
        let address = first.public.address;
        assert_eq!(error.to_string(), format!("cannot listen on {address} (UNDERSTUDY_HTTP_BIND)"));
    }

    #[actix_web::test]
    async fn t10_a_port_that_was_just_left_is_taken_again() {
        let config = Config::for_test();
        let mut first = Listeners::reserve(&config).unwrap();
        let address = first.public.address;
        let listener = first.public.listener().unwrap();
        listener.set_nonblocking(false).unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        let (server_side, _) = listener.accept().unwrap();
        // Closed here first: the address lingers in TIME_WAIT.
        drop((server_side, listener, first));
        drop(client);
        let mut config = Config::for_test();
        config.http.bind = address;
        assert_eq!(Listeners::reserve(&config).unwrap().public.address, address);
    }
}
