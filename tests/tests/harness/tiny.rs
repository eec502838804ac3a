//! An HTTP server of a few lines, to stand behind nginx.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Answers every request with its name and the head of the request; closed on drop.
#[derive(Debug)]
pub(super) struct Tiny {
    pub(super) port: u16,
    pub(super) shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
pub(super) struct Shared {
    name: &'static str,
    /// Answers GET with this status.
    pub(super) get_status: AtomicU16,
    /// Reads requests and closes the connection without an answer; says that it is ready all the same.
    pub(super) mute: AtomicBool,
    pub(super) requests: AtomicU32,
    /// Those of them that are POST.
    pub(super) posts: AtomicU32,
    pub(super) connections: AtomicU32,
}

impl Tiny {
    pub(super) async fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            name,
            get_status: AtomicU16::new(200),
            mute: AtomicBool::new(false),
            requests: AtomicU32::new(0),
            posts: AtomicU32::new(0),
            connections: AtomicU32::new(0),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { port, shared, task }
    }

    pub(super) fn requests(&self) -> u32 {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        connections.spawn(serve(stream, Arc::clone(&shared)));
    }
}

/// Requests without a body, one after the other on a kept connection.
async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut head = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        head.push(byte);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        shared.requests.fetch_add(1, Ordering::SeqCst);
        if head.starts_with(b"POST") {
            shared.posts.fetch_add(1, Ordering::SeqCst);
        }
        if shared.mute.load(Ordering::SeqCst) && !head.starts_with(b"GET /health/") {
            return;
        }
        let get = head.starts_with(b"GET");
        let status = if get { shared.get_status.load(Ordering::SeqCst) } else { 200 };
        let body = String::from_utf8_lossy(&head).into_owned();
        let answer = format!(
            "HTTP/1.1 {status} X\r\nX-Understudy-Node: {}\r\nContent-Length: {}\r\n\r\n{body}",
            shared.name,
            body.len(),
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        head.clear();
    }
}
