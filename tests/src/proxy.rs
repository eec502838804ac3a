//! A TCP proxy that can be told to break.
//!
//! It stands before Redis or PostgreSQL on a port that stays the same, so that a test can cut a
//! connection, slow it down or silence one direction of it, and heal it again. It runs on a
//! thread of its own: a test that blocks its runtime does not stop the network.

mod pump;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use crate::servers::free_port;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("proxy")
        .enable_all()
        .build()
        .expect("a thread can be started")
});

/// Seen from the client of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Request,
    /// From the server to the client.
    Response,
}

/// What is wrong with the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Open connections are reset, and so is each new one right after it was accepted.
    Reset,
    /// Open connections are reset, and nobody listens on the port.
    Refuse,
    /// Connections stay open and can be opened, but one direction is silent. What was sent into it
    /// arrives when the proxy is healed, as after a short partition.
    HalfOpen(Direction),
    /// The same in both directions.
    Silent,
}

/// Bytes and connections since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that reached the server.
    pub to_server: u64,
    /// Bytes that reached the client.
    pub to_client: u64,
    /// Connections that were accepted.
    pub connections: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    fault: Fault,
    delay: Duration,
    /// Counts the resets, so that a connection sees one that was healed before it looked.
    resets: u64,
}

#[derive(Debug, Default)]
struct Counters {
    to_server: AtomicU64,
    to_client: AtomicU64,
    connections: AtomicU64,
}

/// A running proxy; closed with all its connections on drop.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: watch::Sender<State>,
    counters: Arc<Counters>,
    /// Tells that the listener is open or closed as the fault wants it.
    listening: watch::Receiver<bool>,
}

impl Proxy {
    /// Starts a proxy to `host:port`; the target need not be there yet.
    pub async fn start(target: &str) -> Self {
        let target: SocketAddr = target.parse().expect("the target is an ip:port");
        let port = free_port();
        let state = State { fault: Fault::None, delay: Duration::ZERO, resets: 0 };
        let (state, watched) = watch::channel(state);
        let counters = Arc::new(Counters::default());
        let (is_listening, listening) = watch::channel(false);
        RUNTIME.spawn(serve(
            Line { target, state: watched, counters: Arc::clone(&counters) },
            port,
            is_listening,
        ));
        let proxy = Self { port, state, counters, listening };
        proxy.until_listening(true).await;
        proxy
    }

    /// The port of 127.0.0.1 it listens on, for as long as it lives.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Breaks the network in this way until [`heal`](Self::heal).
    pub async fn cut(&self, fault: Fault) {
        self.state.send_modify(|state| {
            state.fault = fault;
            state.resets += u64::from(matches!(fault, Fault::Reset | Fault::Refuse));
        });
        self.until_listening(fault != Fault::Refuse).await;
    }

    /// Resets all open connections once; new ones work.
    pub fn reset_connections(&self) {
        self.state.send_modify(|state| state.resets += 1);
    }

    /// Delivers everything this much later, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.state.send_modify(|state| state.delay = delay);
    }

    /// Ends every fault and delay.
    pub async fn heal(&self) {
        self.state.send_modify(|state| {
            state.fault = Fault::None;
            state.delay = Duration::ZERO;
        });
        self.until_listening(true).await;
    }

    /// What went through so far.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            to_server: self.counters.to_server.load(Ordering::Relaxed),
            to_client: self.counters.to_client.load(Ordering::Relaxed),
            connections: self.counters.connections.load(Ordering::Relaxed),
        }
    }

    async fn until_listening(&self, wanted: bool) {
        let mut listening = self.listening.clone();
        tokio::time::timeout(Duration::from_secs(10), listening.wait_for(|open| *open == wanted))
            .await
            .expect("the proxy opens or closes its port")
            .expect("the proxy runs as long as its handle");
    }
}

/// What a connection of the proxy needs to know.
#[derive(Debug, Clone)]
struct Line {
    target: SocketAddr,
    state: watch::Receiver<State>,
    counters: Arc<Counters>,
}

/// Listens unless the port is to be closed; ends when the handle is dropped.
async fn serve(mut line: Line, port: u16, is_listening: watch::Sender<bool>) {
    loop {
        let Ok(state) = line.state.wait_for(|state| state.fault != Fault::Refuse).await else {
            return;
        };
        drop(state);
        // `wait_for` is content with the last state of a handle that is gone.
        if line.state.has_changed().is_err() {
            return;
        }
        let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        is_listening.send_replace(true);
        tokio::select! {
            () = accept(&listener, &line) => {}
            () = refused(line.state.clone()) => {}
        }
        drop(listener);
        is_listening.send_replace(false);
    }
}

/// Returns when the port is to be closed or the handle is gone.
async fn refused(mut state: watch::Receiver<State>) {
    drop(state.wait_for(|state| state.fault == Fault::Refuse).await);
}

async fn accept(listener: &TcpListener, line: &Line) {
    while let Ok((client, _)) = listener.accept().await {
        line.counters.connections.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(carry(client, line.clone()));
    }
}

/// Carries one connection until both sides have closed it or a fault resets it.
async fn carry(mut client: TcpStream, line: Line) {
    let born = *line.state.borrow();
    if born.fault == Fault::Reset {
        drop(client.set_zero_linger());
        return;
    }
    drop(client.set_nodelay(true));
    let Some(mut server) = connect(&line).await else {
        drop(client.set_zero_linger());
        return;
    };
    drop(server.set_nodelay(true));
    let reset = tokio::select! {
        () = pump::both_ways(&mut client, &mut server, &line) => false,
        () = was_reset(line.state.clone(), born.resets) => true,
    };
    if reset {
        // Closing now sends a reset at once, whatever is still on the way.
        drop(client.set_zero_linger());
        drop(server.set_zero_linger());
    }
}

/// A silent network does not even open a connection to the server.
async fn connect(line: &Line) -> Option<TcpStream> {
    let mut state = line.state.clone();
    drop(state.wait_for(|state| state.fault != Fault::Silent).await.ok()?);
    TcpStream::connect(line.target).await.ok()
}

async fn was_reset(mut state: watch::Receiver<State>, known: u64) {
    drop(state.wait_for(|state| state.resets != known).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_ends_with_its_handle() {
        let proxy = Proxy::start("127.0.0.1:1").await;
        drop(proxy);
        // No other test of this binary has one.
        let ended = async || RUNTIME.metrics().num_alive_tasks() == 0;
        crate::wait::until("nothing is left of the proxy", Duration::from_secs(10), ended).await;
    }
}
