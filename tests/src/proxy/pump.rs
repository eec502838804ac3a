//! One connection of the proxy: two streams of chunks, each delivered when its time has come.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::{Direction, Fault, Line, State};

const CHUNK: usize = 16 * 1024;
/// Chunks on the way in one direction; a sender that is faster than the delay has to wait.
const ON_THE_WAY: usize = 256;

type Chunk = (Instant, Vec<u8>);

/// Carries bytes both ways until both sides have closed or failed.
pub(super) async fn both_ways(client: &mut TcpStream, server: &mut TcpStream, line: &Line) {
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let requests = Pump {
        direction: Direction::Request,
        state: line.state.clone(),
        delivered: &line.counters.to_server,
    };
    let responses = Pump {
        direction: Direction::Response,
        state: line.state.clone(),
        delivered: &line.counters.to_client,
    };
    tokio::join!(requests.run(from_client, to_server), responses.run(from_server, to_client));
}

struct Pump<'a> {
    direction: Direction,
    state: watch::Receiver<State>,
    delivered: &'a AtomicU64,
}

impl Pump<'_> {
    async fn run(mut self, from: ReadHalf<'_>, to: WriteHalf<'_>) {
        let (sender, receiver) = mpsc::channel(ON_THE_WAY);
        let state = self.state.clone();
        tokio::join!(take(from, sender, state), self.deliver(to, receiver));
    }

    async fn deliver(&mut self, mut to: WriteHalf<'_>, mut chunks: mpsc::Receiver<Chunk>) {
        while let Some((due, bytes)) = chunks.recv().await {
            tokio::time::sleep_until(due).await;
            if self.until_open().await.is_none() {
                return;
            }
            // Counted first: whoever has received the bytes may look at the figure at once.
            self.delivered.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        if self.until_open().await.is_some() {
            let _closed = to.shutdown().await;
        }
    }

    /// Waits while this direction is silent; `None` when the proxy is gone.
    async fn until_open(&mut self) -> Option<()> {
        let direction = self.direction;
        self.state.wait_for(|state| !is_silent(state.fault, direction)).await.ok().map(drop)
    }
}

fn is_silent(fault: Fault, direction: Direction) -> bool {
    match fault {
        Fault::None | Fault::Reset | Fault::Refuse => false,
        Fault::HalfOpen(silent) => silent == direction,
        Fault::Silent => true,
    }
}

/// Reads chunks and notes when each is to be delivered.
async fn take(mut from: ReadHalf<'_>, chunks: mpsc::Sender<Chunk>, state: watch::Receiver<State>) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(length) = from.read(&mut buffer).await {
        if length == 0 {
            return;
        }
        let due = Instant::now() + state.borrow().delay;
        if chunks.send((due, buffer[..length].to_vec())).await.is_err() {
            return;
        }
    }
}
