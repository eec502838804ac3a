//! Single nodes, asked and told through others.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use understudy_tests::{Answer, Client, Cluster, ClusterBuilder, Node, oracle, wait};

use super::ledger::Ledger;
use super::stage::{LIMIT, OPERATOR, Stage};
use super::supervisor::{KILLED, Supervisor};
use super::traffic::{STEADY, Tally, Traffic};

pub(super) const ELIGIBLE: &str = "UNDERSTUDY_LEADER_ELIGIBLE";
/// How soon a balancer knows that a node is out of service.
const HEEDED: Duration = Duration::from_secs(2);

/// A cluster as it is without further options, but for its operators and a short lease of the leader.
pub(super) fn usual() -> ClusterBuilder {
    Cluster::builder()
        .env("UNDERSTUDY_LEADER_TTL_MS", "3000")
        .env("UNDERSTUDY_ADMIN_OPERATOR_TOKEN", OPERATOR)
}

impl Stage {
    /// Asks one node something about another.
    pub(super) async fn ask(&self, asked: usize, about: usize, what: &str) -> Answer {
        let path = format!("/v1/nodes/{}{what}", self.cluster.nodes[about].name());
        let admin = self.cluster.nodes[asked].admin_url();
        self.client.get(admin, &path).await.expect("an answer")
    }

    /// Tells one node, through another, to do something.
    pub(super) async fn tell(&self, asked: usize, node: usize, what: &str) -> Answer {
        let path = format!("/v1/nodes/{}/{what}", self.cluster.nodes[node].name());
        let admin = self.cluster.nodes[asked].admin_url();
        let body = if what == "undrain" { json!({}) } else { json!({ "why": "a test" }) };
        self.client.post_json(admin, &path, &body).await.expect("an answer")
    }

    /// What the list of nodes or a rolling restart says is not asked: whether a balancer that asks would send requests.
    async fn is_ready(&self, node: usize) -> bool {
        let answer = self.client.get(self.cluster.url(node), "/health/ready").await;
        answer.is_ok_and(|answer| answer.status == 200)
    }
}

fn code(answer: &Answer) -> String {
    answer.json::<Value>()["code"].as_str().unwrap_or_default().to_owned()
}

fn reasons(answer: &Answer) -> Vec<String> {
    let told = answer.json::<Value>();
    let reasons = told["reasons"].as_array().expect("reasons");
    reasons.iter().map(|it| it["code"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn h4_any_node_tells_how_any_other_is_and_says_when_one_does_not_answer() {
    let mut stage = Stage::with(usual()).await;
    let lead = stage.agreed().await.node;
    let (asked, about) = ((lead + 1) % 3, lead);
    let shown = stage.ask(asked, about, "").await.expect(200).json::<Value>();
    let node = &stage.cluster.nodes[about];
    assert_eq!((&shown["node"], &shown["live"]), (&node.name().into(), &true.into()));
    assert_eq!(shown["record"]["pid"], node.pid());
    let detail = &shown["detail"];
    assert_eq!((&detail["phase"], &detail["ready"]), (&"running".into(), &true.into()), "{detail}");
    assert_eq!((&detail["drained"], &detail["reasons"]), (&Value::Null, &json!([])));
    assert_eq!(
        (&detail["redis"]["connected"], &detail["database"]["up"]),
        (&json!(true), &json!(true))
    );
    for figure in ["rss_bytes", "open_files", "cpu_seconds"] {
        assert!(detail[figure].as_f64().is_some_and(|it| it > 0.0), "{figure}: {detail}");
    }
    assert!(detail["redis"]["rtt_ms"].as_f64().is_some_and(|ms| ms < 400.0), "{detail}");
    assert!(detail["services"].as_array().is_some_and(|all| all.len() >= 2), "{detail}");
    let unknown =
        stage.client.get(stage.cluster.nodes[asked].admin_url(), "/v1/nodes/nobody").await;
    oracle!("a node that is not listed", code(&unknown.unwrap().expect(404)), "unknown_node");
    pauses_are_noticed(&stage, asked, about).await;
    stage.cluster.nodes[about].stop();
    let began = Instant::now();
    let shown = stage.ask(asked, about, "").await.expect(200).json::<Value>();
    oracle!("a node that stands still, answered after ms", began.elapsed().as_millis(), within 2_000);
    assert!(shown["detail"].is_null() && shown["record"]["pid"].is_u64(), "{shown}");
    stage.cluster.kill9(about);
    wait::until("it counts as dead", LIMIT, async || {
        stage.ask(asked, about, "").await.expect(200).json::<Value>()["live"] == false
    })
    .await;
    let refused = stage.ask(asked, about, "/safe-to-stop").await.expect(409);
    oracle!("a dead node is safe to stop", reasons(&refused).join(","), "not_alive");
    let refused = stage.tell(asked, about, "drain").await.expect(503);
    oracle!("draining a dead node", code(&refused), "node_unreachable");
}

/// A node that stands still for two seconds says so in its log, in its metrics and to operators.
async fn pauses_are_noticed(stage: &Stage, asked: usize, about: usize) {
    let node = &stage.cluster.nodes[about];
    let before = told_pauses(node).len();
    node.stop();
    let stopped = Instant::now();
    let two_seconds = Duration::from_millis(2_050);
    wait::until("two seconds are over", LIMIT, async || stopped.elapsed() >= two_seconds).await;
    node.cont();
    let pauses = async || {
        let pauses = told_pauses(node).split_off(before);
        (!pauses.is_empty()).then_some(pauses)
    };
    let (pauses, _) = wait::until_some("it says that it stood still", LIMIT, pauses).await;
    oracle::note(&format!("pauses in the log, s: {pauses:?}"));
    let longest = pauses.into_iter().fold(0.0, f64::max);
    oracle!("longest pause in the log, s", longest, >= 1.9);
    oracle!("longest pause in the log, s", longest, <= 3.5);
    let detail = stage.ask(asked, about, "").await.expect(200).json::<Value>()["detail"].clone();
    let longest_ms = detail["pauses"]["longest_ms"].as_u64().unwrap_or(0);
    oracle!("longest pause as operators see it, ms", longest_ms, >= 1_900);
    assert!(detail["pauses"]["last_ms"].is_u64(), "{detail}");
    oracle!("pauses in the metrics", node.metric("understudy_pauses_seconds_count").await, >= 1.0);
    oracle!("their sum, s", node.metric("understudy_pauses_seconds_sum").await, >= 1.9);
}

/// Reads `paused 2.0s`.
fn told_pauses(node: &Node) -> Vec<f64> {
    let events = node.events();
    let texts = events.iter().filter_map(|event| event["fields"]["message"].as_str());
    texts.filter_map(|text| text.strip_prefix("paused ")?.strip_suffix('s')?.parse().ok()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn h9_a_node_is_taken_out_of_service_and_back_under_load_and_nobody_notices() {
    let stage = Stage::with(usual().nginx(true)).await;
    stage.with_patient_probe().await;
    let balancer = stage.cluster.balancer();
    let lead = stage.agreed().await;
    let (drained, through, other) = (lead.node, (lead.node + 1) % 3, (lead.node + 2) % 3);
    let ledger = Ledger::begin(stage.cluster.url(drained), 9).await;
    let traffic = Traffic::start(&ledger, &[&balancer], STEADY);
    ledger.mark().await;
    wait::until("traffic runs", LIMIT, async || ledger.all_written_since_mark(2)).await;
    let slow = slow_run(&stage, drained).await;
    let told = Instant::now();
    let answer = stage.tell(through, drained, "drain").await.expect(200).json::<Value>();
    assert_eq!(answer["drained"]["why"], "a test", "{answer}");
    wait::until("it is not ready", LIMIT, async || !stage.is_ready(drained).await).await;
    oracle!("not ready after, ms", told.elapsed().as_millis(), within 1_000);
    stage.term_after(lead.epoch).await;
    oracle!("another leads after, ms", told.elapsed().as_millis(), <= 2_000);
    wait::until("balancers have had their time", LIMIT, async || told.elapsed() >= HEEDED).await;
    let (since_ms, lines) = (stage.now_ms(), stage.balanced().len());
    it_serves_what_only_it_could(&stage, &ledger, drained).await;
    ledger.mark().await;
    wait::until("traffic goes on", LIMIT, async || ledger.all_written_since_mark(12)).await;
    let log = stage.balanced().split_off(lines);
    let served = stage.served_by(drained, &log);
    oracle::note(&format!("of {} requests, served by the node that is out: {served}", log.len()));
    oracle!("requests served by the node that is out, of 1000", served * 1_000 / log.len(), <= 10);
    let name = stage.cluster.nodes[drained].name().to_owned();
    let started = stage.count(&format!(
        "SELECT count(*) FROM us_job_run WHERE NOT system AND node LIKE '{name}#%' AND started_ms >= {since_ms}"
    ));
    oracle!("runs that began on it", started, 0);
    oracle!(
        "the run that was under way",
        end_of(&stage, slow).await,
        format!("completed|1|{name}")
    );
    let asked = Instant::now();
    stage.tell(other, drained, "undrain").await.expect(200);
    wait::until("it is ready again", LIMIT, async || stage.is_ready(drained).await).await;
    oracle!("ready again after, ms", asked.elapsed().as_millis(), within 1_000);
    let lines = stage.balanced().len();
    wait::until("nginx sends it requests", LIMIT, async || {
        stage.served_by(drained, &stage.balanced().split_off(lines)) > 20
    })
    .await;
    let tally = traffic.stop().await;
    oracle!("reads that failed", Tally::get(&tally.failed_reads), 0);
    oracle!("increments that failed", Tally::get(&tally.failed_writes), 0);
    oracle!("reads that were stale", Tally::get(&tally.stale), 0);
    ledger.is_exact(&balancer).await;
    stage.settle("probe").await;
}

impl Stage {
    /// The lines of nginx's log.
    fn balanced(&self) -> Vec<String> {
        let nginx = self.cluster.nginx.as_ref().expect("a cluster with nginx");
        nginx.access_log().lines().map(str::to_owned).collect()
    }

    /// How many requests a node has answered with anything but 503.
    fn served_by(&self, node: usize, log: &[String]) -> usize {
        let address = self.cluster.url(node).trim_start_matches("http://").to_owned();
        log.iter().filter(|line| is_served_by(line, &address)).count()
    }
}

/// Reads `client "GET / HTTP/1.1" 200 first:1, second:2 503, 200 0.001, 0.002`.
fn is_served_by(line: &str, address: &str) -> bool {
    let Some((_, rest)) = line.rsplit_once("\" ") else { return false };
    let words: Vec<&str> = rest.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    let asked = words.iter().filter(|word| word.contains(':')).count();
    let nodes = words.iter().skip(1).take(asked);
    let statuses = words.iter().skip(1 + asked).take(asked);
    nodes.zip(statuses).any(|(node, status)| *node == address && *status != "503")
}

#[test]
fn the_log_of_the_balancer_is_read_right() {
    let line =
        "127.0.0.1 \"GET /read HTTP/1.1\" 200 127.0.0.1:1, 127.0.0.1:2 503, 200 0.001, 0.002";
    assert!(!is_served_by(line, "127.0.0.1:1") && is_served_by(line, "127.0.0.1:2"));
    let line = "127.0.0.1 \"POST /incr HTTP/1.1\" 200 127.0.0.1:1 200 0.001";
    assert!(is_served_by(line, "127.0.0.1:1") && !is_served_by(line, "127.0.0.1:2"));
}

/// Whoever comes to the node itself: what may be repeated elsewhere is sent away, all else is served, from the sessions
/// that it owns as well.
async fn it_serves_what_only_it_could(stage: &Stage, ledger: &Ledger, drained: usize) {
    let (url, account) = (stage.cluster.url(drained), &ledger.accounts[0]);
    let sent_away = account.client.get(url, "/read").await.unwrap().expect(503);
    oracle!("a GET at the node itself", code(&sent_away), "drained");
    assert_eq!(sent_away.header("retry-after"), Some("1"));
    assert_eq!(sent_away.header("connection"), Some("close"));
    let (_, served) = account.increment(url).await;
    served.unwrap().expect(200);
}

/// Has the leader run a job for three seconds; gives the number of the run once it is under way on this node.
async fn slow_run(stage: &Stage, leader: usize) -> u64 {
    let at_ms = stage.now_ms() + 500;
    stage
        .define(json!({
            "name": "long", "handler": "slow", "params": { "ms": 4_000 },
            "schedule": { "kind": "once", "at_ms": at_ms },
        }))
        .await;
    let name = stage.cluster.nodes[leader].name();
    let noted = format!(
        "SELECT COALESCE(min(run), 0) FROM probe WHERE job = 'long' AND node LIKE '{name}#%'"
    );
    let run = async || Some(stage.count(&noted)).filter(|run| *run > 0);
    wait::poll("the run is under way", LIMIT, Duration::from_millis(50), run).await.0
}

async fn end_of(stage: &Stage, run: u64) -> String {
    let sql = format!(
        "SELECT state, attempt, split_part(node, '#', 1) FROM us_job_run WHERE id = {run} AND finished_ms IS NOT NULL"
    );
    let ended = async || {
        Some(stage.cluster.postgres.query(&sql).trim().to_owned()).filter(|it| !it.is_empty())
    };
    wait::poll("the run has ended", LIMIT, Duration::from_millis(50), ended).await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn h9_the_last_node_is_not_taken_by_mistake_and_one_is_restarted() {
    let builder = usual().env("UNDERSTUDY_OPS_DRAIN_DELAY_MS", "0");
    let builder = builder.node_env(1, ELIGIBLE, "false").node_env(2, ELIGIBLE, "false");
    let mut stage = Stage::with(builder).await;
    oracle!("who leads", stage.agreed().await.node, 0);
    let refused = stage.ask(1, 0, "/safe-to-stop").await.expect(409);
    assert_eq!(code(&refused), "not_safe");
    oracle!("the only one that may lead", reasons(&refused).join(","), "only_eligible_leader");
    let safe = stage.ask(0, 1, "/safe-to-stop").await.expect(200).json::<Value>();
    assert_eq!((&safe["safe"], &safe["reasons"]), (&json!(true), &json!([])), "{safe}");
    stage.tell(0, 1, "drain").await.expect(200);
    the_last_two_are_not_taken_at_once(&stage).await;
    stage.tell(0, 2, "drain").await.expect(200);
    let refused = stage.tell(1, 0, "drain").await.expect(409);
    oracle!("draining the last ready node", code(&refused), "last_node");
    let refused = stage.tell(1, 0, "restart").await.expect(409);
    oracle!("restarting the last ready node", code(&refused), "last_node");
    let refused = stage.ask(2, 0, "/safe-to-stop").await.expect(409);
    oracle!(
        "is it safe to stop",
        reasons(&refused).join(","),
        "last_ready_node,only_eligible_leader"
    );
    stage.tell(1, 0, "drain?force=true").await.expect(200);
    assert!(!stage.is_ready(0).await);
    stage.client.get(stage.cluster.url(0), "/nothing").await.unwrap().expect(200);
    oracle::note("a node that is out of service serves what comes while no other is ready");
    wait::until("nobody leads", LIMIT, async || stage.leads().await.is_none()).await;
    for node in [0, 1, 2] {
        stage.tell(0, node, "undrain").await.expect(200);
        wait::until("it is ready again", LIMIT, async || stage.is_ready(node).await).await;
    }
    oracle!("who leads again", stage.agreed().await.node, 0);
    let before = stage.ask(0, 1, "").await.expect(200).json::<Value>()["record"]["id"].clone();
    let answer = stage.tell(2, 1, "restart").await.expect(202).json::<Value>();
    let life =
        format!("{}#{}", answer["node"].as_str().unwrap(), answer["incarnation"].as_str().unwrap());
    assert_eq!(before, life.as_str());
    let mut supervisor = Supervisor::default();
    supervisor
        .until(&mut stage.cluster, ("another life of it is ready", LIMIT), async |cluster| {
            let path = format!("/v1/nodes/{}", cluster.nodes[1].name());
            let client = Client::new().bearing(OPERATOR);
            let shown = client.get(cluster.nodes[0].admin_url(), &path).await.ok()?;
            let shown = (shown.status == 200).then(|| shown.json::<Value>())?;
            (shown["record"]["id"] != before && shown["detail"]["ready"] == true).then_some(())
        })
        .await;
    oracle!("statuses with which nodes ended", format!("{:?}", supervisor.ended), "[(1, 0)]");
    the_first_signal_hurries_nothing_and_the_second_does(&mut stage).await;
}

/// Two operators take out the last two nodes at the same time, each through the node that the other one takes out.
async fn the_last_two_are_not_taken_at_once(stage: &Stage) {
    for _ in 0..3 {
        let (first, second) = tokio::join!(stage.tell(2, 0, "drain"), stage.tell(0, 2, "drain"));
        let mut statuses = [first.status, second.status];
        statuses.sort_unstable();
        oracle!("draining the last two at once", format!("{statuses:?}"), "[200, 409]");
        let refused = if first.status == 409 { &first } else { &second };
        oracle!("the one that came second", code(refused), "last_node");
        for node in [0, 2] {
            stage.tell(1, node, "undrain").await.expect(200);
            wait::until("it is ready again", LIMIT, async || stage.is_ready(node).await).await;
        }
    }
    oracle!("who leads after that", stage.agreed().await.node, 0);
}

/// A signal that comes while an operator's restart drains the node, as from a service manager that knows nothing of it:
/// whoever is being served is served to the end. One more means that somebody is in a hurry.
async fn the_first_signal_hurries_nothing_and_the_second_does(stage: &mut Stage) {
    let served = under_way(stage, 6_000).await;
    restart_and_signal(stage).await;
    let answer = served.await.unwrap().expect("the request that was under way has an answer");
    oracle!("status of the request that was under way", answer.status, 200);
    let status = stage.cluster.nodes[1].wait_exit(LIMIT).await;
    oracle!("exit status after one signal", status.code().unwrap_or(KILLED), 0);
    stage.cluster.restart(1).await;
    let cut_short = under_way(stage, 60_000).await;
    restart_and_signal(stage).await;
    let signalled = Instant::now();
    stage.cluster.nodes[1].terminate();
    stage.cluster.nodes[1].wait_exit(LIMIT).await;
    oracle!("left after the second signal, ms", signalled.elapsed().as_millis(), within 5_000);
    assert!(cut_short.await.unwrap().is_err(), "a request of a minute has an answer");
}

/// Has node 1 work on a request for so long.
async fn under_way(stage: &Stage, ms: u64) -> JoinHandle<Result<Answer, reqwest::Error>> {
    let url = stage.cluster.url(1).to_owned();
    let asking = tokio::spawn(async move {
        // Longer than the request, which a node in its drain may take long over.
        let client = Client::with_timeout(Duration::from_secs(90));
        client.post(&url, &format!("/sleep?ms={ms}")).await
    });
    wait::until("it is under way", LIMIT, async || {
        let shown = stage.ask(0, 1, "").await.expect(200).json::<Value>();
        shown["detail"]["requests_under_way"].as_u64().is_some_and(|count| count > 0)
    })
    .await;
    asking
}

/// Has node 1 restarted by an operator, and sends it a signal while it drains; returns when it has taken note of that.
async fn restart_and_signal(stage: &Stage) {
    let node = &stage.cluster.nodes[1];
    let told = |text: &str| node.log().matches(text).count();
    let (drains, signals) = (told("node is draining"), told("asked to stop, and stops already"));
    stage.tell(2, 1, "restart").await.expect(202);
    wait::until("it drains", LIMIT, async || told("node is draining") > drains).await;
    node.terminate();
    wait::until("it goes on to drain", LIMIT, async || {
        told("asked to stop, and stops already") > signals
    })
    .await;
}
