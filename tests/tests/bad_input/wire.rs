//! A connection that sends what it is given, byte by byte if it must be, and a node at its other end.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use understudy_tests::{Client, Node, NodeSpec};

/// Longer than any deadline of a node that is tested here.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// An answer as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Raw {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Raw {
    /// The `code` of a problem; empty for anything else.
    pub(super) fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        body["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// One connection.
pub(super) struct Wire {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Wire {
    /// Connects to a node's public port.
    pub(super) async fn to(node: &Node) -> Self {
        Self::from(Ipv4Addr::LOCALHOST, node.public_url()).await
    }

    /// Connects from another address of this machine.
    pub(super) async fn from(source: Ipv4Addr, base: &str) -> Self {
        let target = base.trim_start_matches("http://").parse().unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((source, 0).into()).unwrap();
        let stream = socket.connect(target).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, received: Vec::new() }
    }

    /// Sends; a node that has closed the connection already is no failure of the sender.
    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Sends one byte at a time until it is answered or closed; returns how long that took. It looks for an answer before
    /// each byte: one that is sent to a closed connection could cost the answer.
    pub(super) async fn drip(&mut self, bytes: &[u8], every: Duration) -> Duration {
        let begun = tokio::time::Instant::now();
        let mut ticks = tokio::time::interval(every);
        for byte in bytes {
            ticks.tick().await;
            let mut some = [0; 4096];
            if let Ok(count) = self.stream.try_read(&mut some) {
                self.received.extend_from_slice(&some[..count]);
                break;
            }
            if !self.send([*byte]).await {
                break;
            }
        }
        begun.elapsed()
    }

    /// The port of this side.
    pub(super) fn port(&self) -> u16 {
        self.stream.local_addr().unwrap().port()
    }

    /// Reads one answer; none when the connection ends without one.
    pub(super) async fn answer(&mut self) -> Option<Raw> {
        loop {
            if let Some((raw, length)) = parse(&self.received) {
                self.received.drain(..length);
                return Some(raw);
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Reads until the node closes the connection; returns all answers.
    pub(super) async fn answers(&mut self) -> Vec<Raw> {
        while self.more().await {}
        let mut answers = Vec::new();
        while let Some(raw) = self.answer().await {
            answers.push(raw);
        }
        assert!(
            self.received.is_empty(),
            "no answer: {:?}",
            String::from_utf8_lossy(&self.received)
        );
        answers
    }

    /// Reads until the node closes the connection; returns the statuses of all answers, without their bodies, so that
    /// the one to a HEAD may be among them.
    pub(super) async fn statuses(&mut self) -> Vec<u16> {
        while self.more().await {}
        let text = String::from_utf8_lossy(&self.received).into_owned();
        let heads = text.split("HTTP/1.1 ").skip(1);
        heads.map(|head| head[..3].parse().expect("a status")).collect()
    }

    async fn more(&mut self) -> bool {
        let mut some = vec![0; 65_536];
        let read = timeout(LIMIT, self.stream.read(&mut some)).await;
        // A reset ends the connection as well as a goodbye does.
        let count = read.expect("the node answers or closes").unwrap_or(0);
        self.received.extend_from_slice(&some[..count]);
        count > 0
    }
}

/// Reads an answer with a `Content-Length` or without a body; returns it with its length.
fn parse(bytes: &[u8]) -> Option<(Raw, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let all = end + length.unwrap_or(0);
    let body = String::from_utf8_lossy(bytes.get(end..all)?).into_owned();
    Some((Raw { status, head, body }, all))
}

/// Sends one request and reads what comes until the node closes.
pub(super) async fn exchange(node: &Node, request: impl AsRef<[u8]>) -> Vec<Raw> {
    let mut wire = Wire::to(node).await;
    wire.send(request).await;
    wire.answers().await
}

/// A ready-made node on its own, with these options.
pub(super) async fn node(options: &[(&str, &str)]) -> Node {
    let spec = NodeSpec::new("target");
    let spec = options
        .iter()
        .fold(spec, |spec, (name, value)| spec.env(&format!("UNDERSTUDY_{name}"), value));
    let mut node = spec.start();
    node.ready(LIMIT).await;
    node
}

/// The node serves others as if nothing had happened.
pub(super) async fn is_well(node: &Node) {
    let client = Client::new();
    let path = "/api/session/values/n/increment";
    let answer = client.post(node.public_url(), path).await.unwrap().expect(200);
    assert_eq!(answer.text, "{\"value\":1}");
}
