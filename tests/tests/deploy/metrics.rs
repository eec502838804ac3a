//! The page of metrics, the tables in the code, what the code counts, and what real nodes serve: all four say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use understudy::runtime::telemetry::{Label, Metric, MetricKind};
use understudy_tests::servers::{Scratch, find_program, run};
use understudy_tests::{Client, Cluster, Node, oracle, wait};

use super::files::{project, read};
use super::ledger::turn;

const LIMIT: Duration = Duration::from_secs(60);
const OPERATOR: &str = "operator-token-of-this-test";

fn row(metric: &Metric) -> String {
    let label = |label: &Label| {
        let values: Vec<String> = label.values.iter().map(|value| format!("`{value}`")).collect();
        let name = format!("`{}`", label.name);
        if values.is_empty() { name } else { format!("{name}: {}", values.join(", ")) }
    };
    let labels: Vec<String> = metric.labels.iter().map(label).collect();
    let labels = if labels.is_empty() { "-".to_owned() } else { labels.join("; ") };
    let (name, kind, unit) = (metric.name, metric.kind.as_str(), metric.unit());
    format!("| `{name}` | {kind} | {unit} | {labels} | {} |", metric.meaning)
}

#[test]
fn h5_the_page_and_the_code_know_the_same_metrics() {
    let page = read("docs/metrics.md");
    let rows = page.lines().filter_map(|line| {
        let name = line.strip_prefix("| `")?.split('`').next()?;
        Some((name, line))
    });
    let on_page: BTreeMap<&str, &str> = rows.collect();
    let mut known = BTreeSet::new();
    for metric in understudy::metrics() {
        assert!(known.insert(metric.name), "{} is in the tables twice", metric.name);
        let expected = row(metric);
        let found = on_page.get(metric.name).copied();
        assert_eq!(found, Some(expected.as_str()), "write into docs/metrics.md:\n{expected}");
    }
    for name in on_page.keys() {
        assert!(known.contains(name), "{name} is on the page but not in the code");
    }
}

/// One place in the code that counts something.
#[derive(Debug)]
struct Site {
    name: String,
    kind: MetricKind,
    labels: BTreeSet<String>,
    place: String,
}

/// Every place that counts something, tests left out.
fn sites() -> Vec<Site> {
    let mut sites = Vec::new();
    for folder in ["runtime/src", "session/src", "scheduler/src", "src"] {
        walk(&project().join(folder), &mut |path| {
            let text = std::fs::read_to_string(path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            for (word, kind) in [
                ("counter!(", MetricKind::Counter),
                ("gauge!(", MetricKind::Gauge),
                ("histogram!(", MetricKind::Histogram),
            ] {
                let calls =
                    code.match_indices(word).filter(|(at, _)| !code[..*at].ends_with("describe_"));
                sites.extend(calls.filter_map(|(at, _)| site(code, at + word.len(), kind, path)));
            }
        });
    }
    sites
}

fn walk(folder: &Path, each: &mut impl FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            walk(&path, each);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            each(&path);
        }
    }
}

/// Reads a call from behind its bracket; none for the calls of the tables, which name no metric.
fn site(code: &str, from: usize, kind: MetricKind, path: &Path) -> Option<Site> {
    let mut open = 1;
    let end = code[from..].find(|letter| {
        open += i32::from(letter == '(') - i32::from(letter == ')');
        open == 0
    })?;
    let call = &code[from..from + end];
    let first = call.split(',').next()?.trim();
    let name = match first.strip_prefix('"') {
        Some(text) => text.trim_end_matches('"').to_owned(),
        None if first.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_') => {
            let constant = format!("const {first}: &str = \"");
            code.split(&constant).nth(1)?.split('"').next()?.to_owned()
        }
        None => return None,
    };
    let labels = call.split(',').skip(1).filter_map(|part| {
        let (label, _) = part.split_once("=>")?;
        Some(label.trim().trim_matches('"').to_owned())
    });
    Some(Site { name, kind, labels: labels.collect(), place: path.display().to_string() })
}

fn labels_of(metric: &Metric) -> BTreeSet<String> {
    metric.labels.iter().map(|label| label.name.to_owned()).collect()
}

#[test]
fn h5_what_the_code_counts_is_in_the_tables_and_nothing_else_is() {
    let sites = sites();
    oracle!("places in the code that count something", sites.len(), >= 40);
    let mut counted = BTreeSet::new();
    for site in &sites {
        let metric = understudy::metrics().find(|metric| metric.name == site.name);
        let metric =
            metric.unwrap_or_else(|| panic!("{} is in no table ({})", site.name, site.place));
        assert_eq!(metric.kind, site.kind, "{site:?}");
        assert_eq!(labels_of(metric), site.labels, "{site:?}");
        counted.insert(metric.name);
    }
    for metric in understudy::metrics() {
        assert!(
            counted.contains(metric.name),
            "{} is in a table, but nothing counts it",
            metric.name
        );
    }
}

/// Some of everything: sessions, jobs, routes that are not there.
async fn load(cluster: &Cluster) {
    let client = Client::new();
    for node in 0..cluster.nodes.len() {
        let url = cluster.url(node);
        client.post(url, "/incr").await.unwrap().expect(200);
        client.get(url, "/read").await.unwrap().expect(200);
        client.get(url, "/no-such-page").await.unwrap().expect(404);
    }
    let admin = cluster.nodes[0].admin_url();
    let job = serde_json::json!({
        "name": "often", "handler": "nothing", "schedule": {"kind": "every", "every_ms": 1_000},
    });
    let operator = client.bearing(OPERATOR);
    let defined = operator.put_json(admin, "/v1/jobs/often", &job).await.unwrap();
    assert!(matches!(defined.status, 200 | 201), "{defined:?}");
    wait::until("a run of it has begun", LIMIT, async || {
        cluster.metric("fire_lateness_seconds_count").await > 0.0
    })
    .await;
}

async fn text_of(node: &Node) -> String {
    let operator = Client::new().bearing(OPERATOR);
    operator.get(node.admin_url(), "/metrics").await.unwrap().expect(200).text
}

/// A line `name{label="value",...} number`.
fn series(line: &str) -> (&str, BTreeMap<&str, &str>) {
    let (name, rest) = line.split_once(['{', ' ']).unwrap();
    let Some((inside, _)) = rest.split_once("\"} ") else { return (name, BTreeMap::new()) };
    let pairs = inside.split("\",").filter_map(|pair| pair.split_once("=\""));
    (name, pairs.collect())
}

/// Checks everything that a node serves; returns the metrics that it does.
fn is_as_described(text: &str) -> BTreeSet<&'static str> {
    let mut seen = BTreeSet::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, mut labels) = series(line);
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let find = |name: &str| understudy::metrics().find(|metric| metric.name == name);
        let histogram = base.and_then(find).filter(|metric| metric.kind == MetricKind::Histogram);
        let metric =
            histogram.or_else(|| find(name)).unwrap_or_else(|| panic!("{line}: in no table"));
        labels.remove("le");
        let names: BTreeSet<String> = labels.keys().map(|name| (*name).to_owned()).collect();
        assert_eq!(names, labels_of(metric), "{line}");
        for label in metric.labels.iter().filter(|label| !label.values.is_empty()) {
            assert!(
                label.values.contains(&labels[label.name]),
                "{line}: {} is not told",
                label.name
            );
        }
        let kind = format!("# TYPE {} {}", metric.name, metric.kind.as_str());
        assert!(text.contains(&kind), "{kind} is not written");
        let help = format!("# HELP {} {}\n", metric.name, metric.meaning);
        assert!(text.contains(&help), "{help} is not written");
        seen.insert(metric.name);
    }
    seen
}

/// What an operator looks at first; the rest appears when there is something to count.
const NEEDED: [&str; 31] = [
    "understudy_build_info",
    "understudy_node_ready",
    "understudy_nodes",
    "understudy_nodes_config_differs",
    "understudy_http_requests_total",
    "understudy_http_request_duration_seconds",
    "understudy_http_requests_under_way",
    "understudy_event_loop_lag_seconds",
    "understudy_actors",
    "understudy_actor_messages_total",
    "understudy_lease_remaining_seconds",
    "understudy_redis_up",
    "understudy_redis_script_seconds",
    "understudy_redis_commands_under_way",
    "understudy_database_up",
    "understudy_database_connections",
    "understudy_database_connections_max",
    "sessions_resident",
    "session_conflicts_total",
    "session_refusals_total",
    "session_jobs_waiting",
    "leader_is_leader",
    "leader_lease_remaining_seconds",
    "leaderless_seconds_total",
    "fire_lateness_seconds",
    "fire_decisions_total",
    "job_runs_active",
    "job_runs_total",
    "orphaned_runs_total",
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
];

#[tokio::test(flavor = "multi_thread")]
async fn h5_what_nodes_serve_is_as_the_page_says_and_prometheus_finds_no_fault() {
    let _turn = turn().await;
    let builder = Cluster::builder().nodes(2).env("UNDERSTUDY_ADMIN_OPERATOR_TOKEN", OPERATOR);
    let cluster = builder.start().await;
    load(&cluster).await;
    let mut seen = BTreeSet::new();
    for node in &cluster.nodes {
        wait::until("it has looked at itself", LIMIT, async || {
            node.metric("process_open_fds").await > 0.0
        })
        .await;
        let text = text_of(node).await;
        seen.extend(is_as_described(&text));
        let folder = Scratch::new("metrics");
        std::fs::write(folder.join("metrics"), &text).unwrap();
        let mut promtool = Command::new("sh");
        promtool.args(["-c", "\"$0\" check metrics < metrics"]).arg(find_program("promtool"));
        run(promtool.current_dir(folder.path()), LIMIT).unwrap_or_else(|fault| panic!("{fault}"));
    }
    oracle::note(&format!(
        "{} of {} metrics were there",
        seen.len(),
        understudy::metrics().count()
    ));
    for needed in NEEDED {
        assert!(seen.contains(needed), "{needed} was not there");
    }
    tells_of_the_cluster(&cluster).await;
}

async fn tells_of_the_cluster(cluster: &Cluster) {
    let nodes = cluster.nodes[0].metric("understudy_nodes{state=\"ready\"}").await;
    oracle!("nodes that a node sees ready", nodes, 2.0);
    oracle!("nodes that lead", cluster.metric("leader_is_leader").await, 1.0);
    let pools: BTreeSet<String> = text_of(&cluster.nodes[0])
        .await
        .lines()
        .filter(|line| line.starts_with("understudy_database_connections_max"))
        .map(|line| series(line).1["pool"].to_owned())
        .collect();
    assert_eq!(pools, BTreeSet::from(["main".to_owned(), "scheduler".to_owned()]));
    // The lease of the leader is shown while it lasts, by the leader only.
    let remaining = cluster.metric("leader_lease_remaining_seconds").await;
    oracle!("the leader's lease is trusted for, s", remaining, <= 5.0);
    assert!(remaining > 0.0, "{remaining}");
}

#[tokio::test(flavor = "multi_thread")]
async fn h5_what_is_away_is_told() {
    let _turn = turn().await;
    let mut cluster = Cluster::builder().nodes(1).start().await;
    let node = &cluster.nodes[0];
    let is = async |name: &str, value: f64| (node.metric(name).await - value).abs() < f64::EPSILON;
    wait::until("both are up", LIMIT, async || {
        is("understudy_redis_up", 1.0).await && is("understudy_database_up", 1.0).await
    })
    .await;
    cluster.redis.kill();
    wait::until("Redis is away", LIMIT, async || is("understudy_redis_up", 0.0).await).await;
    wait::until("the lease is over", LIMIT, async || {
        is("understudy_lease_remaining_seconds", 0.0).await
    })
    .await;
    wait::until("nobody leads", LIMIT, async || is("leader_is_leader", 0.0).await).await;
    assert!(is("understudy_database_up", 1.0).await && is("understudy_node_ready", 0.0).await);
    let refused = Client::new().post(node.public_url(), "/incr").await.unwrap().expect(503);
    assert!(node.metric("session_refusals_total").await >= 1.0, "{refused:?}");
}
