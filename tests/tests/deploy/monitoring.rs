//! The alerts and the dashboard: every metric, label and value in them is one that the program writes, Prometheus itself
//! understands them, and the alerts fire when they should.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use understudy_tests::servers::{Scratch, find_program, run};

use super::files::read;
use super::promql::check;
use super::yaml::{at, document, each, text};

const LIMIT: Duration = Duration::from_secs(60);

fn promtool(arguments: &[&str], file: &Path) {
    let mut promtool = Command::new(find_program("promtool"));
    run(promtool.args(arguments).arg(file), LIMIT)
        .unwrap_or_else(|complaint| panic!("{complaint}"));
}

/// Puts the rules into a folder, and beside them what is given.
fn beside_rules(name: &str, content: &str) -> (Scratch, PathBuf) {
    let folder = Scratch::new("prometheus");
    std::fs::write(folder.join("alerts.yml"), read("deploy/prometheus/alerts.yml")).unwrap();
    std::fs::write(folder.join("viewer-token"), "token").unwrap();
    let file = folder.join(name);
    std::fs::write(&file, content).unwrap();
    (folder, file)
}

fn alerts() -> Vec<Value> {
    let rules = document(&read("deploy/prometheus/alerts.yml"));
    let groups = each(&rules, "/groups");
    groups.into_iter().flat_map(|group| each(group, "/rules")).cloned().collect()
}

#[test]
fn h6_every_alert_speaks_of_what_nodes_write_and_says_what_to_do() {
    let mut names = BTreeSet::new();
    for alert in alerts() {
        let name = text(&alert, "/alert");
        assert!(name.starts_with("Understudy") && names.insert(name.to_owned()), "{name}");
        check(text(&alert, "/expr"));
        let severity = text(&alert, "/labels/severity");
        assert!(matches!(severity, "critical" | "warning"), "{name}: {severity}");
        for part in ["summary", "action"] {
            assert!(!text(&alert, &format!("/annotations/{part}")).is_empty(), "{name}: {part}");
        }
    }
    for needed in [
        "NoLeader",
        "SeveralLeaders",
        "FiresMissed",
        "RunsOrphaned",
        "RedisAway",
        "DatabaseAway",
        "NodeNotReady",
        "NoNodeReady",
        "SessionsRefused",
        "ConfigDiffers",
        "LeaseLost",
        "RequestsFail",
    ] {
        assert!(names.contains(&format!("Understudy{needed}")), "there is no alert for {needed}");
    }
}

#[test]
fn h6_prometheus_accepts_the_rules_and_the_sample_of_its_configuration() {
    let (_folder, file) = beside_rules("prometheus.yml", &read("deploy/prometheus/prometheus.yml"));
    promtool(&["check", "rules"], &file.with_file_name("alerts.yml"));
    promtool(&["check", "config"], &file);
    // Where it looks is where the nodes listen for operators.
    let sample = document(&read("deploy/prometheus/prometheus.yml"));
    for target in each(&sample, "/scrape_configs/0/static_configs/0/targets") {
        assert!(target.as_str().unwrap().ends_with(":9090"), "{target}");
    }
    assert_eq!(text(&sample, "/scrape_configs/0/job_name"), "understudy", "as in the rules");
}

#[test]
fn h6_alerts_fire_when_they_should_and_not_before() {
    let (_folder, file) = beside_rules("test.yml", include_str!("alerts.test.yml"));
    promtool(&["test", "rules"], &file);
}

fn dashboard() -> Value {
    serde_json::from_str(&read("deploy/grafana/understudy.json")).unwrap()
}

fn panels(dashboard: &Value) -> Vec<&Value> {
    each(dashboard, "/panels").into_iter().filter(|panel| panel["type"] != "row").collect()
}

/// Every query of the dashboard, with the title of its panel.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let of_panel = |panel: &Value| -> Vec<(String, String)> {
        let title = text(panel, "/title").to_owned();
        let targets = each(panel, "/targets").into_iter();
        targets.map(|target| (title.clone(), text(target, "/expr").to_owned())).collect()
    };
    panels(dashboard).into_iter().flat_map(of_panel).collect()
}

#[test]
fn h5_every_query_of_the_dashboard_speaks_of_what_nodes_write() {
    let dashboard = dashboard();
    let mut shown = BTreeSet::new();
    for (title, query) in queries(&dashboard) {
        assert!(query.contains("job=\"$job\""), "{title}: only the chosen cluster is asked for");
        shown.extend(check(&query).into_iter().map(|metric| metric.name));
    }
    for needed in [
        "understudy_http_requests_total",
        "understudy_http_request_duration_seconds",
        "understudy_nodes",
        "leader_is_leader",
        "leaderless_seconds_total",
        "fire_lateness_seconds",
        "job_runs_active",
        "sessions_resident",
        "session_conflicts_total",
        "understudy_redis_up",
        "understudy_redis_script_seconds",
        "understudy_database_connections",
        "process_resident_memory_bytes",
    ] {
        assert!(shown.contains(needed), "{needed} is not on the dashboard");
    }
    understudy_tests::oracle!("metrics on the dashboard", shown.len(), >= 30);
    // Choosing a cluster and a node needs a metric that every node writes.
    for variable in each(&dashboard, "/templating/list") {
        let Some(query) = variable["query"]["query"].as_str() else { continue };
        let inside =
            query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).unwrap();
        let (metric, label) = inside.rsplit_once(", ").unwrap();
        check(metric);
        assert!(matches!(label, "job" | "instance"), "{query}");
    }
}

#[test]
fn h5_prometheus_understands_every_query_of_the_dashboard() {
    let rules: Vec<Value> = queries(&dashboard())
        .into_iter()
        .enumerate()
        .map(|(number, (_, query))| {
            // What Grafana puts in before it asks.
            let query = query.replace("$__rate_interval", "1m").replace("$__range", "1h");
            json!({"record": format!("query:{number}"), "expr": query.replace("$instance", ".*")})
        })
        .collect();
    let groups = json!({"groups": [{"name": "dashboard", "rules": rules}]});
    // JSON is YAML.
    let (_folder, file) = beside_rules("dashboard.yml", &groups.to_string());
    promtool(&["check", "rules"], &file);
}

#[test]
fn the_dashboard_is_whole() {
    let dashboard = dashboard();
    let mut ids = BTreeSet::new();
    let mut taken = BTreeMap::new();
    for panel in each(&dashboard, "/panels") {
        let title = text(panel, "/title");
        assert!(
            ids.insert(at(panel, "/id").to_string()),
            "{title} has the number of another panel"
        );
        let place = |part: &str| at(panel, &format!("/gridPos/{part}")).as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{title} does not fit");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                let before = taken.insert((x, y), title);
                assert!(before.is_none(), "{title} lies upon {before:?}");
            }
        }
    }
    assert_eq!(dashboard["uid"], "understudy");
    for panel in panels(&dashboard) {
        assert_eq!(at(panel, "/datasource/uid"), "${datasource}", "any Prometheus can be chosen");
    }
}
