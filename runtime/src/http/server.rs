//! Opens the listeners and builds the servers on top of them.

use std::any::Any;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::{KeepAlive, StatusCode};
use actix_web::rt::net::TcpStream;
use actix_web::{App, HttpResponse, HttpServer, web};
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::net::TcpSocket;

use super::edge::{Edge, EdgeContext};
use super::extractors;
use super::problem::Problem;

/// How long the head of a request may take to arrive; then 408.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a closed connection may take to say goodbye.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections that wait to be accepted; the kernel refuses more.
const BACKLOG: u32 = 2_048;

/// Adds routes to an application; called once on each worker.
pub(crate) type Configure = Arc<dyn Fn(&mut web::ServiceConfig) + Send + Sync>;

/// How a server works.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerOptions {
    pub(crate) workers: usize,
    pub(crate) keep_alive: Duration,
    /// How long requests may take to finish when the server is stopped.
    pub(crate) drain_timeout: Duration,
    /// How long a client may take no byte of an answer; then the connection is reset by the kernel.
    pub(crate) stalled_reader: Duration,
}

/// Takes exactly this address without listening yet: who connects is refused. Must be called inside a tokio runtime.
///
/// A port that was used until a moment ago is taken (`SO_REUSEADDR`), one that somebody listens on is not.
pub(crate) fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Listens on a reserved address. Fails when somebody was faster who had reserved it too.
pub(crate) fn open(socket: TcpSocket) -> io::Result<TcpListener> {
    socket.listen(BACKLOG)?.into_std()
}

/// Lets nobody else connect to a listener, while connections that are being made are still completed and accepted.
///
/// Closing a listener resets the connections that wait to be accepted, and with them requests that a balancer must not
/// send twice. After this call there are soon none. Whoever tries to connect hears nothing and asks again a second later;
/// then the listener is closed, and a refusal is what a balancer can act upon. Where the system knows no such filter
/// nothing happens.
pub(crate) fn turn_away(listener: &TcpListener) {
    #[cfg(target_os = "linux")]
    {
        use socket2::{SockFilter, SockRef};
        const LOAD_BYTE: u16 = 0x30;
        const JUMP_IF_ANY_BIT: u16 = 0x45;
        const RETURN: u16 = 0x06;
        /// Where the flags of a TCP segment are, and the one that begins a connection.
        const FLAGS: u32 = 13;
        const SYN: u32 = 0x02;
        let drop_syn = [
            SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
            SockFilter::new(JUMP_IF_ANY_BIT, 0, 1, SYN),
            SockFilter::new(RETURN, 0, 0, 0),
            SockFilter::new(RETURN, 0, 0, u32::MAX),
        ];
        // A sandbox may forbid it; then a few connections may be reset, as without it.
        SockRef::from(listener).attach_filter(&drop_syn).ok();
    }
    #[cfg(not(target_os = "linux"))]
    let _ = listener;
}

/// Refuses from now on whoever connects, also where another copy of the socket is open. Connections that wait to be
/// accepted are reset: call it after [`turn_away`] and a moment.
pub(crate) fn refuse(listener: &TcpListener) {
    // Some systems do not know this for a listener; there the port is closed with the server.
    socket2::SockRef::from(listener).shutdown(std::net::Shutdown::Both).ok();
}

/// Builds a server that answers on the listener; it starts when it is awaited or spawned.
pub(crate) fn serve(
    listener: TcpListener,
    options: ServerOptions,
    context: EdgeContext,
    configure: Configure,
) -> io::Result<Server> {
    let app = move || {
        let settings = Arc::clone(&context.settings);
        let body_limit = usize::try_from(settings.body_limit).unwrap_or(usize::MAX);
        App::new()
            .app_data(settings)
            .configure(|app| extractors::configure(app, body_limit))
            .default_service(web::to(not_found))
            .configure(|app| configure(app))
            .wrap(Edge::new(context.clone()))
    };
    let server = HttpServer::new(app)
        .workers(options.workers)
        .keep_alive(KeepAlive::Timeout(options.keep_alive))
        .client_request_timeout(HEAD_TIMEOUT)
        .client_disconnect_timeout(DISCONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .on_connect(move |connection, _| bound_stalled_reader(connection, options.stalled_reader))
        .shutdown_timeout(options.drain_timeout.as_secs().max(1))
        .disable_signals()
        .listen(listener)?
        .run();
    Ok(server)
}

async fn not_found() -> HttpResponse {
    Problem::from_status(StatusCode::NOT_FOUND).response()
}

/// A client that never reads would hold its connection, and the rest of its answer, for ever.
fn bound_stalled_reader(connection: &dyn Any, limit: Duration) {
    let Some(stream) = connection.downcast_ref::<TcpStream>() else { return };
    let millis = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
    // Not every platform knows the option; the connection works without it.
    set_tcp_user_timeout(stream, millis).ok();
}
