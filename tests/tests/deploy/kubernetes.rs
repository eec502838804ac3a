//! The manifests for Kubernetes: what in them must agree with the program, and with each other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use understudy_tests::{Client, NodeSpec};

use super::files::{accepted, default_of, is_option, project, read, secrets};
use super::limits::{is_enough, stop_limit};
use super::yaml::{at, document, documents, each, text};

/// All objects, by their kind and name.
fn objects() -> BTreeMap<String, Value> {
    let kustomization = document(&read("deploy/kubernetes/kustomization.yaml"));
    let listed = each(&kustomization, "/resources");
    let mut objects = BTreeMap::new();
    for file in listed {
        for object in documents(&read(&format!("deploy/kubernetes/{}", file.as_str().unwrap()))) {
            let name = format!("{} {}", text(&object, "/kind"), text(&object, "/metadata/name"));
            assert!(objects.insert(name.clone(), object).is_none(), "{name} is there twice");
        }
    }
    objects
}

fn options(objects: &BTreeMap<String, Value>) -> BTreeMap<String, String> {
    let data = objects["ConfigMap understudy"]["data"].as_object().unwrap();
    data.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

fn pod(objects: &BTreeMap<String, Value>) -> Value {
    at(&objects["Deployment understudy"], "/spec/template/spec").clone()
}

#[test]
fn o5_every_manifest_is_listed_and_there_is_what_a_cluster_needs() {
    let kinds: BTreeSet<String> = objects().into_keys().collect();
    let expected = [
        "ConfigMap understudy",
        "Deployment understudy",
        "NetworkPolicy understudy",
        "PodDisruptionBudget understudy",
        "Service understudy",
        "Service understudy-admin",
    ];
    assert_eq!(kinds.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    let files = std::fs::read_dir(project().join("deploy/kubernetes")).unwrap().count();
    let kustomization = document(&read("deploy/kubernetes/kustomization.yaml"));
    assert_eq!(each(&kustomization, "/resources").len() + 1, files, "a file is not listed");
}

#[actix_web::test]
async fn o5_the_options_are_accepted_and_a_pod_is_given_the_time_that_a_node_takes_to_stop() {
    let objects = objects();
    let mut options = options(&objects);
    options.keys().for_each(|name| assert!(is_option(name), "{name} is no option"));
    let pod = pod(&objects);
    for variable in each(&pod, "/containers/0/env") {
        assert!(is_option(text(variable, "/name")), "{variable}");
    }
    // What the secret is to hold is said by the command that makes it.
    let command = read("deploy/kubernetes/kustomization.yaml");
    let told: BTreeSet<&str> = command
        .split("--from-literal=")
        .skip(1)
        .filter_map(|rest| rest.split('=').next())
        .collect();
    assert_eq!(told, secrets().keys().map(String::as_str).collect());
    options.extend(secrets());
    let config = accepted(&options);
    let grace = at(&pod, "/terminationGracePeriodSeconds").as_u64().unwrap();
    is_enough("terminationGracePeriodSeconds", grace, stop_limit(&options).await);
    // Kubernetes hears within a period that a pod is not ready; all proxies know a few seconds later.
    let period = at(&pod, "/containers/0/readinessProbe/periodSeconds").as_u64().unwrap();
    assert!(config.ops.drain_delay >= Duration::from_secs(period + 5));
    assert!(pod.pointer("/containers/0/lifecycle").is_none(), "the node itself waits");
}

#[tokio::test(flavor = "multi_thread")]
async fn o5_probes_ask_what_a_node_answers_on_the_port_where_it_does() {
    let pod = pod(&objects());
    let mut node = NodeSpec::new("probed").start();
    node.ready(Duration::from_secs(30)).await;
    let bases = BTreeMap::from([("http", node.public_url()), ("admin", node.admin_url())]);
    let client = Client::new();
    for (probe, path, port) in [
        ("startupProbe", "/health/startup", "admin"), // the public port is closed until the node can serve
        ("livenessProbe", "/health/live", "admin"),
        ("readinessProbe", "/health/ready", "http"), // the port that users reach
    ] {
        let asks = at(&pod, &format!("/containers/0/{probe}/httpGet")).clone();
        assert_eq!(asks, json!({"path": path, "port": port}), "{probe}");
        client.get(bases[port], path).await.unwrap().expect(200);
    }
}

#[test]
fn o5_a_pod_may_do_nothing_that_a_node_does_not_need() {
    let pod = pod(&objects());
    assert_eq!(pod["enableServiceLinks"], false);
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(at(&pod, "/securityContext/runAsNonRoot"), true);
    let user = at(&pod, "/securityContext/runAsUser").as_u64().unwrap();
    assert!(read("deploy/Dockerfile").contains(&format!("USER {user}:{user}")));
    let container = at(&pod, "/containers/0/securityContext");
    let expected = json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
    });
    assert_eq!(*container, expected);
    // The one folder that a node writes to is there.
    let data = options(&objects())["UNDERSTUDY_DATA_DIR"].clone();
    let mounts = each(&pod, "/containers/0/volumeMounts");
    assert!(mounts.iter().any(|mount| mount["mountPath"] == data), "{data} is not mounted");
}

#[test]
fn o5_ports_and_labels_agree_everywhere() {
    let objects = objects();
    let deployment = &objects["Deployment understudy"];
    let labels = at(deployment, "/spec/template/metadata/labels");
    let pod = pod(&objects);
    let ports: BTreeMap<&str, u64> = each(&pod, "/containers/0/ports")
        .into_iter()
        .map(|port| (text(port, "/name"), port["containerPort"].as_u64().unwrap()))
        .collect();
    let number = |name: &str| default_of(name).rsplit(':').next().unwrap().parse::<u64>().unwrap();
    let expected = BTreeMap::from([
        ("admin", number("UNDERSTUDY_ADMIN_BIND")),
        ("http", number("UNDERSTUDY_HTTP_BIND")),
    ]);
    assert_eq!(ports, expected);
    assert_eq!(at(deployment, "/spec/selector/matchLabels"), labels);
    for name in ["Service understudy", "Service understudy-admin"] {
        assert_eq!(at(&objects[name], "/spec/selector"), labels, "{name}");
        let target = text(&objects[name], "/spec/ports/0/targetPort");
        assert!(ports.contains_key(target), "{name} leads to {target}");
    }
    assert_eq!(
        at(&objects["PodDisruptionBudget understudy"], "/spec/selector/matchLabels"),
        labels
    );
    let policy = &objects["NetworkPolicy understudy"];
    assert_eq!(at(policy, "/spec/podSelector/matchLabels"), labels);
    let let_in: BTreeSet<u64> = each(policy, "/spec/ingress")
        .into_iter()
        .map(|rule| at(rule, "/ports/0/port").as_u64().unwrap())
        .collect();
    assert_eq!(let_in, ports.values().copied().collect());
    let let_out: BTreeSet<u64> = each(policy, "/spec/egress")
        .into_iter()
        .flat_map(|rule| each(rule, "/ports"))
        .map(|port| port["port"].as_u64().unwrap())
        .collect();
    assert_eq!(
        let_out,
        BTreeSet::from([53, 5432, 6379, 26379]),
        "DNS, PostgreSQL, Redis, Sentinels"
    );
}

#[test]
fn o5_an_update_and_the_emptying_of_a_machine_leave_enough_nodes() {
    let objects = objects();
    let deployment = &objects["Deployment understudy"];
    assert!(at(deployment, "/spec/replicas").as_u64().unwrap() >= 3);
    let rolling = json!({"maxSurge": 1, "maxUnavailable": 0});
    assert_eq!(*at(deployment, "/spec/strategy/rollingUpdate"), rolling);
    assert_eq!(at(&objects["PodDisruptionBudget understudy"], "/spec/maxUnavailable"), 1);
}
