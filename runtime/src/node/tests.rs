//! Whole nodes within this process, asked over their sockets.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;
use crate::admin::Operation;
use crate::service::{Health, ServiceError};

/// Sends one request and reads until the server closes; returns the whole answer.
async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    tokio::time::timeout(Duration::from_secs(10), read).await.unwrap().ok();
    String::from_utf8_lossy(&answer).into_owned()
}

async fn get(address: SocketAddr, path: &str) -> String {
    let host = format!("127.0.0.1:{}", address.port());
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await
}

fn status(answer: &str) -> u16 {
    answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or_else(|| panic!("{answer}"))
}

fn config() -> Config {
    let mut config = Config::for_test();
    config.http.workers = 1;
    config.ops.drain_delay = Duration::from_millis(300);
    config.ops.drain_timeout = Duration::from_secs(3);
    config
}

/// Tells what happens to it.
struct Diary {
    name: &'static str,
    lines: UnboundedSender<String>,
    refusals: u32,
}

impl Diary {
    fn pair(names: [&'static str; 2]) -> ([Self; 2], UnboundedReceiver<String>) {
        let (lines, read) = unbounded_channel();
        (names.map(|name| Self { name, lines: lines.clone(), refusals: 1 }), read)
    }

    fn write(&self, what: &str) {
        self.lines.send(format!("{} {what}", self.name)).unwrap();
    }
}

#[async_trait(?Send)]
impl Service for Diary {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn start(&mut self, _node: &NodeContext) -> Result<(), ServiceError> {
        if self.refusals > 0 {
            self.refusals -= 1;
            return Err(ServiceError::Retryable("once more".to_owned()));
        }
        self.write("started");
        Ok(())
    }

    fn health(&self) -> Health {
        Health::Degraded("a little".to_owned())
    }

    fn web(&self, app: &mut web::ServiceConfig) {
        app.route(&format!("/{}", self.name), web::get().to(HttpResponse::Ok));
    }

    fn operations(&self) -> &'static [Operation] {
        const FIRST: &[Operation] = &[Operation::get("first.show", "/v1/first", "Shows the first")];
        // What is not described is not there.
        if self.name == "first" { FIRST } else { &[] }
    }

    fn admin(&self, app: &mut web::ServiceConfig) {
        app.route(&format!("/v1/{}", self.name), web::get().to(HttpResponse::Ok));
    }

    async fn drain(&self) {
        self.write("drained");
    }

    async fn stop(&self) {
        self.write("stopped");
    }
}

#[actix_web::test]
async fn o2_services_start_in_order_and_go_in_the_reverse_order() {
    let ([first, second], mut lines) = Diary::pair(["first", "second"]);
    let node = NodeBuilder::new(config()).service(first).service(second).start().await.unwrap();
    for (path, described) in [("/first", 200), ("/second", 404)] {
        assert_eq!(status(&get(node.public_addr, path).await), 200);
        let admin = node.admin_addr.unwrap();
        assert_eq!(status(&get(admin, &format!("/v1{path}")).await), described);
    }
    node.stop().await;
    let mut diary = Vec::new();
    while let Ok(line) = lines.try_recv() {
        diary.push(line);
    }
    let expected = [
        "first started",
        "second started",
        "second drained",
        "first drained",
        "second stopped",
        "first stopped",
    ];
    assert_eq!(diary, expected);
}

/// Never finishes, and says how long it may take.
struct Endless(Duration);

#[async_trait(?Send)]
impl Service for Endless {
    fn name(&self) -> &'static str {
        "endless"
    }

    async fn start(&mut self, _node: &NodeContext) -> Result<(), ServiceError> {
        Ok(())
    }

    async fn stop(&self) {
        std::future::pending().await
    }

    fn stop_limit(&self) -> Duration {
        self.0
    }
}

#[actix_web::test]
async fn o2_a_service_says_how_long_its_stop_may_take_and_is_then_left_behind() {
    let ([usual, _], _lines) = Diary::pair(["first", "second"]);
    let (short, long) = (Duration::from_millis(50), Duration::from_secs(600));
    let node = NodeBuilder::new(config()).service(usual).service(Endless(long)).start();
    let patient = Box::pin(node).await.unwrap().running.stop_limit();
    let ([usual, _], _lines) = Diary::pair(["first", "second"]);
    let node = NodeBuilder::new(config()).service(usual).service(Endless(short)).start();
    let node = Box::pin(node).await.unwrap();
    assert_eq!(patient - node.running.stop_limit(), long - short, "the whole waits as long");
    tokio::time::timeout(Duration::from_secs(20), node.stop()).await.unwrap();
}

#[actix_web::test]
async fn h1_a_node_tells_how_it_is_on_both_ports() {
    let ([service, _], _lines) = Diary::pair(["first", "second"]);
    let node = NodeBuilder::new(config())
        .service(service)
        .routes(|app| {
            app.route("/", web::get().to(|| async { "home" }));
        })
        .start()
        .await
        .unwrap();
    let (public, admin) = (node.public_addr, node.admin_addr.unwrap());
    for path in
        ["/health/live", "/livez", "/health/ready", "/readyz", "/health/startup", "/startupz"]
    {
        assert_eq!(status(&get(public, path).await), 200, "{path}");
        assert_eq!(status(&get(admin, path).await), 200, "{path}");
    }
    assert!(get(public, "/").await.ends_with("home"));
    assert!(get(public, "/nowhere").await.contains("application/problem+json"));
    let about = get(admin, "/v1/about").await;
    assert!(about.contains("\"phase\":\"running\"") && about.contains("\"degraded\""), "{about}");
    let nodes = get(admin, "/v1/nodes").await;
    assert!(nodes.contains("\"this\":true") && nodes.contains("\"state\":\"ready\""), "{nodes}");
    assert!(get(admin, "/v1/config").await.contains("UNDERSTUDY_HTTP_BIND"));
    assert_eq!(status(&get(public, "/v1/about").await), 404);
    node.context().lifecycle.set_reasons(vec![Reason::new("database", "refused")]);
    let public_answer = get(public, "/readyz").await;
    assert_eq!(status(&public_answer), 503);
    assert!(!public_answer.contains("database"), "{public_answer}");
    assert!(get(admin, "/readyz").await.contains("database"));
    node.stop().await;
}

#[actix_web::test]
async fn h2_a_sick_check_of_the_application_takes_the_node_out_with_its_diagnosis() {
    let sick = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (asked, relaxed) = (Arc::clone(&sick), std::sync::atomic::Ordering::Relaxed);
    let node = NodeBuilder::new(config())
        .health("payments", move || {
            let sick = asked.load(relaxed);
            async move {
                if sick {
                    return Health::Failed("the gateway refuses".to_owned());
                }
                Health::Ready
            }
        })
        .health("disk", || async { Health::Degraded("90 % full".to_owned()) })
        .start()
        .await
        .unwrap();
    let (public, admin) = (node.public_addr, node.admin_addr.unwrap());
    assert_eq!(status(&get(public, "/readyz").await), 200, "degraded is ready");
    sick.store(true, relaxed);
    let begun = tokio::time::Instant::now();
    while status(&get(public, "/readyz").await) != 503 {
        assert!(begun.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let told = get(admin, "/readyz").await;
    assert!(told.contains(r#"{"code":"payments","detail":"the gateway refuses"}"#), "{told}");
    assert!(!get(public, "/readyz").await.contains("payments"), "strangers are told no reason");
    let about = get(admin, "/v1/about").await;
    assert!(about.contains(r#""checks":[{"name":"payments","health":"failed""#), "{about}");
    sick.store(false, relaxed);
    while status(&get(public, "/readyz").await) != 200 {
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    node.stop().await;
}

#[actix_web::test]
async fn h1_a_node_that_starts_tells_operators_why_and_refuses_users() {
    let base = Base::new(config());
    let lifecycle = base.lifecycle.clone();
    let booting = Booting::begin(base).await.unwrap();
    let (public, admin) = booting.addresses();
    lifecycle.waits_for("redis", "waiting for Redis");
    assert_eq!(status(&get(admin, "/health/live").await), 200);
    assert_eq!(status(&get(admin, "/health/ready").await), 503);
    assert_eq!(status(&get(admin, "/health/startup").await), 503);
    assert!(get(admin, "/readyz").await.contains("waiting for Redis"));
    // A balancer that is refused may send a POST elsewhere; one that is told 503 may not.
    let refused = TcpStream::connect(public).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    // The real application takes over the admin port without a connection refused in between.
    let asking = actix_web::rt::spawn(async move {
        let mut statuses = Vec::new();
        while statuses.last() != Some(&200) {
            statuses.push(status(&get(admin, "/readyz").await));
        }
        statuses
    });
    let running = booting.bring_up(Brought::nothing()).await.unwrap();
    let statuses = tokio::time::timeout(Duration::from_secs(10), asking).await.unwrap().unwrap();
    assert!(statuses.iter().all(|status| matches!(status, 503 | 200)), "{statuses:?}");
    assert_eq!(status(&get(public, "/any").await), 404);
    running.stop().await;
}

#[actix_web::test]
async fn o2_a_request_under_way_is_answered_before_the_node_goes() {
    let (begins, mut begun) = unbounded_channel();
    let node = NodeBuilder::new(config())
        .routes(move |app| {
            let begins = begins.clone();
            let slow = move || {
                begins.send(()).unwrap();
                async {
                    // Is slow: that is what it is for.
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    "done"
                }
            };
            app.route("/slow", web::get().to(slow));
        })
        .start()
        .await
        .unwrap();
    let address = node.public_addr;
    let slow = actix_web::rt::spawn(async move { get(address, "/slow").await });
    let under_way = tokio::time::timeout(Duration::from_secs(10), begun.recv());
    assert_eq!(under_way.await.unwrap(), Some(()), "the handler runs");
    node.stop().await;
    let answer = slow.await.unwrap();
    assert!(answer.ends_with("done"), "{answer}");
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[actix_web::test]
async fn a_second_node_on_the_same_data_is_refused_with_the_holder() {
    let config = config();
    let first = NodeBuilder::new(config.clone()).start().await.unwrap();
    let error = NodeBuilder::new(config).start().await.unwrap_err();
    assert_eq!(error.exit_code(), 78);
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    first.stop().await;
}

#[actix_web::test]
async fn the_connection_refuses_what_could_be_read_in_two_ways() {
    let node = NodeBuilder::new(config())
        .routes(|app| {
            app.route(
                "/",
                web::route().to(|body: web::Bytes| async move { body.len().to_string() }),
            );
        })
        .start()
        .await
        .unwrap();
    let many = (0..300).map(|n| format!("X-{n}: 1\r\n")).collect::<String>();
    let table = [
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(), 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd".to_owned(), 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET http://evil.test/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned(), 400),
        ("TRACE / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned(), 405),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(200_000)), 431),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "x".repeat(64_000)), 414),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n".to_owned(), 413),
    ];
    for (request, expected) in table {
        let answer = ask(node.public_addr, &request).await;
        assert_eq!(status(&answer), expected, "{}", &request[..request.len().min(80)]);
        assert_eq!(
            answer.matches("HTTP/1.1 ").count(),
            1,
            "nothing is left for a next request: {answer}"
        );
    }
    node.stop().await;
}

#[actix_web::test]
async fn a_client_that_drips_is_answered_408() {
    let node = NodeBuilder::new(config()).start().await.unwrap();
    let mut stream = TcpStream::connect(node.public_addr).await.unwrap();
    let began = tokio::time::Instant::now();
    let dripping = async {
        let mut answer = Vec::new();
        let (mut read, mut write) = stream.split();
        let drip = async {
            for byte in b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ".iter().chain([b'x'].iter().cycle())
            {
                write.write_all(&[*byte]).await.ok();
                // Is slow: that is what it is for.
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        };
        tokio::select! {
            _ = read.read_to_end(&mut answer) => {}
            () = drip => {}
        }
        answer
    };
    let answer = tokio::time::timeout(Duration::from_secs(20), dripping).await.unwrap();
    assert_eq!(status(&String::from_utf8_lossy(&answer)), 408);
    assert!(began.elapsed() >= Duration::from_secs(4));
    node.stop().await;
}

#[actix_web::test]
async fn v16_a_panic_in_a_handler_leaves_the_node_alive() {
    let node = NodeBuilder::new(config())
        .routes(|app| {
            app.route("/panic", web::get().to(|| async { panic!("on purpose") as HttpResponse }))
                .route("/", web::get().to(|| async { "home" }));
        })
        .start()
        .await
        .unwrap();
    for _ in 0..10 {
        let answer = get(node.public_addr, "/panic").await;
        assert_eq!(status(&answer), 500);
        assert!(!answer.contains("purpose"), "{answer}");
    }
    assert!(get(node.public_addr, "/").await.ends_with("home"));
    node.stop().await;
}

#[actix_web::test]
async fn o2_a_draining_node_closes_its_connections_after_the_answer() {
    let node = NodeBuilder::new(config())
        .routes(|app| {
            app.route("/", web::get().to(|| async { "home" }));
        })
        .start()
        .await
        .unwrap();
    node.context().lifecycle.enter(Phase::Draining);
    // No Connection: close from this side: the node ends it.
    let answer = ask(node.public_addr, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(status(&answer) == 200 && answer.contains("connection: close"), "{answer}");
    node.stop().await;
}

const OPERATOR: &str = "an-operator-of-these-tests-with-a-long-token";

/// A node that is alone, and its operators' port.
async fn operated() -> (RunningNode, SocketAddr, String) {
    let mut config = config();
    config.admin.operator_token = Some(crate::secret::Secret::new(OPERATOR.to_owned()));
    let name = config.node.id.to_string();
    let node = NodeBuilder::new(config)
        .routes(|app| {
            app.route("/", web::get().to(|| async { "home" }));
        })
        .start();
    let node = Box::pin(node).await.unwrap();
    let admin = node.admin_addr.unwrap();
    (node, admin, name)
}

async fn operate(admin: SocketAddr, method: &str, path: &str, body: &str) -> String {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n");
    let token = format!("Authorization: Bearer {OPERATOR}\r\n");
    let about = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    ask(admin, &format!("{head}{token}{about}\r\n{body}")).await
}

fn json_of(answer: &str) -> serde_json::Value {
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error} in {answer}"))
}

#[actix_web::test]
async fn h9_a_node_is_taken_out_of_service_and_back_while_it_goes_on() {
    let (node, admin, name) = operated().await;
    let drain = format!("/v1/nodes/{name}/drain");
    let refused = operate(admin, "POST", &drain, r#"{"why":"disk"}"#).await;
    assert_eq!(status(&refused), 409);
    assert_eq!(json_of(&refused)["code"], "last_node");
    assert_eq!(status(&operate(admin, "POST", &drain, "{}").await), 400, "a reason is needed");
    let elsewhere = operate(admin, "POST", "/v1/nodes/other/drain", r#"{"why":"disk"}"#).await;
    assert_eq!(json_of(&elsewhere)["code"], "unknown_node");
    assert_eq!(status(&get(node.public_addr, "/readyz").await), 200);
    let forced = format!("{drain}?force=true");
    let drained = operate(admin, "POST", &forced, r#"{"why":"disk"}"#).await;
    assert_eq!(status(&drained), 200, "{drained}");
    assert_eq!(json_of(&drained)["drained"]["why"], "disk");
    assert_eq!(status(&get(node.public_addr, "/readyz").await), 503);
    assert!(get(admin, "/readyz").await.contains("disk"), "operators see why");
    let answer = get(node.public_addr, "/").await;
    assert!(answer.ends_with("home"), "nobody else could: {answer}");
    let shown = json_of(&operate(admin, "GET", &format!("/v1/nodes/{name}"), "").await);
    assert_eq!((&shown["record"]["state"], &shown["live"]), (&"draining".into(), &true.into()));
    assert_eq!(shown["record"]["drained"]["by"], "operator");
    assert_eq!(shown["detail"]["drained"]["why"], "disk");
    assert_eq!(shown["detail"]["reasons"][0]["code"], "drained");
    let back = operate(admin, "POST", &format!("/v1/nodes/{name}/undrain"), "").await;
    assert!(status(&back) == 200 && json_of(&back)["drained"].is_null(), "{back}");
    assert_eq!(status(&get(node.public_addr, "/readyz").await), 200);
    node.stop().await;
}

#[actix_web::test]
async fn h4_a_node_tells_how_it_is_and_what_it_would_lose() {
    let (node, admin, name) = operated().await;
    let shown = json_of(&operate(admin, "GET", &format!("/v1/nodes/{name}"), "").await);
    assert_eq!(shown["node"], name.as_str());
    let detail = &shown["detail"];
    assert_eq!((&detail["phase"], &detail["ready"]), (&"running".into(), &true.into()));
    assert_eq!(detail["database"]["up"], true);
    assert!(detail["redis"].is_null() && detail["pauses"]["count"].is_u64(), "{detail}");
    if cfg!(target_os = "linux") {
        for figure in ["rss_bytes", "open_files", "cpu_seconds"] {
            assert!(detail[figure].as_f64().unwrap() > 0.0, "{figure}: {detail}");
        }
    }
    let safe = operate(admin, "GET", &format!("/v1/nodes/{name}/safe-to-stop"), "").await;
    assert_eq!(status(&safe), 409);
    assert_eq!(json_of(&safe)["reasons"][0]["code"], "last_ready_node");
    node.stop().await;
}

#[actix_web::test]
async fn h9_a_node_is_told_to_stop_after_it_has_answered() {
    let (node, admin, name) = operated().await;
    let restart = format!("/v1/nodes/{name}/restart?force=true");
    let answer = operate(admin, "POST", &restart, r#"{"why":"a new version"}"#).await;
    assert_eq!(status(&answer), 202, "{answer}");
    let incarnation = node.context().node_id.incarnation().to_string();
    assert_eq!(json_of(&answer)["incarnation"], incarnation.as_str());
    let begins = node.context().lifecycle.stop_begins();
    tokio::time::timeout(Duration::from_secs(10), begins).await.unwrap();
    node.stop().await;
}
