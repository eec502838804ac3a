//! The proxy: what it does to connections that are open and to new ones.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tokio::time::Instant;
use understudy_tests::{Direction, Fault, Proxy, Redis, oracle};

const SILENCE: Duration = Duration::from_millis(150);

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
}

fn ping(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"PING\r\n")?;
    pong(stream)
}

fn pong(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    assert_eq!(&answer, b"+PONG\r\n");
    Ok(())
}

fn is_silent(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    let silent = stream.read(&mut [0; 1]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    silent
}

async fn before_redis() -> (Redis, Proxy) {
    let redis = Redis::standalone().await;
    let proxy = Proxy::start(&format!("127.0.0.1:{}", redis.primary_port())).await;
    (redis, proxy)
}

#[tokio::test]
async fn a_healthy_proxy_passes_and_counts_bytes() {
    let (redis, proxy) = before_redis().await;
    let mut stream = connect(&proxy);
    ping(&mut stream).unwrap();
    ping(&mut stream).unwrap();
    let traffic = proxy.traffic();
    oracle!("bytes to the server", traffic.to_server, 12);
    oracle!("bytes to the client", traffic.to_client, 14);
    oracle!("connections", traffic.connections, 1);
    let large = "x".repeat(3_000_000);
    redis.cli(&["SET", "large", &large[..100_000]]);
    for _ in 0..30 {
        stream.write_all(b"GET large\r\n").unwrap();
    }
    let mut answers = vec![0; 30 * (100_000 + "$100000\r\n\r\n".len())];
    stream.read_exact(&mut answers).unwrap();
    ping(&mut stream).unwrap();
}

#[tokio::test]
async fn a_reset_breaks_open_and_new_connections_until_healed() {
    let (_redis, proxy) = before_redis().await;
    let mut open = connect(&proxy);
    ping(&mut open).unwrap();
    proxy.cut(Fault::Reset).await;
    assert_eq!(open.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let mut new = connect(&proxy);
    assert!(ping(&mut new).is_err());
    proxy.heal().await;
    ping(&mut connect(&proxy)).unwrap();
    let mut open = connect(&proxy);
    ping(&mut open).unwrap();
    proxy.reset_connections();
    assert_eq!(open.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    ping(&mut connect(&proxy)).unwrap();
}

#[tokio::test]
async fn a_refusing_proxy_has_no_port_and_gets_the_same_back() {
    let (_redis, proxy) = before_redis().await;
    let mut open = connect(&proxy);
    ping(&mut open).unwrap();
    for _ in 0..3 {
        proxy.cut(Fault::Refuse).await;
        let refused = TcpStream::connect(proxy.address()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        proxy.heal().await;
        ping(&mut connect(&proxy)).unwrap();
    }
    assert!(ping(&mut open).is_err());
}

#[tokio::test]
async fn a_half_open_connection_delivers_late_and_in_order() {
    let (redis, proxy) = before_redis().await;
    let mut stream = connect(&proxy);
    ping(&mut stream).unwrap();
    proxy.cut(Fault::HalfOpen(Direction::Response)).await;
    stream.write_all(b"INCR n\r\n").unwrap();
    assert!(is_silent(&mut stream));
    assert_eq!(redis.cli(&["GET", "n"]), "1", "the request itself gets through");
    proxy.cut(Fault::HalfOpen(Direction::Request)).await;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b":1\r\n");
    stream.write_all(b"INCR n\r\n").unwrap();
    assert!(is_silent(&mut stream));
    assert_eq!(redis.cli(&["GET", "n"]), "1", "the request is still on its way");
    proxy.heal().await;
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b":2\r\n");
}

#[tokio::test]
async fn a_silent_network_keeps_connections_open() {
    let (_redis, proxy) = before_redis().await;
    let mut open = connect(&proxy);
    ping(&mut open).unwrap();
    proxy.cut(Fault::Silent).await;
    let mut new = connect(&proxy);
    for stream in [&mut open, &mut new] {
        stream.write_all(b"PING\r\n").unwrap();
        assert!(is_silent(stream));
    }
    proxy.heal().await;
    pong(&mut open).unwrap();
    pong(&mut new).unwrap();
}

#[tokio::test]
async fn a_delay_counts_once_per_direction_and_not_per_chunk() {
    let (_redis, proxy) = before_redis().await;
    let mut stream = connect(&proxy);
    ping(&mut stream).unwrap();
    proxy.delay(Duration::from_millis(50));
    let start = Instant::now();
    for _ in 0..20 {
        stream.write_all(b"PING\r\n").unwrap();
    }
    for _ in 0..20 {
        pong(&mut stream).unwrap();
    }
    let took = start.elapsed().as_millis();
    oracle!("20 pipelined round trips over 50 ms each way, ms", took, >= 100);
    oracle!("20 pipelined round trips over 50 ms each way, ms", took, within 900);
}
