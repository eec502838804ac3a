//! Jobs without Rust: three ready-made nodes call a sink once a second, whatever happens to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;
use understudy_tests::{Cluster, Program, oracle, wait};

use super::stage::{LIMIT, Stage, options, rounds, soon_orphaned};

/// Each call by its fire time: how often it came, and with which keys.
type Calls = BTreeMap<String, Vec<Call>>;

#[derive(Debug, Clone)]
struct Call {
    key: String,
    attempt: String,
}

/// A server that answers everything and remembers it.
struct Sink {
    port: u16,
    calls: Arc<watch::Sender<Calls>>,
}

impl Sink {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let calls = Arc::new(watch::Sender::new(Calls::new()));
        let noted = Arc::clone(&calls);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&noted)));
            }
        });
        Self { port, calls }
    }

    fn calls(&self) -> Calls {
        self.calls.borrow().clone()
    }
}

/// Answers the requests of one connection; a call counts when it has arrived whole.
async fn answer(mut stream: TcpStream, calls: Arc<watch::Sender<Calls>>) {
    let (mut request, mut part) = (Vec::new(), [0; 4_096]);
    while let Ok(read) = stream.read(&mut part).await {
        if read == 0 {
            return;
        }
        request.extend_from_slice(&part[..read]);
        let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
        request.drain(..end + 4);
        let header = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
            line.unwrap_or_default().trim().to_owned()
        };
        let call = Call { key: header("idempotency-key"), attempt: header("understudy-attempt") };
        let fire = format!("{} {}", header("understudy-job"), header("understudy-fire-time"));
        calls.send_modify(|calls| calls.entry(fire).or_default().push(call));
        let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        if stream.write_all(ok).await.is_err() {
            return;
        }
    }
}

fn file(port: u16) -> String {
    format!(
        "[[job]]\nname = \"ping\"\nschedule = {{ every = \"1s\" }}\nhttp = {{ url = \"http://127.0.0.1:{port}/ping\" }}\n\
         on_orphan = \"fail\"\non_lease_loss = \"continue\"\noverlap = {{ allow = 100 }}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_file_calls_its_sink_once_per_due_time_while_nodes_come_and_go() {
    let sink = Sink::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.toml");
    std::fs::write(&path, file(sink.port)).unwrap();
    let builder = soon_orphaned(options(Cluster::builder().program(Program::Understudy)))
        .env("UNDERSTUDY_JOBS_FILE", &path.display().to_string())
        .allow_error("the jobs file is broken");
    let mut stage = Stage::with(builder).await;
    wait::until("the sink is called", LIMIT, async || !sink.calls().is_empty()).await;
    let (begun, length) = (Instant::now(), Duration::from_secs(rounds(25, 180) as u64));
    let mut faults = 0;
    while begun.elapsed() < length {
        let victim = usize::from(rand::random::<u8>()) % 3;
        if faults % 3 == 2 {
            stage.cluster.nodes[victim].terminate();
            stage.cluster.nodes[victim].wait_exit(LIMIT).await;
        } else {
            stage.cluster.kill9(victim);
        }
        faults += 1;
        let seen = sink.calls().len();
        wait::until("the sink is called again", LIMIT, async || sink.calls().len() > seen).await;
        stage.cluster.restart(victim).await;
    }
    oracle::note(&format!(
        "{faults} nodes were killed or stopped in {} s",
        begun.elapsed().as_secs()
    ));
    a_broken_file_is_refused_as_a_whole(&stage, &path, sink.port).await;
    let calls = sink.calls();
    let twice = calls.values().filter(|calls| calls.len() > 1).count();
    oracle!(&format!("due times of {} that were called more than once", calls.len()), twice, 0);
    let all = calls.values().flatten();
    oracle!("calls without a key", all.clone().filter(|call| call.key.is_empty()).count(), 0);
    oracle!(
        "calls that were not the first attempt",
        all.filter(|call| call.attempt != "1").count(),
        0
    );
    let mut keys: Vec<&str> = calls.values().flatten().map(|call| call.key.as_str()).collect();
    keys.sort_unstable();
    let before = keys.len();
    keys.dedup();
    oracle!("keys that two calls had", before - keys.len(), 0);
    stage.settle("ping").await;
}

/// A change of the file takes effect, a mistake in it does not, and says so.
async fn a_broken_file_is_refused_as_a_whole(stage: &Stage, path: &std::path::Path, port: u16) {
    let second = format!(
        "{}\n[[job]]\nname = \"pong\"\nschedule = {{ every = \"1s\" }}\nhttp = {{ url = \"http://127.0.0.1:{port}/pong\" }}\n",
        file(port)
    );
    std::fs::write(path, &second).unwrap();
    wait::until("the new job is there", LIMIT, async || {
        stage.get("/v1/jobs/pong").await.status == 200
    })
    .await;
    std::fs::write(path, second.replace("every = \"1s\"", "evry = \"1s\"")).unwrap();
    wait::until("the mistake is told", LIMIT, async || {
        stage.cluster.nodes.iter().all(|node| node.log().contains("evry"))
    })
    .await;
    let job = stage.get("/v1/jobs/pong").await.json::<serde_json::Value>();
    assert_eq!(
        job["spec"]["schedule"]["every_ms"],
        json!(1_000),
        "the old one stays in force: {job}"
    );
    std::fs::write(path, file(port)).unwrap();
    wait::until("the job is gone that no file names", LIMIT, async || {
        stage.get("/v1/jobs/pong").await.status == 404
    })
    .await;
}
